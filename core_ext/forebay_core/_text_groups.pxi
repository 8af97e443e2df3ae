# Numbers written in groups, and landlines. Included by _text.pyx before _text_rules.pxi.

cdef inline int area_length(const uint8_t *t) noexcept nogil:
    # Length of the area code with its 0: 010 and 02x have 3, the others 4 digits; 0 if there is none.
    if t[0] != 48:
        return 0
    if t[1] == 49:
        return 3 if t[2] == 48 else 0
    if t[1] == 50:
        return 3 if t[2] != 54 else 0
    return 4 if t[1] >= 51 else 0


cdef inline bint is_local(uint8_t first, int area, int n) noexcept nogil:
    # n digits after an area code: 8, or 7 where the code has 4
    return first >= 49 and (n == 8 or (n == 7 and area == 4))


cdef inline bint is_landline(const uint8_t *t, int n) noexcept nogil:
    cdef int area = area_length(t)
    # 2 to 8 is what exchanges assign; only a number written with its hyphen is believed with another
    return area and 50 <= t[area] <= 56 and is_local(t[area], area, n - area)


cdef struct Groups:
    uint8_t digits[24]
    int total[GROUPS]  # digits up to and with each group
    int end[GROUPS]  # index after each group
    uint8_t separator[GROUPS]  # after each group
    int n


cdef inline bint is_wide(const uint8_t *s, int i) noexcept nogil:
    # a hyphen between spaces, and a number behind
    return s[i] == 32 and s[i + 1] == 45 and s[i + 2] == 32 and is_digit(s[i + 3])


cdef inline int collect(const uint8_t *s, int d, Groups *g) noexcept nogil:
    # Digit groups from d on, joined by single separators or ` - `: at most GROUPS of them and 20 digits.
    cdef int i = d, n = 0, before
    g.n = 0
    while g.n < GROUPS:
        before = n
        while is_digit(s[i]) and n < 20:
            g.digits[n] = s[i]
            n += 1
            i += 1
        if n == 17 and (s[i] | 0x20) == 120:
            g.digits[17] = 88
            n = 18
            i += 1
        elif n == 17 and is_separator(s[i]) and (s[i + 1] | 0x20) == 120:  # in a group of its own
            g.digits[17] = 88
            n = 18
            i += 2
        if is_alnum(s[i]) or n == before:
            break
        g.total[g.n], g.end[g.n], g.separator[g.n] = n, i, s[i]
        g.n += 1
        if (is_separator(s[i]) or is_slash(s[i])) and is_digit(s[i + 1]):
            i += 1
        elif is_wide(s, i):
            g.separator[g.n - 1] = 45
            i += 3
        elif g.n == 1 and s[i] == 41 and s[d - 1] == 40:  # (0571) 87654321
            i += 1 + (s[i + 1] == 32 or s[i + 1] == 45)
        else:
            break
    return g.n


cdef inline int joined(Cell *c, Hits *out, int d) noexcept nogil:
    # Numbers written in groups. Returns the index after the hit, 0 if there is none.
    cdef Groups g
    cdef int k, last
    if collect(c.s, d, &g) < 2 or g.total[g.n - 1] < 11:
        return 0
    for k in range(1, g.n):
        if g.total[k] == 18 and g.separator[0] != 46 and is_resident18(g.digits) and not in_fraction(c.s, d):
            emit(c, out, d, g.end[k], RESIDENT_ID, 97)
            return g.end[k]
    if g.digits[0] == 48 or (g.digits[0] == 56 and c.s[d - 1] == 43):
        last = joined_landline(c, out, d, &g)
        if last:
            return last
    last = card_groups(&g)
    while last >= 1:
        if joined_left(c.s, d, g.separator[0]) and joined_right(c.s, g.end[last], g.separator[0]) and (
                is_card(g.digits, g.total[last]) == 1):
            emit(c, out, d, g.end[last], BANK_CARD, 88)
            return g.end[last]
        last = 3 if last == 4 else 0
    if g.total[0] == 3 and is_mobile(g.digits) and not is_slash(g.separator[0]):
        last = 2 if g.n > 2 and g.total[1] == 7 and g.total[2] == 11 else (1 if g.total[1] == 11 else 0)
        if last == 2 and g.separator[0] != g.separator[1]:
            last = 0
        if last and joined_left(c.s, d, g.separator[0]) and joined_right(
                c.s, g.end[last], g.separator[0]) and not (last == 1 and g.separator[0] == 46):
            emit(c, out, d, g.end[last], MOBILE, 85)
            return g.end[last]
    if g.n >= 4 and g.total[0] == 2 and g.total[1] == 8 and g.total[2] == 14 and g.total[3] == 15 and (
            is_luhn(g.digits, 15)):
        if near(c, d, NEAR_IMEI) or (
                IMEI_START[two(g.digits)] and joined_right(c.s, g.end[3], g.separator[0])):
            emit(c, out, d, g.end[3], IMEI, 95)
            return g.end[3]
    return spelled(c, out, d, &g)


