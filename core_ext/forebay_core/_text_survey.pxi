# What kind of symbol stands where, sixteen at a time, and the walk from one place where a rule begins to the next.
# Included by _text.pyx.

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    /* of GCC and Clang, on every processor: comparisons give 0xFF where they hold */
    typedef uint8_t fb_v16 __attribute__((vector_size(16)));

    static inline int fb_survey(const uint8_t *text, ptrdiff_t n, uint8_t *kinds) {
        fb_v16 b, k, seen = {0};
        uint8_t all = 0;
        for (ptrdiff_t i = 0; i < n; i += 16) {
            memcpy(&b, text + i, 16);
            k = (fb_v16)(b - 48 < 10) & 3;
            k |= (fb_v16)((b | 32) - 97 < 26) & 1;
            k |= (fb_v16)((b == 58) | (b - 0x81 < 2)) & 4;
            k |= (fb_v16)(b == 64) & 8;
            k |= (fb_v16)((b == 92) | (b == 37)) & 16;
            k |= b & 128;
            seen |= k;
            memcpy(kinds + i, &k, 16);
        }
        for (int i = 0; i < 16; i++)
            all |= seen[i];
        return all;
    }
    """
    # The kind of each of `n` bytes rounded up to sixteens; returns all kinds that were seen
    int survey "fb_survey"(const uint8_t *text, Py_ssize_t n, uint8_t *kinds) noexcept nogil
    int __builtin_ctzll(unsigned long long) noexcept nogil

cdef enum:
    # bits of `Cell.kinds`, and of what a survey has seen
    IN_RUN = 1  # a letter or digit
    IS_DIGIT = 2
    IS_SIGN = 4  # a rule begins here: : PROVINCE PLATE_END
    IS_AT = 8
    IS_ESCAPE = 16  # \ %
    IS_HIGH = 128  # no ASCII

cdef uint64_t EACH = 0x0101010101010101


cdef inline bint has_high(const uint8_t *raw, Py_ssize_t n, bint persons) noexcept nogil:
    # Full-width forms, and where persons are looked for ideographs? Vectorised by the compiler.
    cdef Py_ssize_t i
    cdef uint8_t byte, people_from = 0xE3 if persons else 0xFF, found = 0
    for i in range(n):
        byte = raw[i]
        found |= (byte == 0xEF) | ((byte >= people_from) & (byte < 0xEA))
    return found


cdef inline uint64_t kinds_at(const Cell *c, int j) noexcept nogil:
    # of 8 symbols, the first in the lowest byte; behind the last symbol stand PAD zeros
    cdef uint64_t word
    memcpy(&word, c.kinds + j, 8)
    return word


cdef inline int run_end(const Cell *c, int b, int *digits) noexcept nogil:
    # End of the run of letters and digits that begins at b, and how many digits it holds.
    cdef int e = b, n
    cdef uint64_t word, gap
    digits[0] = 0
    while True:
        word = kinds_at(c, e)
        gap = ~word & EACH * IN_RUN
        n = __builtin_ctzll(gap) >> 3 if gap else 8
        if n < 8:
            word &= (<uint64_t> 1 << (8 * n)) - 1
        digits[0] += <int> ((((word >> 1) & EACH) * EACH) >> 56)
        e += n
        if n < 8:
            return e


cdef inline bint idle(const Cell *c, int b, int e, int digits) noexcept nogil:
    # Nothing begins at the run [b, e), seen by its length and what stands behind it: the common short words.
    cdef int n = e - b
    cdef uint8_t after = c.s[e]
    if n > 5 and digits and (digits < n or n < 9 or n > 10):
        return False
    if after == 45 or after == 46:
        return not c.kinds[e + 1] & IN_RUN
    if n == 2 and c.s[b] | 0x20 == 119:  # WJ
        return False
    return after != 41 and not (after == 32 and c.kinds[e + 1] & IS_DIGIT)


cdef inline void scan_cell(Cell *c, Hits *out) noexcept nogil:
    cdef const uint8_t *s = c.s
    cdef int j = PAD, e, colons_until = 0, digits
    cdef uint64_t word
    cdef uint8_t symbol
    out.row_from = out.n
    while j < c.end:
        word = kinds_at(c, j) & EACH * (IN_RUN | IS_SIGN | IS_AT)
        if word == 0:
            j += 8
            continue
        j += __builtin_ctzll(word) >> 3
        symbol = s[j]
        if c.kinds[j] & IN_RUN:
            e = run_end(c, j, &digits)
            j = e if idle(c, j, e, digits) else alnum_run(c, out, j, e, digits)
        elif symbol == 64:
            j = email(c, out, j)
        elif symbol == 58:
            if j >= colons_until:
                j = colon_run(c, out, j, &colons_until)
            else:
                j += 1
        elif symbol == PROVINCE:
            j = plate(c, out, j)
        else:
            j = embassy(c, out, j)
