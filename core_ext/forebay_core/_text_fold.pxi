# Folding of a cell to one byte a character, and the output of hits. Included by _text.pyx.

cdef struct Buffers:
    uint8_t *symbols
    uint8_t *kinds
    int32_t *pos
    uint16_t *points
    Py_ssize_t room  # of the longest cell


cdef bint make_buffers(Buffers *b, Py_ssize_t longest) noexcept nogil:
    b.symbols = <uint8_t *> malloc(longest + PAD + REST)
    b.kinds = <uint8_t *> malloc(longest + PAD + REST)
    b.pos = <int32_t *> malloc((longest + 2 * PAD) * sizeof(int32_t))
    b.points = <uint16_t *> malloc((longest + 2 * PAD) * sizeof(uint16_t))
    if b.symbols == NULL or b.kinds == NULL or b.pos == NULL or b.points == NULL:
        return False
    memset(b.symbols, 0, PAD)
    memset(b.kinds, 0, PAD)
    return True


cdef void free_buffers(Buffers *b) noexcept nogil:
    free(b.symbols)
    free(b.kinds)
    free(b.pos)
    free(b.points)


cdef inline int hex_value(uint8_t c) noexcept nogil:
    if is_digit(c):
        return c - 48
    if KIND[c] & HEX:
        return (c & 0xDF) - 55
    return -1


cdef inline int escaped(const uint8_t *raw, int i, int n, int *code) noexcept nogil:
    # A JSON escape at raw[i] == backslash: its length and code point, 0 if it is none.
    cdef int k, digit, found = 0
    cdef uint8_t c
    if i + 1 >= n:
        return 0
    c = raw[i + 1]
    if c == 110 or c == 114 or c == 116 or c == 98 or c == 102:  # n r t b f
        code[0] = 10 if c == 110 else (13 if c == 114 else 9)  # of b and f no rule says anything: blanks
        return 2
    if c != 117 or i + 6 > n:  # u
        return 0
    for k in range(i + 2, i + 6):
        digit = hex_value(raw[k])
        if digit < 0:
            return 0
        found = found * 16 + digit
    code[0] = found
    return 6


cdef inline int percent_byte(const uint8_t *raw, int i, int n) noexcept nogil:
    # The byte that `%XX` at raw[i] stands for, -1 if it is none.
    cdef int high, low
    if i + 2 >= n or raw[i] != 37:
        return -1
    high, low = hex_value(raw[i + 1]), hex_value(raw[i + 2])
    return -1 if high < 0 or low < 0 else high * 16 + low


cdef inline int percent(const uint8_t *raw, int i, int n, int inside, int *code) noexcept nogil:
    # A percent escape of a URL at raw[i]: its length or 0. Only punctuation and UTF-8 bytes count, for
    # `50%1381...` is a percentage before a number. A continuation byte must follow another escape (`inside`).
    cdef int byte = percent_byte(raw, i, n), second, third
    if 0x20 <= byte < 0x30 or 0x3A <= byte <= 0x40:
        code[0] = byte
        return 3
    if 0xE0 <= byte < 0xF0:
        second, third = percent_byte(raw, i + 3, n), percent_byte(raw, i + 6, n)
        if 0x80 <= second < 0xC0 and 0x80 <= third < 0xC0:
            code[0] = (byte & 0x0F) << 12 | (second & 0x3F) << 6 | (third & 0x3F)
            return 9
    if byte >= 0xC2 or (byte >= 0x80 and inside):
        code[0] = UNKNOWN
        return 3
    return 0


cdef int ideograph_run(const uint8_t *raw, int n, uint8_t *s, int32_t *pos, uint16_t *cp,
                       int at) noexcept nogil:
    # Fold the ideographs that `raw` begins with; returns how many. A function of its own, so that all of it
    # stays in registers. Four bytes are read for each, so the last one of a cell is left to the caller.
    cdef int k = 0
    cdef uint32_t four, code
    while 3 * k + 4 <= n:
        memcpy(&four, raw + 3 * k, 4)
        code = (four & 0x0F) << 12 | (four >> 2 & 0xFC0) | (four >> 16 & 0x3F)
        if four & 0xC0C0F0 != 0x8080E0 or code - 0x3400 >= 0x6C00:
            break
        s[k] = SYMBOL[code]
        cp[k] = <uint16_t> code
        pos[k] = at + 3 * k
        k += 1
    return k


cdef inline uint8_t beyond(const uint8_t *raw, int i, int n, int *length) noexcept nogil:
    # The symbol of what begins with a byte of 0xF0 or more: digits for mathematics, what has no width.
    cdef int code
    if raw[i] >= 0xF8 or i + 3 >= n or (raw[i + 1] & raw[i + 2] & raw[i + 3]) & 0xC0 != 0x80 or (
            (raw[i + 1] | raw[i + 2] | raw[i + 3]) & 0x40):
        return OTHER
    code = (raw[i] & 0x07) << 18 | (raw[i + 1] & 0x3F) << 12 | (raw[i + 2] & 0x3F) << 6 | (raw[i + 3] & 0x3F)
    if 0x1D7CE <= code < 0x1D800:
        length[0] = 4
        return <uint8_t> (48 + (code - 0x1D7CE) % 10)
    if 0xE0000 <= code < 0xE1000:
        length[0] = 4
        return SKIP
    return OTHER