cdef inline int spelled(Cell *c, Hits *out, int d, Groups *g) noexcept nogil:
    # A number in any other groups, or mistyped, behind its word. Returns the index after the hit, or 0.
    cdef const uint8_t *t = g.digits
    cdef int k, n, confidence
    for k in range(g.n - 1, 0, -1):
        n = g.total[k]
        confidence = 75
        if n == 18 and has_resident_form(t) and within(c, d, NEAR_RESIDENT, LABEL_BYTES):
            n, confidence = RESIDENT_ID, 70
        elif n == 11 and is_mobile(t) and is_assigned(t) and within(c, d, NEAR_PHONE, LABEL_BYTES):
            n = MOBILE
        elif n < 16 or n > 19 or (n >= 18 and t[17] == 88):
            continue
        elif is_card(t, n) == 1 and within(c, d, NEAR_CARD, LABEL_BYTES):
            n = BANK_CARD
        elif 51 <= t[0] <= 54 and within(c, d, NEAR_BANK, LABEL_BYTES):
            n, confidence = BANK_CARD, 65
        else:
            continue
        if not joined_left(c.s, d, g.separator[0]) or not joined_right(c.s, g.end[k], g.separator[k - 1]):
            return 0
        emit(c, out, d, g.end[k], n, confidence)
        return g.end[k]
    return 0


cdef inline int card_groups(Groups *g) noexcept nogil:
    # Index of the last group of a card written 4-4-4-4, 4-4-4-4-3 or 6-10..13; 0 if it is not.
    cdef int k
    if g.separator[0] == 46:
        return 0
    if g.total[0] == 6 and 16 <= g.total[1] <= 19:
        return 1
    if g.n < 4 or g.total[0] != 4 or g.total[1] != 8 or g.total[2] != 12 or g.total[3] != 16:
        return 0
    for k in range(1, 3):
        if g.separator[k] != g.separator[0]:
            return 0
    return 4 if g.n >= 5 and 17 <= g.total[4] <= 19 and g.separator[3] == g.separator[0] else 3


cdef inline int extension(const uint8_t *s, int end) noexcept nogil:
    # Index after one to six digits behind the word at `end`, else `end`.
    cdef int i = end + 1, f
    i += s[i] == 32
    f = i
    while is_digit(s[f]):
        f += 1
    return f if 1 <= f - i <= 6 and not is_alnum(s[f]) else end


cdef inline int joined_landline(Cell *c, Hits *out, int d, Groups *g) noexcept nogil:
    # 0571-87654321, 010 8888 8888, (0571)87654321, +86-10-12345678, each with an extension of 1-6 digits.
    cdef int area, first = 0, base, last, local, start = d, end, f
    cdef uint8_t code[4]
    if g.digits[0] == 56:  # +86: the area code follows without its 0
        if g.total[0] != 2 or g.digits[1] != 54 or g.n < 3:
            return 0
        first, base = 1, 2
        code[0], code[1], code[2] = 48, g.digits[2], g.digits[3]
        area = area_length(code)
        if area == 0 or g.total[1] != base + area - 1:
            return 0
        base = g.total[1]
        start = g.end[0] + 1
    else:
        area = area_length(g.digits)
        if area == 0 or g.total[0] != area:
            return 0
        base = area
    if g.separator[first] == 46:
        return 0
    last = first + 1
    local = g.total[last] - base
    if local < 7 and last + 1 < g.n and (local == 4 or local == 3) and (
            g.separator[last] != 46 and g.total[last + 1] - g.total[last] == 4):
        last += 1
        local = g.total[last] - base
    if not is_local(g.digits[base], area, local):
        return 0
    if g.separator[first] == 41:
        start = d - 1
    elif first == 0 and not joined_left(c.s, d, g.separator[0]):
        return 0
    end = g.end[last]
    if c.s[end] == 45 and is_digit(c.s[end + 1]):
        f = end + 1
        while is_digit(c.s[f]):
            f += 1
        if f - end > 7 or is_alnum(c.s[f]) or c.s[f] == 45:
            return 0
        end = f
    elif not c.plain and c.cp[end] == 0x8F6C:  # an extension behind 转
        end = extension(c.s, end)
    elif not joined_right(c.s, end, g.separator[first]):
        return 0
    emit(c, out, start, end, LANDLINE, 85)
    return end


cdef inline int coded(Cell *c, Hits *out, int d) noexcept nogil:
    # A social credit code in groups, behind its word.
    cdef const uint8_t *s = c.s
    cdef uint8_t code[18]
    cdef int i = d, n = 0
    while n < 18:
        if is_alnum(s[i]):
            code[n] = s[i]
            n += 1
        elif (s[i] != 32 and s[i] != 45) or not is_alnum(s[i + 1]):
            return 0
        i += 1
    if is_alnum(s[i]) or not is_uscc(code) or not within(c, d, NEAR_USCC, LABEL_BYTES):
        return 0
    emit(c, out, d, i, USCC, 90)
    return i
