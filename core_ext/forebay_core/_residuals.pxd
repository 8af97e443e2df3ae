from libc.stdint cimport int64_t, uint8_t, uint64_t

# Bytes that put_residuals may write for n residuals, and the scratch that it needs beside.
cdef int64_t residuals_bound(int64_t n) noexcept nogil
cdef int64_t scratch_bound(int64_t n) noexcept nogil

# Estimated size in bits of the cheapest coding of `total` residuals of which u holds a sample of n.
cdef int64_t residuals_cost(const uint64_t* u, int64_t n, int64_t total, bint entropy) noexcept nogil

# Write the residuals at out[at:], set *coder, return the position after them.
cdef int64_t put_residuals(
    const uint64_t* u, int64_t n, bint entropy, uint8_t* out, int64_t at, uint8_t* scratch, int* coder
) noexcept nogil

# Read n residuals, return the position after them or -1.
cdef int64_t get_residuals(
    const uint8_t* data, int64_t at, int64_t size, int coder, uint64_t* u, int64_t n
) noexcept nogil
