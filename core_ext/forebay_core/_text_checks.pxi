# Check digits and number plans, included by _text.pyx. Each takes folded symbols and answers 0 or 1.

cdef uint8_t PROVINCE_OK[100]
cdef int8_t USCC_VALUE[256]
cdef int8_t VIN_VALUE[256]
cdef int RESIDENT_W[17]
cdef uint8_t RESIDENT_C[11]
cdef int USCC_W[17]
cdef int ORGANISATION_W[8]
cdef int VIN_W[17]
cdef uint8_t ASSIGNED[1000]
cdef uint8_t USCC_START[128 * 128]
cdef uint8_t IMEI_START[100]


def _fill_checks():
    cdef int i
    cdef Py_UCS4 letter
    for i in range(100):
        PROVINCE_OK[i] = i in tables.PROVINCE_NUMBERS
        IMEI_START[i] = i in tables.IMEI_STARTS
    for i in range(1000):
        ASSIGNED[i] = i in tables.MOBILE_STARTS
    for i in range(256):
        USCC_VALUE[i] = VIN_VALUE[i] = -1
    for i, letter in enumerate(tables.USCC_ALPHABET):
        USCC_VALUE[<int> letter] = i
        USCC_VALUE[<int> ord(chr(letter).lower())] = i
    for letter, i in tables.VIN_VALUES.items():
        VIN_VALUE[<int> letter] = i
        VIN_VALUE[<int> ord(chr(letter).lower())] = i
    for i in range(17):
        RESIDENT_W[i] = tables.RESIDENT_WEIGHTS[i]
        USCC_W[i] = tables.USCC_WEIGHTS[i]
        VIN_W[i] = tables.VIN_WEIGHTS[i]
    for i in range(11):
        RESIDENT_C[i] = tables.RESIDENT_CHECK[i]
    for i in range(8):
        ORGANISATION_W[i] = tables.ORGANISATION_WEIGHTS[i]
    memset(USCC_START, 0, sizeof(USCC_START))
    for start in tables.USCC_STARTS:
        USCC_START[ord(start[0]) * 128 + ord(start[1])] = 1


_fill_checks()


cdef inline int two(const uint8_t *t) noexcept nogil:
    return (t[0] - 48) * 10 + (t[1] - 48)


cdef inline bint is_date(int year, int month, int day) noexcept nogil:
    cdef int last = 31
    if month < 1 or month > 12 or day < 1:
        return 0
    if month == 4 or month == 6 or month == 9 or month == 11:
        last = 30
    elif month == 2:
        last = 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return day <= last


cdef inline bint is_date8(const uint8_t *t) noexcept nogil:
    # 8 digits YYYYMMDD of the 20th or 21st century
    cdef int century = two(t)
    return (century == 19 or century == 20) and is_date(century * 100 + two(t + 2), two(t + 4), two(t + 6))


cdef inline bint has_resident_form(const uint8_t *t) noexcept nogil:
    # region and date; a leading 9 is a foreigner's permanent residence card
    return (PROVINCE_OK[two(t)] or (t[0] == 57 and PROVINCE_OK[two(t + 1)])) and is_date8(t + 6)


cdef inline bint is_resident18(const uint8_t *t) noexcept nogil:
    # 17 digits and a digit, x or X; GB 11643
    cdef int i, total = 0
    if not has_resident_form(t):
        return 0
    for i in range(17):
        total += (t[i] - 48) * RESIDENT_W[i]
    return RESIDENT_C[total % 11] == (88 if t[17] == 120 else t[17])


cdef inline bint is_resident15(const uint8_t *t) noexcept nogil:
    # region, YYMMDD of the 20th century, sequence; no check digit
    return (
        PROVINCE_OK[two(t)] and two(t + 2) <= 90 and two(t + 4) >= 1
        and is_date(1900 + two(t + 6), two(t + 8), two(t + 10))
    )


cdef inline bint is_luhn(const uint8_t *t, int n) noexcept nogil:
    cdef int i, digit, total = 0
    for i in range(n):
        digit = t[n - 1 - i] - 48
        if i & 1:
            digit *= 2
            if digit > 9:
                digit -= 9
        total += digit
    return total % 10 == 0


cdef inline bint is_bare_imei(const uint8_t *t) noexcept nogil:
    # 15 digits that are believed without their word: who assigned them, and Luhn
    return IMEI_START[two(t)] and is_luhn(t, 15)


