# What a line end cuts in two. Included by _text.pyx.
#
# A cell with line ends is scanned once more without those that may stand inside an identifier. Of what is
# found only hits over such a place count: for numbers that nothing but their length proves, not two numbers
# that stand alone on their lines (a column), nor one that goes on as a date or a time.

cdef inline bint joins(uint8_t symbol) noexcept nogil:
    # May an identifier go on beside a line end behind or before this symbol?
    return (is_alnum(symbol) or symbol == 45 or symbol == 46 or symbol == 64 or symbol == 58 or symbol == 95
            or symbol == MIDDLE_DOT or symbol == PROVINCE)


cdef inline bint parts_groups(const uint8_t *left, int k, const uint8_t *right, int e) noexcept nogil:
    # Does a line end between digits stand where a number in groups has its space (`6217 0033` / `6001 234`)?
    cdef int n = 0, m = 0
    while n < 7 and is_digit(left[k - 1 - n]):
        n += 1
    while m < 9 and is_digit(right[e + m]):
        m += 1
    if n < 3 or m < 3 or n == 5 or n == 7 or (n + m == 11 and left[k - n] == 49):  # a mobile in two parts
        return False
    return ((left[k - 1 - n] == 32 and is_digit(left[k - 2 - n]))
            or (right[e + m] == 32 and is_digit(right[e + m + 1])))


cdef inline bint is_blank(uint8_t symbol) noexcept nogil:
    return symbol == 32 or symbol == 9 or symbol == 13 or symbol == 92  # a line end that was escaped twice


cdef inline bint digit_near(const uint8_t *s, int j, int step) noexcept nogil:
    # Is one of four symbols from j on a digit, with nothing between that an identifier cannot hold?
    cdef int k
    for k in range(4):
        if is_digit(s[j]):
            return True
        if not joins(s[j]):
            return False
        j += step
    return False


cdef inline int gap_at(const Cell *c, int i, int *behind) noexcept nogil:
    # Index after the line end at i and its blanks, if an identifier may go over it: one of its neighbours is
    # a digit, or it may be an e-mail address. `behind` is the index after the last symbol before.
    cdef int b = i, e = gap_end(c.s, i)
    while b > PAD and is_blank(c.s[b - 1]):
        b -= 1
    behind[0] = b
    if e == 0 or b == PAD or not joins(c.s[b - 1]) or not joins(c.s[e]):
        return 0
    return e if c.at or digit_near(c.s, b - 1, -1) or digit_near(c.s, e, 1) else 0


cdef inline bint has_gap(const Cell *c) noexcept nogil:
    cdef int i = PAD, behind = 0
    while True:
        i = next_of(c, i, IS_BREAK)
        if i >= c.end:
            return False
        if gap_at(c, i, &behind):
            return True
        i += 1


cdef int without_breaks(const Cell *c, Buffers *to) noexcept nogil:
    # Copy a cell's symbols without such line ends. Returns the index behind the last symbol.
    cdef int i = PAD, k = PAD, e, behind = 0
    while i < c.end:
        if c.s[i] == 10 or c.s[i] == 13:
            e = gap_at(c, i, &behind)
            if e:
                k -= i - behind
                if parts_groups(to.symbols, k, c.s, e):
                    to.symbols[k], to.points[k], to.pos[k] = 32, 32, byte_of(c, i)
                    k += 1
                i = e
                continue
        to.symbols[k], to.pos[k] = c.s[i], byte_of(c, i)
        to.points[k] = c.s[i] if c.plain else c.cp[i]
        k += 1
        i += 1
    memset(to.symbols + k, 0, REST)
    memset(to.points, 0, PAD * sizeof(uint16_t))
    memset(to.points + k, 0, PAD * sizeof(uint16_t))
    to.pos[k] = byte_of(c, c.end)
    return k


cdef inline int symbol_at(const Cell *c, int64_t place) noexcept nogil:
    # Index of the symbol that begins at a byte.
    cdef int low = PAD, high = c.end, middle
    while low < high:
        middle = (low + high) // 2
        if c.pos[middle] < place:
            low = middle + 1
        else:
            high = middle
    return low


cdef inline int gap_within(const Cell *c, int b, int e) noexcept nogil:
    # Index of the symbol behind the first line end that was left out between two symbols, 0 if there is none.
    cdef int k, i
    for k in range(b + 1, e):
        for i in range(c.pos[k - 1], c.pos[k]):
            if c.raw[i] == 10 or (c.raw[i] == 92 and c.raw[i + 1] == 110):
                return k
    return 0


