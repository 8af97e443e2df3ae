# One rule per shape of identifier. Included by _text.pyx. A rule gets symbol indices, emits hits and
# returns the index where the scan goes on.

cdef inline bint is_somebodys(Cell *c, int d) noexcept nogil:
    # Is a number without a check digit not behind a word for another one or a thing, or is it behind its own?
    if within(c, d, NEAR_RESIDENT, LABEL_BYTES):
        return 1
    return not (within(c, d, NEAR_OTHER, LABEL_BYTES) or within(c, d, NEAR_THING, LABEL_BYTES))


cdef inline int digit_run(Cell *c, Hits *out, int d, int f) noexcept nogil:
    # A maximal run [d, f) of 11 digits or more.
    cdef const uint8_t *t = c.s + d
    cdef int n = f - d, kind
    if in_fraction(c.s, d):
        return f
    if n == 17 and (c.s[f] | 0x20) == 120 and not is_alnum(c.s[f + 1]) and has_resident_form(t):
        return resident(c, out, d, f + 1)
    if n == 18 and is_resident18(t):
        emit(c, out, d, f, RESIDENT_ID, 99)
        return f
    if n > 19 or not left_open(c.s, d) or not right_open(c.s, f):
        return f
    if n == 11 and is_mobile(t) and (is_assigned(t) or near(c, d, NEAR_PHONE) or country_before(c.s, d)):
        if not counts(c, d) and not within_code(c, d, f):
            emit(c, out, d, f, MOBILE, sure(c, d, 90))
    elif n == 13 and t[0] == 56 and t[1] == 54 and is_mobile(t + 2):
        emit(c, out, d + 2, f, MOBILE, 90)
    elif n == 15 and two(t) == 0 and two(t + 2) == 86 and is_mobile(t + 4):
        emit(c, out, d + 4, f, MOBILE, 90)
    elif n == 18 and is_uscc(t):
        emit(c, out, d, f, USCC, 95)
    elif n == 18 and has_resident_form(t) and within(c, d, NEAR_RESIDENT, LABEL_BYTES):
        emit(c, out, d, f, RESIDENT_ID, 75)
    elif n == 18 and has_uscc_form(t) and within(c, d, NEAR_USCC, LABEL_BYTES):
        emit(c, out, d, f, USCC, 75)
    elif n == 15 and is_luhn(t, 15) and near(c, d, NEAR_IMEI) and (
            not within(c, d, NEAR_OTHER, VERSION_BYTES) or within(c, d, NEAR_IMEI, LABEL_BYTES)):
        emit(c, out, d, f, IMEI, 95)
    elif (n == 11 or n == 12) and t[0] == 48 and is_landline(t, n) and near(c, d, NEAR_PHONE) and not (
            within(c, d, NEAR_OTHER, VERSION_BYTES)):
        emit(c, out, d, f, LANDLINE, 75)
    elif n == 12 and t[0] == 48 and is_mobile(t + 1) and is_assigned(t + 1) and is_somebodys(c, d):
        if not counts(c, d) and not within_code(c, d, f):  # dialled from another city
            emit(c, out, d + 1, f, MOBILE, 85 if near(c, d, NEAR_PHONE) else 60)
    elif n >= 13:
        kind = is_card(t, n)
        if (kind == 1 and (n > 15 or is_somebodys(c, d))) or (kind == 2 and near(c, d, NEAR_CARD)):
            emit(c, out, d, f, BANK_CARD, sure(c, d, 90))
        elif 14 <= n <= 16 and within(c, d, NEAR_IMEI, LABEL_BYTES):
            emit(c, out, d, f, IMEI, 70)  # mistyped, without its check digit, or with the software's version
        elif n == 15 and is_bare_imei(t) and not (
                within(c, d, NEAR_OTHER, VERSION_BYTES) or within(c, d, NEAR_RESIDENT, LABEL_BYTES)):
            emit(c, out, d, f, IMEI, 60)
        elif n == 15 and is_resident15(t) and is_somebodys(c, d):
            emit(c, out, d, f, RESIDENT_ID, 70)
        elif n >= 16 and 51 <= t[0] <= 54 and within(c, d, NEAR_BANK, LABEL_BYTES):
            emit(c, out, d, f, BANK_CARD, 65)
    return f