cdef inline int card_start(const uint8_t *t, int n) noexcept nogil:
    # 0: no issuer starts so; 1: known; 2: known, but only with a context word (short and obsolete forms)
    cdef int four = two(t) * 100 + two(t + 2)
    if n >= 16 and (four // 100 == 62 or four == 9558 or four == 6013 or four == 6014 or four == 6033
                    or four // 10 == 940):
        return 1
    if n == 16 and (four // 1000 == 4 or 5100 <= four <= 5599 or 2221 <= four <= 2720
                    or 3528 <= four <= 3589 or four == 6011 or 6440 <= four <= 6599):
        return 1
    if n == 15 and (four // 100 == 34 or four // 100 == 37):
        return 1
    if n == 14 and (3000 <= four <= 3059 or four // 100 == 36 or four // 100 == 38 or four // 100 == 39):
        return 2
    if n >= 13 and (four // 1000 == 4 or four // 100 == 62 or four == 6907):
        return 2
    return 2 if n >= 16 and t[0] >= 51 else 0  # issuers that we know nothing of


cdef inline int is_card(const uint8_t *t, int n) noexcept nogil:
    cdef int kind = card_start(t, n)
    return kind if kind and is_luhn(t, n) else 0


cdef inline bint is_mobile(const uint8_t *t) noexcept nogil:
    return t[0] == 49 and t[1] >= 51 and t[1] <= 57


cdef inline bint is_assigned(const uint8_t *t) noexcept nogil:
    # do the first three digits of a mobile number belong to an operator?
    return ASSIGNED[(t[0] - 48) * 100 + two(t + 1)]


cdef inline bint has_uscc_form(const uint8_t *t) noexcept nogil:
    # department, region, and only characters that a code has
    cdef int i
    if t[0] >= 128 or t[1] >= 128 or not USCC_START[(t[0] & 0xDF if t[0] >= 97 else t[0]) * 128 + t[1]]:
        return 0
    for i in range(18):
        if USCC_VALUE[t[i]] < 0 or (2 <= i < 8 and not is_digit(t[i])):
            return 0
    return PROVINCE_OK[two(t + 2)] or two(t + 2) == 10


cdef inline bint is_uscc(const uint8_t *t) noexcept nogil:
    # GB 32100: weights are powers of 3 modulo 31. All-digit codes look like order numbers, so for them the
    # check character of the organisation code inside (GB 11714) must hold as well.
    cdef int i, total = 0, letters = 0
    if not has_uscc_form(t):
        return 0
    for i in range(17):
        total += USCC_VALUE[t[i]] * USCC_W[i]
        letters += not is_digit(t[i])
    if USCC_VALUE[t[17]] != (31 - total % 31) % 31:
        return 0
    return letters > 0 or not is_digit(t[17]) or is_organisation(t + 8)


cdef inline bint is_organisation(const uint8_t *t) noexcept nogil:
    # 8 digits and a check digit, GB 11714; its X cannot occur in an all-digit code
    cdef int i, total = 0
    for i in range(8):
        total += (t[i] - 48) * ORGANISATION_W[i]
    return (11 - total % 11) % 11 == t[8] - 48


cdef inline int vin_kind(const uint8_t *t) noexcept nogil:
    # GB 16735: weighted sum modulo 11 at place 9, 10 is written X; the last four are digits.
    # 0: no VIN; 1: its check digit holds; 2: only its form does
    cdef int i, total = 0, letters = 0, rest
    for i in range(17):
        if VIN_VALUE[t[i]] < 0 or (i >= 13 and not is_digit(t[i])):
            return 0
        letters += not is_digit(t[i])
        total += VIN_VALUE[t[i]] * VIN_W[i]
    if letters < 2:
        return 0
    rest = total % 11
    if rest == 10:
        return 1 if t[8] == 88 or t[8] == 120 else 2
    return 1 if t[8] == 48 + rest else 2


cdef inline int passport_kind(const uint8_t *t, int n) noexcept nogil:
    # 0: no; 1: passport by its form; 2: only with a context word (other permits, dates after a letter)
    cdef uint8_t a = t[0] & 0xDF, b = t[1] & 0xDF
    cdef int i, digits_from = 2 if is_letter(t[1]) else 1
    for i in range(digits_from, n):
        if not is_digit(t[i]):
            return 0
    if not is_letter(t[0]):
        return 0
    if n == 9 and digits_from == 1:
        if a == 69 or a == 71:  # E, G: ordinary passports
            return 1 if t[0] == a and not is_date8(t + 1) else 2
        # D S P K: diplomatic, service, public affairs, Macau; H M C W L T: travel permits
        return 2 if (a == 68 or a == 83 or a == 80 or a == 75 or a == 72 or a == 77 or a == 67 or a == 87
                     or a == 76 or a == 84) else 0
    if n == 9:
        if a == 69 and b != 73 and b != 79:  # E and a letter but I and O
            return 1 if t[0] == a and t[1] == b else 2
        return 2 if (a == 68 or a == 83 or a == 80 or a == 77 or a == 67) else 0
    return 2 if n == 11 and digits_from == 1 and (a == 72 or a == 77) else 0
