# Rules for network addresses, plates and positions. Included by _text.pyx before _text_rules.pxi.

cdef enum:
    MAX_LOCAL = 4  # ideographs before an at sign: a name, and a sentence without end before it
    MAX_TOPS = 32

cdef uint16_t TOP[MAX_TOPS][4]  # code points of the top-level domains, zeros behind them
cdef int N_TOPS = 0


def _fill_tops():
    global N_TOPS
    for label in tables.TOP_DOMAINS:
        for i, char in enumerate(label):
            TOP[N_TOPS][<int> i] = <uint16_t> ord(char)
        N_TOPS += 1


_fill_tops()


cdef inline int ipv4_end(const uint8_t *s, int d) noexcept nogil:
    # Index after four octets joined by dots that begin at d, 0 if there are none.
    cdef int i = d, k, octet, digits, first = 0
    for k in range(4):
        octet = digits = 0
        while is_digit(s[i]) and digits < 4:
            octet = octet * 10 + s[i] - 48
            digits += 1
            i += 1
        if digits == 0 or digits > 3 or octet > 255:
            return 0
        if k == 0:
            first = octet
        if k < 3:
            if s[i] != 46:
                return 0
            i += 1
    if is_alnum(s[i]) or (s[i] == 46 and is_alnum(s[i + 1])):
        return 0
    # this host, loopback and net masks tell nothing about anybody
    return 0 if first == 0 or first == 127 or first == 255 else i


cdef inline int decimal_end(const uint8_t *s, int d, int *whole) noexcept nogil:
    # Index after 1-3 digits, a dot and 4 to 15 decimals; 0 if that is not there.
    cdef int i = d, digits = 0
    whole[0] = 0
    while is_digit(s[i]) and digits < 4:
        whole[0] = whole[0] * 10 + s[i] - 48
        digits += 1
        i += 1
    if digits == 0 or digits > 3 or s[i] != 46:
        return 0
    i += 1
    digits = i
    while is_digit(s[i]):
        i += 1
    digits = i - digits
    if digits < 4 or digits > 15:
        return 0
    if s[i] == DEGREE:
        i += 1
    if (s[i] | 0x20) == 110 or (s[i] | 0x20) == 115 or (s[i] | 0x20) == 101 or (s[i] | 0x20) == 119:
        i += 1  # N S E W
    return 0 if is_alnum(s[i]) or (s[i] == 46 and is_digit(s[i + 1])) else i


cdef inline bint is_quarter(uint8_t c) noexcept nogil:
    c |= 0x20
    return c == 110 or c == 115 or c == 101 or c == 119  # n s e w


cdef inline int gps(Cell *c, Hits *out, int d) noexcept nogil:
    # Two decimals near each other: within China without, anywhere with a context word.
    cdef const uint8_t *s = c.s
    cdef int a, b, first, second, end, plain = 1, start = d
    first = decimal_end(s, d, &a)
    if first == 0:
        return 0
    end = first
    while not is_digit(s[end]) and end - first < 20:
        if end >= c.end:
            return 0
        plain &= (s[end] == 32 or s[end] == 44 or s[end] == 59 or s[end] == 47 or s[end] == 124
                  or (s[end] == 45 and end > first and is_digit(s[end + 1]))
                  or (is_quarter(s[end]) and (is_digit(s[end + 1]) or s[end + 1] == 32)))
        end += 1
    if end == first:
        return 0
    second = decimal_end(s, end, &b)
    if second == 0:
        return 0
    if not (plain and ((3 <= a <= 53 and 73 <= b <= 135) or (3 <= b <= 53 and 73 <= a <= 135))):
        # anywhere else beside a word that stands before the first of them
        if not ((a <= 90 and b <= 180) or (b <= 90 and a <= 180)) or not within(c, d, NEAR_GPS, GPS_BYTES):
            return 0
        if within(c, d, NEAR_MACHINE, GPS_BYTES):
            return 0
    elif within(c, d, NEAR_MACHINE, MACHINE_BYTES) and not within(c, d, NEAR_GPS, GPS_BYTES):
        return 0
    if s[d - 1] == 45 or s[d - 1] == 43 or (is_quarter(s[d - 1]) and not is_alnum(s[d - 2])):
        start -= 1
    emit(c, out, start, second, GPS, 80)
    return second