cdef inline int resident(Cell *c, Hits *out, int d, int f) noexcept nogil:
    # 17 digits of its form and an X: by the check digit or, mistyped, by the word.
    if is_resident18(c.s + d):
        emit(c, out, d, f, RESIDENT_ID, 99)
    elif within(c, d, NEAR_RESIDENT, LABEL_BYTES):
        emit(c, out, d, f, RESIDENT_ID, 75)
    return f


cdef inline bint country_before(const uint8_t *s, int d) noexcept nogil:
    # 86, also behind one separator
    cdef int b = d - 1 if is_separator(s[d - 1]) else d
    return s[b - 2] == 56 and s[b - 1] == 54 and (not is_digit(s[b - 3]) or s[b - 3] == 48)


cdef bint counts(Cell *c, int d) noexcept nogil:
    # Does the number stand right behind a word for what is counted (`seq=`), with no word for telephone near?
    cdef int end = byte_of(c, d), tail, start, w
    if within(c, d, NEAR_PHONE, LABEL_BYTES):
        return 0
    for tail in range(COUNTER_BYTES + 1):
        if tail and tail <= end and is_alnum(c.raw[end - tail]):
            return 0
        for w in range(MAX_WORDS):
            start = end - tail - WORD_LENGTH[NEAR_COUNTER][w]
            if WORD_LENGTH[NEAR_COUNTER][w] == 0:
                break
            if start < 0 or not is_word(c.raw + start, NEAR_COUNTER, w):
                continue
            if not is_letter(c.raw[start]) or start == 0 or not is_letter(c.raw[start - 1]):
                return 1
    return 0


cdef inline bint within_code(Cell *c, int d, int f) noexcept nogil:
    # Is the number a part of a code (`HT-2024-13800138000-A`) behind the word for one?
    cdef const uint8_t *s = c.s
    cdef int b = d
    if s[d - 1] != 45 or not is_alnum(s[d - 2]) or s[f] != 45 or not is_alnum(s[f + 1]):
        return 0
    while d - b < 24 and (is_alnum(s[b - 1]) or s[b - 1] == 45):
        b -= 1
    return within(c, b, NEAR_OTHER, LABEL_BYTES)


cdef inline bint new_version(Cell *c, int d) noexcept nogil:
    # Does another version stand before, with an arrow between: `1.2.3.4 -> 1.2.4.0`?
    cdef const uint8_t *s = c.s
    cdef int i = d, k
    while d - i < 4 and (s[i - 1] == 32 or s[i - 1] == 45 or s[i - 1] == 61 or s[i - 1] == 62):
        i -= 1
    for k in range(i, d):
        if s[k] == 62:
            while d - i < 20 and (is_digit(s[i - 1]) or s[i - 1] == 46):
                i -= 1
            return near(c, i, NEAR_VERSION)
    return 0


cdef inline int sure(Cell *c, int d, int confidence) noexcept nogil:
    # What stands right behind the word for another number is masked, but is no alarm of the guard.
    return 60 if within(c, d, NEAR_OTHER, LABEL_BYTES) else confidence


cdef inline int labelled(Cell *c, Hits *out, int d, int f) noexcept nogil:
    # 6 to 8 digits that only the word before them makes something.
    cdef const uint8_t *s = c.s
    cdef const uint16_t *p = c.cp
    cdef int n = f - d, first, end
    if (s[f] == 46 or s[f] == 45 or s[f] == 58 or s[f] == 47) and is_alnum(s[f + 1]):
        return 0
    first = d - 1 if not c.plain and p[d - 1] == 0x7B2C else d
    if not c.plain and p[first - 1] == 0x5B57 and has_han(p[first - 2]):  # an officer's number
        if not within(c, first, NEAR_PERMIT, CONTEXT_BYTES):
            return 0
        end = f + 1 if p[f] == 0x53F7 else f
        emit(c, out, first - 2, end, PASSPORT, 80)
        return end
    if n < 7 or s[d - 1] == 46 or s[d - 1] == 45 or s[d - 1] == 47 or (n == 8 and is_date8(s + d)):
        return 0
    if n == 8 and within(c, d, NEAR_PERMIT, LABEL_BYTES):
        emit(c, out, d, f, PASSPORT, 65)
        return f
    if 50 <= s[d] <= 56 and within(c, d, NEAR_PHONE, LABEL_BYTES):
        emit(c, out, d, f, LANDLINE, 60)
        return f
    return 0


