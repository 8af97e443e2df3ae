# What may stand around a number. Included by _text.pyx.

cdef enum:
    MAX_GAP = 40  # symbols: a line end and what the next line is indented by

cdef inline bint is_slash(uint8_t c) noexcept nogil:
    return c == 47 or c == 95 or c == 43  # / _ and the space of a form in a URL


cdef inline bint is_separator(uint8_t c) noexcept nogil:
    return c == 32 or c == 45 or c == 46 or c == MIDDLE_DOT  # space - .


cdef inline bint after_label(const uint8_t *s, int d) noexcept nogil:
    # Do the letters just before d form a known word, whole?
    cdef int i = d - 1, k
    cdef uint64_t packed = 0
    while is_letter(s[i]) and d - i <= 8:
        packed |= (<uint64_t> (s[i] | 0x20)) << (8 * (d - 1 - i))
        i -= 1
    # a short one behind a digit is part of a name: `a0id138...`
    if is_letter(s[i]) or (is_digit(s[i]) and d - i <= 3):
        return 0
    for k in range(N_LABELS):
        if LABEL[k] == packed:
            return 1
    return 0


cdef inline bint in_fraction(const uint8_t *s, int d) noexcept nogil:
    return s[d - 1] == 46 and is_digit(s[d - 2])


cdef inline bint left_open(const uint8_t *s, int d) noexcept nogil:
    # May a number begin at d: not inside a name, not the fraction of a decimal?
    if is_letter(s[d - 1]):
        return after_label(s, d)
    return not in_fraction(s, d)


cdef inline bint right_open(const uint8_t *s, int f) noexcept nogil:
    # May a number end at f? `13812345678.0`, a number that went through a float column, may.
    cdef int i = f + 1
    if is_letter(s[f]):
        return 0
    if s[f] == 46 and is_digit(s[i]):
        while s[i] == 48:
            i += 1
        return not is_alnum(s[i])
    return 1


cdef inline bint is_other_number(uint8_t c) noexcept nogil:
    # What stands on the far side of a neighbouring number tells that it is a date, a time, a decimal or the
    # end of a name, so no group of this one: - : / . or a letter. So does a length of 5 digits or more.
    return c == 45 or c == 58 or c == 47 or c == 46 or is_letter(c)


cdef inline bint joined_left(const uint8_t *s, int d, uint8_t separator) noexcept nogil:
    # May groups joined by `separator` begin at d, or do they go on to the left?
    cdef int i = d - 1, length
    if not left_open(s, d):
        return 0
    if s[i] != separator or not is_digit(s[i - 1]):
        return 1
    i -= 1
    length = i
    while is_digit(s[i]):
        i -= 1
    length -= i
    if s[i + length] == 54 and s[i + length - 1] == 56 and (
            length == 2 or (length == 4 and s[i + 1] == 48 and s[i + 2] == 48)):
        return 1  # 86, 0086
    if separator != 32:
        return 0
    return length >= 5 or is_other_number(s[i])


cdef inline bint joined_right(const uint8_t *s, int f, uint8_t separator) noexcept nogil:
    cdef int i = f + 1, length
    if not right_open(s, f):
        return 0
    if s[f] != separator or not is_digit(s[i]):
        return 1
    if separator != 32:
        return 0
    while is_digit(s[i]):
        i += 1
    length = i - f - 1
    return (length >= 5 or (is_other_number(s[i]) and s[i] != 46) or (s[i] == 46 and is_digit(s[i + 1]))
            or (length == 3 and s[f + 1] == 49 and s[i] == 32))


cdef inline int gap_end(const uint8_t *s, int i) noexcept nogil:
    # Index after one line end at i and the blanks behind it; 0 where two line ends part paragraphs.
    cdef int e = i, lines = 0
    while e - i < MAX_GAP and (s[e] == 10 or s[e] == 13 or s[e] == 32 or s[e] == 9 or s[e] == 92):
        lines += s[e] == 10
        e += 1
    return e if lines == 1 else 0


cdef int spoken(Cell *c, Hits *out, int b) noexcept nogil:
    # A run of digits written as words that begins at b: `一三八...`. Returns the index behind it.
    cdef uint8_t digits[18]
    cdef int e = b, k, n
    while SPOKEN <= c.s[e] < SPOKEN + 10:
        e += 1
    n = e - b
    if (n != 11 and n != 17 and n != 18) or is_digit(c.s[b - 1]) or is_digit(c.s[e]):
        return e
    for k in range(n):
        digits[k] = c.s[b + k] - SPOKEN + 48
    if n == 11:
        if is_mobile(digits) and (is_assigned(digits) or near(c, b, NEAR_PHONE)):
            emit(c, out, b, e, MOBILE, 85)
        return e
    if n == 17:
        if c.s[e] | 0x20 != 120 or is_alnum(c.s[e + 1]):
            return e
        digits[17] = 88
        e += 1
    if is_resident18(digits):
        emit(c, out, b, e, RESIDENT_ID, 97)
    return e