cdef inline int angle_end(const uint8_t *s, int d) noexcept nogil:
    # Index after degrees, minutes and perhaps seconds (`23°06'44.5"N`), 0 if they are not there.
    cdef int i = d, k, digits
    for k in range(3):
        digits = i
        while is_digit(s[i]) and i - digits < 3:
            i += 1
        if i == digits:
            return i if k == 2 else 0
        if k and s[i] == 46:
            i += 1
            while is_digit(s[i]):
                i += 1
        if (s[i] != DEGREE) if k == 0 else (s[i] != 39 and s[i] != 34 and s[i] != OTHER):  # ' " and primes
            return 0
        i += 1
        if k == 2 and s[i] == 39 and s[i - 1] == 39:  # two for a double one
            i += 1
        if k < 2 and s[i] == 32 and is_digit(s[i + 1]):
            i += 1
    return i


cdef inline int degrees(Cell *c, Hits *out, int d) noexcept nogil:
    # Two angles near each other, with their quarters of the globe or behind a word for a position.
    cdef const uint8_t *s = c.s
    cdef int first = angle_end(s, d), end = first, start = d, second, quarters = 0
    if first == 0:
        return 0
    while not is_digit(s[end]) and end - first < 8:
        if end >= c.end:
            return 0
        quarters += is_quarter(s[end])
        end += 1
    second = angle_end(s, end)
    if second == 0:
        return 0
    if is_quarter(s[d - 1]) and not is_alnum(s[d - 2]):
        start = d - 1
        quarters += 1
    if is_quarter(s[second]) and not is_alnum(s[second + 1]):
        second += 1
        quarters += 1
    if quarters < 2 and not within(c, d, NEAR_GPS, GPS_BYTES):
        return 0
    emit(c, out, start, second, GPS, 80)
    return second


cdef inline bint is_hex(const uint8_t *t) noexcept nogil:
    cdef int k
    for k in range(12):
        if not KIND[t[k]] & HEX:
            return 0
    return 1


cdef inline int mac_end(const uint8_t *s, int b, int width, uint8_t separator) noexcept nogil:
    # Index after 12 hex digits in groups of `width`, at least a digit and a letter among them; else 0.
    cdef int i = b, k, letters = 0
    for k in range(12):
        if k and k % width == 0:
            if s[i] != separator:
                return 0
            i += 1
        if not KIND[s[i]] & HEX:
            return 0
        letters += is_letter(s[i]) != 0
        i += 1
    if letters == 0 or letters == 12 or is_alnum(s[i]) or (s[i] == separator and is_alnum(s[i + 1])):
        return 0
    return 0 if s[b - 1] == separator and is_alnum(s[b - 2]) else i