cdef inline int alnum_run(Cell *c, Hits *out, int b, int e, int digits) noexcept nogil:
    # A maximal run [b, e) of letters and digits.
    cdef const uint8_t *s = c.s
    cdef int n = e - b, d, f, end, kind
    if (n == 2 and s[e] == 45) or (n == 4 and s[e] == 46):
        end = mac_end(s, b, n, s[e])
        if end:
            emit(c, out, b, end, MAC, 90)
            return end
    if n == 2 or n == 7:
        end = service_plate(c, out, b, e)
        if end:
            return end
    if digits == 0:
        return e
    if digits < n:
        if n == 18 and has_uscc_form(s + b) and not (
                digits == 17 and (s[e - 1] | 0x20) == 120 and is_resident18(s + b)):
            kind = is_uscc(s + b)
            if kind or within(c, b, NEAR_USCC, LABEL_BYTES):
                emit(c, out, b, e, USCC, 97 if kind else 75)
                return e
        if n == 12 and is_hex(s + b) and within(c, b, NEAR_MAC, LABEL_BYTES):
            emit(c, out, b, e, MAC, 75)
            return e
        kind = vin_kind(s + b) if n == 17 else 0
        if kind and (kind == 1 or near(c, b, NEAR_VIN)):
            emit(c, out, b, e, VIN, 95 if kind == 1 else 70)
            return e
        if n == 15 and digits == 12 and is_letter(s[b]) and is_letter(s[b + 1]) and is_letter(s[b + 2]) and (
                within(c, b, NEAR_PERMIT, LABEL_BYTES)):
            emit(c, out, b, e, PASSPORT, 75)  # permanent residence, the form before 2017
            return e
        if n == 9 or n == 11:
            kind = passport_kind(s + b, n)
            if kind and not (s[b - 1] == 45 or s[b - 1] == 95 or (s[e] == 45 and is_alnum(s[e + 1]))) and (
                    kind == 1 or near(c, b, NEAR_PERMIT)):
                emit(c, out, b, e, PASSPORT, 75)
                return e
    d = b
    while d < e:
        if not is_digit(s[d]):
            d += 1
            continue
        f = d + 1
        while f < e and is_digit(s[f]):
            f += 1
        if f - d >= 11:
            d = digit_run(c, out, d, f)
        elif f == e:
            end = short_run(c, out, b, d, f)
            return end if end > e else e
        else:
            d = f
    return d


cdef inline int short_run(Cell *c, Hits *out, int b, int d, int f) noexcept nogil:
    # A run [d, f) of at most 10 digits at the end of the letters and digits that begin at b.
    cdef const uint8_t *s = c.s
    cdef int end
    cdef uint8_t after = s[f]
    if after == 46 and f - d <= 3 and is_digit(s[f + 1]):
        end = ipv4_end(s, d)
        if end:
            if (d == b or after_label(s, d)) and not (s[d - 1] == 46 and is_alnum(s[d - 2])) and not (
                    near(c, d, NEAR_VERSION) or new_version(c, d)):
                emit(c, out, d, end, IPV4, 80)
            return end
        if not (s[d - 1] == 46 and is_digit(s[d - 2])):
            end = gps(c, out, d)
            if end:
                return end
    if after == DEGREE:
        return degrees(c, out, d)
    if (f - d < 2 and not (49 <= s[d] <= 56 and after == 32 and s[f + 2] == 32)) or not left_open(s, d):
        return 0
    if 6 <= f - d <= 8:
        end = labelled(c, out, d, f)
        if end:
            return end
    end = 0
    if (is_separator(after) and is_digit(s[f + 1])) or (after == 41 and s[d - 1] == 40) or is_wide(s, f) or (
            is_slash(after) and f - d == 3 and is_digit(s[f + 1])):
        end = joined(c, out, d)
    if end == 0 and (after == 32 or after == 45) and d == b and is_alnum(s[f + 1]) and (
            USCC_START[s[d] * 128 + s[d + 1]]):
        return coded(c, out, d)
    return end
