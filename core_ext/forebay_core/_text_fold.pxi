# Folding of a cell to one byte a character, and the output of hits. Included by _text.pyx.

cdef inline int hex_value(uint8_t c) noexcept nogil:
    if is_digit(c):
        return c - 48
    if KIND[c] & HEX:
        return (c & 0xDF) - 55
    return -1


cdef inline int escaped(const uint8_t *raw, int i, int n, uint8_t *symbol) noexcept nogil:
    # A JSON escape at raw[i] == backslash: its length and symbol, 0 if it is none.
    cdef int k, digit, code = 0
    cdef uint8_t c
    if i + 1 >= n:
        return 0
    c = raw[i + 1]
    if c == 110 or c == 114 or c == 116 or c == 98 or c == 102:  # n r t b f
        symbol[0] = 10
        return 2
    if c != 117 or i + 6 > n:  # u
        return 0
    for k in range(i + 2, i + 6):
        digit = hex_value(raw[k])
        if digit < 0:
            return 0
        code = code * 16 + digit
    symbol[0] = SYMBOL[code]
    return 6


cdef inline int percent(const uint8_t *raw, int i, int n, int inside, uint8_t *symbol) noexcept nogil:
    # A percent escape of a URL at raw[i]: 3 or 0. Only punctuation and UTF-8 bytes count, for `50%1381...`
    # is a percentage before a number. A continuation byte must follow another escape (`inside`).
    cdef int high, low, code
    if i + 2 >= n:
        return 0
    high, low = hex_value(raw[i + 1]), hex_value(raw[i + 2])
    if high < 0 or low < 0:
        return 0
    code = high * 16 + low
    if 0x20 <= code < 0x30 or 0x3A <= code <= 0x40:
        symbol[0] = <uint8_t> code
        return 3
    if code >= 0xC2 or (code >= 0x80 and inside):
        symbol[0] = OTHER
        return 3
    return 0


cdef inline int fold(const uint8_t *raw, int n, uint8_t *s, int32_t *pos) noexcept nogil:
    # Returns the index after the last symbol; pos there is n.
    cdef int i = 0, j = PAD, length, in_percent = 0
    cdef uint8_t byte, symbol
    memset(s, 0, PAD)
    while i < n:
        byte = raw[i]
        symbol = byte
        length = 1
        if byte < 0x80:
            if byte == 92:
                length = escaped(raw, i, n, &symbol)
            elif byte == 37:
                length = percent(raw, i, n, in_percent == i, &symbol)
                in_percent = i + length
            if length == 0:
                length = 1
        elif byte < 0xC2:
            symbol = OTHER
        elif byte < 0xE0:
            symbol = OTHER
            if i + 1 < n and raw[i + 1] & 0xC0 == 0x80:
                symbol = SYMBOL[(byte & 0x1F) << 6 | (raw[i + 1] & 0x3F)]
                length = 2
        elif byte < 0xF0:
            symbol = OTHER
            if i + 2 < n and raw[i + 1] & 0xC0 == 0x80 and raw[i + 2] & 0xC0 == 0x80:
                symbol = SYMBOL[(byte & 0x0F) << 12 | (raw[i + 1] & 0x3F) << 6 | (raw[i + 2] & 0x3F)]
                length = 3
        else:
            symbol = OTHER
        if symbol != SKIP:
            s[j] = symbol
            pos[j] = i
            j += 1
        i += length
    memset(s + j, 0, PAD)
    pos[j] = n
    return j


cdef inline void emit(Cell *c, Hits *out, int start, int end, int code, int confidence) noexcept nogil:
    cdef int64_t first = c.pos[start]
    cdef Py_ssize_t capacity
    cdef void *grown
    if not out.classes >> code & 1:
        return
    while out.n > out.row_from and out.spans[3 * out.n - 1] > first:
        out.n -= 1  # covered by this wider one
    if out.n == out.capacity:
        capacity = 2 * out.capacity if out.capacity else 256
        grown = realloc(out.spans, capacity * 24)
        if grown != NULL:
            out.spans = <int64_t *> grown
            grown = realloc(out.codes, capacity)
        if grown != NULL:
            out.codes = <uint8_t *> grown
            grown = realloc(out.confidence, capacity)
        if grown == NULL:
            out.failed = 1
            return
        out.confidence = <uint8_t *> grown
        out.capacity = capacity
    out.spans[3 * out.n] = c.row
    out.spans[3 * out.n + 1] = first
    out.spans[3 * out.n + 2] = c.pos[end]
    out.codes[out.n] = code
    out.confidence[out.n] = confidence
    out.n += 1


cdef inline bint near(Cell *c, int j, int kind) noexcept nogil:
    # Is a context word among the bytes before symbol j, or does the caller vouch for the context?
    cdef int end = c.pos[j], start, i, k, length, w
    cdef int reach = VERSION_BYTES if kind == NEAR_VERSION else CONTEXT_BYTES
    cdef uint8_t byte
    if c.context >> kind & 1:
        return 1
    start = end - reach if end > reach else 0
    for w in range(MAX_WORDS):
        length = WORD_LENGTH[kind][w]
        if length == 0:
            return 0
        for i in range(start, end - length + 1):
            k = 0
            while k < length:
                byte = c.raw[i + k]
                if 65 <= byte <= 90:
                    byte += 32
                if byte != WORD[kind][w][k]:
                    break
                k += 1
            if k == length:
                return 1
    return 0