cdef inline int plate(Cell *c, Hits *out, int j) noexcept nogil:
    # Province, letter, optional dot, then 5, or 6 of a new-energy vehicle, or 4 and a closing character.
    cdef const uint8_t *s = c.s
    cdef int i = j + 1, n = 0, digits = 0, end
    cdef uint8_t x
    if s[i] == 32 and is_letter(s[i + 1]):
        i += 1
    if not is_letter(s[i]) or (s[i] & 0xDF) == 73:
        return j + 1
    i += 1
    if (s[i] == MIDDLE_DOT or s[i] == 32 or s[i] == 45 or s[i] == 46) and is_alnum(s[i + 1]):
        i += 1
    while n < 7 and is_alnum(s[i + n]):
        x = s[i + n] & 0xDF
        if is_letter(s[i + n]) and (x == 73 or x == 79):  # no I, no O
            return j + 1
        digits += is_digit(s[i + n])
        n += 1
    # GA 36 has at most two letters; older ones that their owners chose have more
    if digits < 2 and s[i - 1] != MIDDLE_DOT and not near(c, j, NEAR_PLATE):
        return j + 1
    end = i + n
    if n == 4 and s[end] == PLATE_END:
        end += 1
    elif n == 4 and c.cp[end] == 0x5E94 and c.cp[end + 1] == 0x6025:  # rescue services
        end += 2
    elif n == 6:
        # new energy: a letter first or last, digits else, the place after a first letter is free
        if is_letter(s[i]):
            digits += is_letter(s[i + 1]) != 0
        elif not is_letter(s[i + 5]):
            return j + 1
        if digits != 5:
            return j + 1
    elif n != 5:
        return j + 1
    emit(c, out, j, end, PLATE, 90)
    return end


cdef inline bint has_han(uint16_t point) noexcept nogil:
    return point >= 0x4E00 and point < 0xA000


cdef inline bint han_at(const Cell *c, int i) noexcept nogil:
    return not c.plain and has_han(c.cp[i])


cdef inline int embassy(Cell *c, Hits *out, int j) noexcept nogil:
    # Six digits behind the first character, which stands for an embassy; a dot may halve them.
    cdef const uint8_t *s = c.s
    cdef int k = j + 1, n
    cdef bint halved = s[j + 4] == MIDDLE_DOT
    if c.cp[j] != 0x4F7F or (has_han(c.cp[j - 1]) and not halved):
        return j + 1
    for n in range(6):
        if n == 3 and halved:
            k += 1
        if not is_digit(s[k]):
            return j + 1
        k += 1
    if is_alnum(s[k]) or s[k] == 46:
        return j + 1
    emit(c, out, j, k, PLATE, 80)
    return k


cdef inline int service_plate(Cell *c, Hits *out, int b, int e) noexcept nogil:
    # A plate of the armed police (`WJ京12345`) or, beside its word, of the army (`KA12345`).
    cdef const uint8_t *s = c.s
    cdef int k, f, digits = 0
    if not is_letter(s[b]) or not is_letter(s[b + 1]):
        return 0
    if e - b == 2:
        if s[b] & 0xDF != 87 or s[b + 1] & 0xDF != 74:
            return 0
        k = e
        if s[k] == PROVINCE:
            k += 1
        if s[k] == MIDDLE_DOT or (k == e and (s[k] == 45 or s[k] == 32)):
            k += 1
        f = k
        while f - k < 6 and is_alnum(s[f]):
            digits += is_digit(s[f])
            f += 1
        if (f - k != 4 and f - k != 5) or digits < 4 or k == e:
            return 0
        if f - k == 4 and s[f] == PLATE_END:
            f += 1
        emit(c, out, b, f, PLATE, 85)
        return f
    for k in range(b + 2, e):
        if not is_digit(s[k]):
            return 0
    if not within(c, b, NEAR_PLATE, LABEL_BYTES):
        return 0
    emit(c, out, b, e, PLATE, 70)
    return e


cdef inline int top_domain(const Cell *c, int i) noexcept nogil:
    # How long the top-level domain in Chinese characters is that begins at i, 0 if there is none.
    cdef int k, n
    for k in range(N_TOPS):
        n = 0
        while TOP[k][n] and TOP[k][n] == c.cp[i + n]:
            n += 1
        if TOP[k][n] == 0:
            return n
    return 0


