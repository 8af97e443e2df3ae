# Bits, varints and zigzag, inlined into the kernels that cimport them.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from *:
    int __builtin_clzll(unsigned long long) noexcept nogil


cdef struct BitWriter:
    uint8_t* out
    int64_t at
    uint64_t held  # bits not yet written, fewer than 32 between calls
    int count


cdef inline int bit_length(uint64_t u) noexcept nogil:
    """Return the index of the highest set bit plus one; 0 for 0."""
    return 64 - __builtin_clzll(u) if u else 0


cdef inline void put_bits_32(BitWriter* w, uint64_t value, int width) noexcept nogil:
    w.held |= value << w.count
    w.count += width
    if w.count >= 32:
        w.out[w.at] = <uint8_t>w.held
        w.out[w.at + 1] = <uint8_t>(w.held >> 8)
        w.out[w.at + 2] = <uint8_t>(w.held >> 16)
        w.out[w.at + 3] = <uint8_t>(w.held >> 24)
        w.at += 4
        w.held >>= 32
        w.count -= 32


cdef inline void put_bits(BitWriter* w, uint64_t value, int width) noexcept nogil:
    if width > 32:
        put_bits_32(w, <uint32_t>value, 32)
        value >>= 32
        width -= 32
    put_bits_32(w, value, width)


cdef inline int64_t end_bits(BitWriter* w) noexcept nogil:
    while w.count > 0:
        w.out[w.at] = <uint8_t>w.held
        w.at += 1
        w.held >>= 8
        w.count -= 8
    return w.at


cdef inline uint64_t get_bits(const uint8_t* data, int64_t size, int64_t bit, int width) noexcept nogil:
    """Read `width` bits at bit position `bit`. The caller has checked that they lie within `size` bytes."""
    cdef int64_t at = bit >> 3
    cdef int shift = bit & 7, i
    cdef uint64_t word = 0
    if width == 0:
        return 0
    for i in range(8 if size - at >= 8 else <int>(size - at)):
        word |= <uint64_t>data[at + i] << (8 * i)
    word >>= shift
    if shift + width > 64:
        word |= <uint64_t>data[at + 8] << (64 - shift)
    return word if width == 64 else word & ((<uint64_t>1 << width) - 1)


cdef inline int64_t put_varint(uint8_t* out, int64_t at, uint64_t value) noexcept nogil:
    while value >= 0x80:
        out[at] = <uint8_t>(value | 0x80)
        value >>= 7
        at += 1
    out[at] = <uint8_t>value
    return at + 1


cdef inline int64_t get_varint(const uint8_t* data, int64_t at, int64_t size, uint64_t* value) noexcept nogil:
    """LEB128. Return the position after it, -1 where the bytes end first or it exceeds 64 bits."""
    cdef int shift = 0
    cdef uint8_t byte
    value[0] = 0
    while at < size:
        byte = data[at]
        at += 1
        if shift == 63 and byte > 1:
            return -1
        value[0] |= <uint64_t>(byte & 0x7F) << shift
        if byte < 0x80:
            return at
        shift += 7
    return -1


cdef inline uint64_t zigzag(uint64_t d) noexcept nogil:
    return (d << 1) ^ (0 - (d >> 63))


cdef inline uint64_t unzigzag(uint64_t u) noexcept nogil:
    return (u >> 1) ^ (0 - (u & 1))


cdef inline uint64_t magnitude(uint64_t d) noexcept nogil:
    return 0 - d if d >> 63 else d