cdef inline bint stands_bare(const uint8_t *s, int b, int e) noexcept nogil:
    # Is there nothing else before b on its line, nor behind e?
    while s[b - 1] == 32 or s[b - 1] == 9:
        b -= 1
    while s[e] == 32 or s[e] == 9:
        e += 1
    return (s[b - 1] == 0 or s[b - 1] == 10 or s[b - 1] == 13) and (s[e] == 0 or s[e] == 10 or s[e] == 13)


cdef inline bint is_dated(const Cell *c, int b, int e) noexcept nogil:
    # Does what stands beside the number tell that a line begins or ends with a date, a time or a year?
    cdef const uint8_t *s = c.s
    if (s[e] == 45 or s[e] == 47 or s[e] == 58) and is_digit(s[e + 1]):
        return True
    return c.cp[e] == 0x5E74 or ((s[b - 1] == 45 or s[b - 1] == 47 or s[b - 1] == 58) and is_digit(s[b - 2]))


cdef bint holds_over(Cell *c, int code, int confidence, int b, int e, int gap) noexcept nogil:
    # Is a hit over a line end believed?
    cdef uint8_t before = c.s[gap - 1], after = c.s[gap]
    if code == RESIDENT_ID or code == IMEI:
        return confidence > 70
    if code == USCC or code == VIN or code == EMAIL or code == PLATE:
        return True
    if code == PASSPORT:
        return within(c, b, NEAR_PERMIT, CONTEXT_BYTES)
    if code == BANK_CARD:
        return not stands_bare(c.s, b, e) or within(c, b, NEAR_CARD, CONTEXT_BYTES)
    if code == MOBILE or code == LANDLINE:
        if is_dated(c, b, e):
            return False
        if c.s[b - 1] == 61 or stands_bare(c.s, b, e):  # a column, or what a log counts
            return within(c, b, NEAR_PHONE, LABEL_BYTES)
        return True
    if code == GPS:
        return False
    # IP and MAC addresses: broken beside one of their signs
    return before == 46 or before == 58 or before == 45 or after == 46 or after == 58 or after == 45


cdef void scan_broken(Cell *c, Buffers *whole, Hits *out, Hits *over) noexcept nogil:
    cdef Cell j
    cdef int b, e, gap
    cdef Py_ssize_t i, kept = 0
    over.n = 0
    if not has_gap(c):
        return
    if whole.symbols == NULL and not make_buffers(whole, whole.room):
        out.failed = 1
        return
    j = c[0]
    j.end = without_breaks(c, whole)
    j.s, j.kinds, j.pos, j.cp, j.plain = whole.symbols, whole.kinds, whole.pos, whole.points, False
    survey(whole.symbols + PAD, j.end, whole.kinds + PAD)
    over.classes = out.classes
    scan_cell(&j, over)
    for i in range(over.n):
        b, e = symbol_at(&j, over.spans[3 * i + 1]), symbol_at(&j, over.spans[3 * i + 2])
        gap = gap_within(&j, b, e)
        if gap == 0 or not holds_over(&j, over.codes[i], over.confidence[i], b, e, gap):
            continue
        if not gives_way(out, over, i):
            continue
        copy_hit(over, kept, over, i)
        if over.codes[kept] != RESIDENT_ID and over.codes[kept] != USCC and over.confidence[kept] > 75:
            over.confidence[kept] = 75
        kept += 1
    over.n = 0
    if kept:
        without_given_up(out)
        insert_hits(out, over, kept)


cdef bint gives_way(Hits *out, Hits *over, Py_ssize_t i) noexcept nogil:
    # What was found on one line stays, but for a weak part of the same (`0752-` / `2861234`) and for parts of
    # what has a check digit. These lose their codes.
    cdef int64_t start = over.spans[3 * i + 1], end = over.spans[3 * i + 2]
    cdef Py_ssize_t low = out.row_from, high = out.n, middle, k
    cdef uint8_t code = over.codes[i]
    cdef bint checked = over.confidence[i] >= 85 and (
        code == RESIDENT_ID or code == BANK_CARD or code == USCC or code == VIN)
    while low < high:
        middle = (low + high) // 2
        if out.spans[3 * middle + 2] <= start:
            low = middle + 1
        else:
            high = middle
    for k in range(low, out.n):
        if out.spans[3 * k + 1] >= end:
            break
        if out.spans[3 * k + 1] < start or out.spans[3 * k + 2] > end:
            return False
        if not checked and (out.codes[k] != code or out.confidence[k] > 65):
            return False
    for k in range(low, out.n):
        if out.spans[3 * k + 1] >= end:
            break
        out.codes[k] = 0
    return True


cdef void without_given_up(Hits *out) noexcept nogil:
    cdef Py_ssize_t k, kept = out.row_from
    for k in range(out.row_from, out.n):
        if out.codes[k]:
            if kept < k:
                copy_hit(out, kept, out, k)
            kept += 1
    out.n = kept