cdef inline int fold(const uint8_t *raw, int n, uint8_t *s, int32_t *pos, uint16_t *cp,
                     bint *han) noexcept nogil:
    # Returns the index after the last symbol; pos there is n.
    cdef int i = 0, j = PAD, length, in_percent = -1, code
    cdef bint ideographs = False
    cdef uint8_t byte, symbol
    memset(cp, 0, PAD * sizeof(uint16_t))
    while i < n:
        byte = raw[i]
        if byte >= 0xE3 and byte < 0xEA:
            length = ideograph_run(raw + i, n - i, s + j, pos + j, cp + j, i)
            if length:
                ideographs = True
                j += length
                i += 3 * length
                continue
        if byte < 0x80 and byte != 92 and byte != 37:
            s[j] = byte
            cp[j] = byte
            pos[j] = i
            j += 1
            i += 1
            continue
        length = 1
        code = UNKNOWN
        if byte < 0x80:
            if byte == 92:
                length = escaped(raw, i, n, &code)
            else:
                length = percent(raw, i, n, in_percent == i, &code)
                in_percent = i + length
            if length == 0:
                length = 1
                code = byte
        elif byte < 0xC2:
            pass
        elif byte < 0xE0:
            if i + 1 < n and raw[i + 1] & 0xC0 == 0x80:
                code = (byte & 0x1F) << 6 | (raw[i + 1] & 0x3F)
                length = 2
        elif byte < 0xF0:
            if i + 2 < n and raw[i + 1] & 0xC0 == 0x80 and raw[i + 2] & 0xC0 == 0x80:
                code = (byte & 0x0F) << 12 | (raw[i + 1] & 0x3F) << 6 | (raw[i + 2] & 0x3F)
                length = 3
        symbol = SYMBOL[code] if code > UNKNOWN else OTHER
        if byte >= 0xF0:
            symbol = beyond(raw, i, n, &length)
        if symbol != SKIP:
            s[j] = symbol
            cp[j] = symbol if symbol < 0x80 else <uint16_t> code
            ideographs |= code >= 0x3400
            pos[j] = i
            j += 1
        i += length
    memset(s + j, 0, REST)
    memset(cp + j, 0, PAD * sizeof(uint16_t))
    pos[j] = n
    han[0] = ideographs
    return j


cdef inline bint make_room(Hits *out, Py_ssize_t more) noexcept nogil:
    cdef Py_ssize_t capacity = out.capacity if out.capacity else 256
    cdef void *grown
    if out.n + more <= out.capacity:
        return 1
    while capacity < out.n + more:
        capacity *= 2
    grown = realloc(out.spans, capacity * 24)
    if grown != NULL:
        out.spans = <int64_t *> grown
        grown = realloc(out.codes, capacity)
    if grown != NULL:
        out.codes = <uint8_t *> grown
        grown = realloc(out.confidence, capacity)
    if grown == NULL:
        out.failed = 1
        return 0
    out.confidence = <uint8_t *> grown
    out.capacity = capacity
    return 1


cdef inline void emit(Cell *c, Hits *out, int start, int end, int code, int confidence) noexcept nogil:
    cdef int64_t first = byte_of(c, start)
    if not out.classes >> code & 1:
        return
    while out.n > out.row_from and out.spans[3 * out.n - 1] > first:
        out.n -= 1  # covered by this wider one
    if not make_room(out, 1):
        return
    out.spans[3 * out.n] = c.row
    out.spans[3 * out.n + 1] = first
    out.spans[3 * out.n + 2] = byte_of(c, end)
    out.codes[out.n] = code
    out.confidence[out.n] = confidence
    out.n += 1


cdef inline bint near(Cell *c, int j, int kind) noexcept nogil:
    # Is a context word among the bytes before symbol j, or does the caller vouch for the context?
    return within(c, j, kind, VERSION_BYTES if kind == NEAR_VERSION else CONTEXT_BYTES)


cdef bint within(Cell *c, int j, int kind, int reach) noexcept nogil:
    cdef int end = byte_of(c, j), i, w
    if c.context >> kind & 1:
        return 1
    for i in range(end - reach if end > reach else 0, end):
        if FIRSTS[c.raw[i]] >> kind & 1:
            for w in range(MAX_WORDS):
                if WORD_LENGTH[kind][w] == 0:
                    break
                if WORD_LENGTH[kind][w] <= end - i and is_word(c.raw + i, kind, w):
                    return 1
    return 0


cdef inline bint is_word(const uint8_t *raw, int kind, int w) noexcept nogil:
    cdef int k
    cdef uint8_t byte
    for k in range(WORD_LENGTH[kind][w]):
        byte = raw[k]
        if 65 <= byte <= 90:
            byte += 32
        if byte != WORD[kind][w][k]:
            return 0
    return 1
