# What kind of symbol stands where, sixteen at a time, and the walk from one place where a rule begins to the
# next. Included by _text.pyx.

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    /* of GCC and Clang, on every processor: comparisons give 0xFF where they hold */
    typedef uint8_t fb_v16 __attribute__((vector_size(16)));
    #define FB_ALL(x) ((fb_v16){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x})

    static inline int fb_survey(const uint8_t *text, ptrdiff_t n, uint8_t *kinds) {
        fb_v16 b, k, seen = {0};
        uint8_t all = 0;
        for (ptrdiff_t i = 0; i < n; i += 16) {
            memcpy(&b, text + i, 16);
            k = (fb_v16)(b - FB_ALL(48) < FB_ALL(10)) & FB_ALL(3);
            k |= (fb_v16)((b | FB_ALL(32)) - FB_ALL(97) < FB_ALL(26)) & FB_ALL(1);
            k |= (fb_v16)((b == FB_ALL(58)) | (b - FB_ALL(0x81) < FB_ALL(12))) & FB_ALL(4);
            k |= (fb_v16)(b == FB_ALL(64)) & FB_ALL(8);
            k |= (fb_v16)((b == FB_ALL(92)) | (b == FB_ALL(37))) & FB_ALL(16);
            k |= (fb_v16)(b == FB_ALL(10)) & FB_ALL(32);
            k |= b & FB_ALL(128);
            seen |= k;
            memcpy(kinds + i, &k, 16);
        }
        for (int i = 0; i < 16; i++)
            all |= seen[i];
        return all;
    }
    #define FB_EACH UINT64_C(0x0101010101010101)
    """
    # The kind of each of `n` bytes rounded up to sixteens; returns all kinds that were seen
    const uint64_t EACH "FB_EACH"
    int survey "fb_survey"(const uint8_t *text, Py_ssize_t n, uint8_t *kinds) noexcept nogil
    int __builtin_ctzll(unsigned long long) noexcept nogil
    int __builtin_clzll(unsigned long long) noexcept nogil

cdef enum:
    # bits of `Cell.kinds`, and of what a survey has seen
    IN_RUN = 1  # a letter or digit
    IS_DIGIT = 2
    IS_SIGN = 4  # a rule begins here: : PROVINCE PLATE_END SPOKEN
    IS_AT = 8
    IS_ESCAPE = 16  # \ %
    IS_BREAK = 32  # a line ends
    IS_HIGH = 128  # no ASCII


cdef inline bint has_high(const uint8_t *raw, Py_ssize_t n) noexcept nogil:
    # Ideographs, full-width forms, digits of other scripts (Arabic comes first)? Vectorised by the compiler.
    cdef Py_ssize_t i
    cdef uint8_t found = 0
    for i in range(n):
        found |= raw[i] >= 0xD9
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


cdef inline int next_of(const Cell *c, int j, uint8_t which) noexcept nogil:
    # The first symbol from j on that is of one of these kinds, or an index behind the last one.
    cdef uint64_t word
    while j < c.end:
        word = kinds_at(c, j) & EACH * which
        if word:
            return j + (__builtin_ctzll(word) >> 3)
        j += 8
    return j


cdef inline int run_start(const Cell *c, int d, int j) noexcept nogil:
    # Where the run of letters and digits that holds or ends before d begins, not before j.
    cdef int b = d
    cdef uint64_t gap
    while b > j:
        gap = ~kinds_at(c, b - 8) & EACH * IN_RUN
        if gap:
            b -= __builtin_clzll(gap) >> 3
            break
        b -= 8
    return b if b > j else j


cdef inline int reach_back(const Cell *c, int b, int j) noexcept nogil:
    # A rule that needs a digit or sign may begin before the one at b, though not before j: with groups of
    # letters of a MAC address (five at most) or the letters of the armed police.
    cdef const uint8_t *s = c.s
    cdef int n
    if s[b - 1] == 45 or s[b - 1] == 46:
        for n in range(5):
            if b - 2 < j or not (s[b - 1] == 45 or s[b - 1] == 46) or not c.kinds[b - 2] & IN_RUN:
                break
            b = run_start(c, b - 1, j)
        return b
    n = b - 1 if s[b - 1] == 32 or s[b - 1] == MIDDLE_DOT else b
    if n - 2 >= j and s[n - 1] | 0x20 == 106 and s[n - 2] | 0x20 == 119:
        return run_start(c, n, j)
    return b


cdef inline bint is_pair(const Cell *c, int j) noexcept nogil:
    return c.kinds[j] & c.kinds[j + 1] & IS_DIGIT


cdef inline bint begins_date(const Cell *c, int e) noexcept nogil:
    # Does a year that ends at e go on as YYYY-MM-DD and a time of day behind T or a space, or a sign? Then
    # nothing begins at the year or the month: eight or ten digits are no number of anybody.
    cdef const uint8_t *s = c.s
    if not (s[e] == 45 and is_pair(c, e + 1) and s[e + 3] == 45 and is_pair(c, e + 4)):
        return False
    if s[e + 6] == 32:
        return is_pair(c, e + 7) and s[e + 9] == 58
    return not (c.kinds[e + 6] & IS_DIGIT or s[e + 6] == 45 or s[e + 6] == 46)


cdef inline bint idle(const Cell *c, int b, int e, int digits) noexcept nogil:
    # Nothing begins at the run [b, e), seen by its length and what stands behind it: the common short words.
    cdef int n = e - b
    cdef uint8_t after = c.s[e]
    if n > 5 and digits and (digits < n or n < 9 or n > 10):
        return False
    if n == 2 and c.s[b] | 0x20 == 119:  # WJ
        return False
    if not GOES_ON[after]:
        return True
    if after == 32:
        return not (c.kinds[e + 1] & IS_DIGIT or c.s[e + 1] == 45)
    if after == 45 or after == 46:
        return not c.kinds[e + 1] & IN_RUN
    if is_slash(after):  # a mobile number with such signs
        return n != 3 or c.s[b] != 49
    return False


cdef inline void scan_cell(Cell *c, Hits *out) noexcept nogil:
    cdef const uint8_t *s = c.s
    cdef int j = PAD, b, e, colons_until = 0, digits
    out.row_from = out.n
    while True:
        b = next_of(c, j, IS_DIGIT | IS_SIGN | IS_AT)
        if b >= c.end:
            return
        if c.kinds[b] & IS_DIGIT:
            b = run_start(c, b, j)
        elif s[b] >= SPOKEN:
            j = spoken(c, out, b) if s[b + 1] >= SPOKEN else b + 1  # in most words one stands alone
            continue
        if b > j:
            b = reach_back(c, b, j)
        if c.kinds[b] & IN_RUN:
            e = run_end(c, b, &digits)
            if e - b == 4 and digits == 4 and begins_date(c, e):
                j = e + 3
            elif idle(c, b, e, digits):
                j = e
            else:
                j = alnum_run(c, out, b, e, digits)
        elif s[b] == 64:
            j = email(c, out, b)
        elif s[b] == 58:
            j = colon_run(c, out, b, &colons_until) if b >= colons_until else b + 1
        elif s[b] == PROVINCE:
            j = plate(c, out, b)
        else:
            j = embassy(c, out, b)
