# What the encoder and the decoder of integer streams share.
from libc.stdint cimport int32_t, int64_t

cdef enum:
    CONSTANT = 0
    FRAME = 1        # distance from the least value, unsigned
    CENTRED = 2      # distance from a middle value
    DELTA = 3
    DOD = 4          # delta of delta
    LINEAR = 5       # distance from a straight line over the row number
    GROUP_DELTA = 6  # delta against the previous row of the same group
    GROUP_DOD = 7
    KINDS = 8
    SCALED = 0x40


cdef inline int check_groups(const int32_t[::1] groups, int64_t n, int64_t n_groups) except -1:
    cdef int64_t i
    cdef int32_t low = 0, high = -1
    if groups.shape[0] != n:
        raise ValueError(f"expected {n} group numbers, found {groups.shape[0]}")
    for i in range(n):
        low = min(low, groups[i])
        high = max(high, groups[i])
    if low < 0 or high >= n_groups:
        raise ValueError(f"expected group numbers from 0 to {n_groups - 1}")
    return 0