cdef inline int email(Cell *c, Hits *out, int j) noexcept nogil:
    # Up to 64 characters before the @, and after it labels; the address ends with the last label of letters,
    # with one of Chinese characters that is a top-level domain, or with one in Punycode.
    cdef const uint8_t *s = c.s
    cdef int b = j, i = j + 1, end = 0, label, top
    cdef bint chinese = False
    while j - b < 64 and KIND[s[b - 1]] & LOCAL:
        b -= 1
    while b < j and not is_alnum(s[b]):
        b += 1
    if (b == j and not han_at(c, b - 1)) or not (is_alnum(s[i]) or han_at(c, i)):
        return j + 1
    while i - j < 255 and (KIND[s[i]] & DOMAIN or han_at(c, i)):
        if s[i] != 46:
            i += 1
            continue
        i += 1
        label = i
        while is_letter(s[i]):
            i += 1
        if i - label == 2 and s[i] == 45 and s[i + 1] == 45 and s[label] | 0x20 == 120:  # xn--
            while s[i] == 45 or is_alnum(s[i]):
                i += 1
            end = i
        elif 2 <= i - label <= 24:
            end = i
        elif i == label and han_at(c, i):
            top = top_domain(c, i)
            chinese |= top > 0
            i += top
            end = i if top else end
        elif i == label and not is_alnum(s[i]):
            break  # what follows two dots is no domain
        if end == i and han_at(c, i):
            break  # the sentence goes on
    if chinese and b == j:
        while j - b < MAX_LOCAL and han_at(c, b - 1):
            b -= 1
    if end == 0 or b == j:
        return j + 1
    emit(c, out, b, end, EMAIL, 95)
    return end


cdef inline int colon_run(Cell *c, Hits *out, int j, int *until) noexcept nogil:
    # The maximal run of hex digits and colons around the first colon: MAC or IPv6. The part before that
    # colon may be a label (`MAC:00:11:...`), so the run is also tried without it.
    cdef const uint8_t *s = c.s
    cdef int b = j, e = j + 1, end, colons = 1
    cdef bint double = False
    if not (KIND[s[j + 1]] & HEX or s[j + 1] == 58):
        return j + 1
    while j - b < 5 and KIND[s[b - 1]] & HEX:
        b -= 1
    while KIND[s[e]] & HEX or s[e] == 58:
        colons += s[e] == 58
        double |= s[e] == 58 and s[e - 1] == 58
        e += 1
    until[0] = e
    if e - b > 64 or (colons < 5 and not double):
        return j + 1
    end = 0
    if not is_alnum(s[b - 1]) and j - b < 5:
        end = colon_address(c, out, b, e)
    if end == 0 and s[j + 1] != 58:
        end = colon_address(c, out, j + 1, e)
    return end if end else j + 1


cdef inline int colon_address(Cell *c, Hits *out, int b, int e) noexcept nogil:
    cdef const uint8_t *s = c.s
    cdef int i = b, groups = 0, double_at = 0, length, digits = 0, pairs = 1, tail = 0
    while e > b and s[e - 1] == 58 and s[e - 2] != 58:
        e -= 1  # a colon of the sentence
    if s[e] == 46 and is_digit(s[e - 1]):  # an IPv4 address in the last 32 bits
        tail = e
        while tail > b and is_digit(s[tail - 1]):
            tail -= 1
        if s[tail - 1] != 58 or ipv4_end(s, tail) == 0:
            return 0
        groups = 2
    elif is_alnum(s[e]):
        return 0
    while i < (tail if tail else e):
        if s[i] == 58:
            if s[i + 1] == 58:
                if double_at or s[i + 2] == 58:
                    return 0
                double_at = 1
                i += 2
                continue
            if i == b:
                return 0
            i += 1
            continue
        length = 0
        while i < e and KIND[s[i]] & HEX:
            digits += is_digit(s[i])
            length += 1
            i += 1
        pairs &= length == 2
        groups += 1
        if length > 4:
            return 0
    if tail:
        e = ipv4_end(s, tail)
        pairs = 0
        digits += 4
    if pairs and not double_at and (groups == 6 or groups == 8):
        if digits:
            emit(c, out, b, e, MAC, 92)
        return e if digits else 0
    if digits < 2 or (groups != 8 if not double_at else groups < 2 or groups > 7):
        return 0
    emit(c, out, b, e, IPV6, 92)
    return e
