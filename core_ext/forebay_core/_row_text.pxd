# Scanning and copying of UTF-8 text.
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    BAD_TEXT = -1


cdef inline bint has_high_bit(const uint8_t *p, const uint8_t *end) noexcept nogil:
    """Say whether any byte is outside ASCII."""
    cdef uint64_t word, seen = 0
    while end - p >= 8:
        memcpy(&word, p, 8)
        seen |= word
        p += 8
    while p < end:
        seen |= (<uint64_t>p[0]) << 56
        p += 1
    return seen & <uint64_t>0x8080808080808080 != 0


cdef inline bint is_utf8(const uint8_t *p, const uint8_t *end) noexcept nogil:
    """Say whether the text is UTF-8 (RFC 3629: shortest forms, no surrogates, up to U+10FFFF)."""
    cdef uint8_t first, low, high
    cdef int more
    while p < end:
        first = p[0]
        p += 1
        if first < 0x80:
            continue
        low, high = 0x80, 0xBF
        if 0xC2 <= first <= 0xDF:
            more = 1
        elif 0xE0 <= first <= 0xEF:
            more = 2
            if first == 0xE0:
                low = 0xA0
            elif first == 0xED:
                high = 0x9F
        elif 0xF0 <= first <= 0xF4:
            more = 3
            if first == 0xF0:
                low = 0x90
            elif first == 0xF4:
                high = 0x8F
        else:
            return False
        if end - p < more or p[0] < low or p[0] > high:
            return False
        p += 1
        more -= 1
        while more:
            if p[0] & 0xC0 != 0x80:
                return False
            p += 1
            more -= 1
    return True


cdef inline const uint8_t *scan_string(const uint8_t *p, const uint8_t *end, bint *escaped) noexcept nogil:
    """Find the quote that closes a JSON string begun before p. NULL: none, or a control character."""
    cdef uint64_t word, quote, slash, found
    escaped[0] = False
    while True:
        # Eight bytes at once: a byte is zero after XOR with what is sought (Mycroft's test); control
        # characters borrow below 0x20. False alarms cost a look at single bytes, nothing else.
        while end - p >= 8:
            memcpy(&word, p, 8)
            quote = word ^ <uint64_t>0x2222222222222222
            slash = word ^ <uint64_t>0x5C5C5C5C5C5C5C5C
            found = (quote - <uint64_t>0x0101010101010101) & ~quote
            found |= (slash - <uint64_t>0x0101010101010101) & ~slash
            found |= (word - <uint64_t>0x2020202020202020) & ~word
            if found & <uint64_t>0x8080808080808080:
                break
            p += 8
        while p < end and p[0] != c'"' and p[0] != c'\\' and p[0] >= 0x20:
            p += 1
        if p >= end or p[0] < 0x20:
            return NULL
        if p[0] == c'"':
            return p
        escaped[0] = True
        p += 2  # what follows a backslash is judged when it is decoded
        if p > end:
            return NULL


cdef inline int hex4(const uint8_t *p) noexcept nogil:
    """Value of four hex digits, -1 if they are not."""
    cdef int i, value = 0, c
    for i in range(4):
        c = p[i]
        if c'0' <= c <= c'9':
            c -= c'0'
        elif c'a' <= (c | 32) <= c'f':
            c = (c | 32) - c'a' + 10
        else:
            return -1
        value = value * 16 + c
    return value


cdef inline int put_code_point(uint8_t *out, int code) noexcept nogil:
    """Write UTF-8; NUL and lone surrogates become U+FFFD. Returns the bytes written, at most 4."""
    if code == 0 or 0xD800 <= code <= 0xDFFF:
        code = 0xFFFD
    if code < 0x80:
        out[0] = <uint8_t>code
        return 1
    if code < 0x800:
        out[0] = <uint8_t>(0xC0 | code >> 6)
        out[1] = <uint8_t>(0x80 | (code & 0x3F))
        return 2
    if code < 0x10000:
        out[0] = <uint8_t>(0xE0 | code >> 12)
        out[1] = <uint8_t>(0x80 | (code >> 6 & 0x3F))
        out[2] = <uint8_t>(0x80 | (code & 0x3F))
        return 3
    out[0] = <uint8_t>(0xF0 | code >> 18)
    out[1] = <uint8_t>(0x80 | (code >> 12 & 0x3F))
    out[2] = <uint8_t>(0x80 | (code >> 6 & 0x3F))
    out[3] = <uint8_t>(0x80 | (code & 0x3F))
    return 4


cdef inline Py_ssize_t unescape(
    const uint8_t *p, const uint8_t *end, uint8_t *out, bint still_json
) noexcept nogil:
    """Decode the escapes of a JSON string (quotes excluded); never longer than its source.

    `still_json`: what JSON must escape stays escaped, only characters that need no escape are decoded, so
    that text kept as JSON hides nothing from who looks for names or numbers in it.
    Returns the bytes written, BAD_TEXT for an escape that does not exist.
    """
    cdef uint8_t *start = out
    cdef int code, second, c
    while p < end:
        if p[0] != c'\\':
            out[0] = p[0]
            out += 1
            p += 1
            continue
        if end - p < 2:
            return BAD_TEXT
        c = p[1]
        if c == c'u':
            code = hex4(p + 2) if end - p >= 6 else -1
            if code < 0:
                return BAD_TEXT
            p += 6
            if 0xD800 <= code < 0xDC00 and end - p >= 6 and p[0] == c'\\' and p[1] == c'u':
                second = hex4(p + 2)
                if 0xDC00 <= second < 0xE000:
                    code = 0x10000 + ((code - 0xD800) << 10) + (second - 0xDC00)
                    p += 6
            if still_json and code != 0 and (code < 0x20 or code == c'"' or code == c'\\'):
                memcpy(out, p - 6, 6)
                out += 6
            else:
                out += put_code_point(out, code)
            continue
        code = -1
        if c == c'"' or c == c'\\' or c == c'/':
            code = c
        elif c == c'n':
            code = 10
        elif c == c't':
            code = 9
        elif c == c'r':
            code = 13
        elif c == c'b':
            code = 8
        elif c == c'f':
            code = 12
        if code < 0:
            return BAD_TEXT
        if still_json and c != c'/':
            out[0] = c'\\'
            out += 1
            code = c
        out[0] = <uint8_t>code
        out += 1
        p += 2
    return out - start
