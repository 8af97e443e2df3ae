# One JSON object to the cells of a row.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from forebay_core._row_cells cimport (
    find_node, room_for_scratch, store_bool, store_null, store_number, store_special, store_text, store_time,
)
from forebay_core._columns cimport *
from forebay_core._decimal cimport Number, fb_int_tens, fb_mul128, fb_tens, lex_number
from forebay_core._row_text cimport scan_string, unescape


cdef inline const uint8_t *skip_space(const uint8_t *p, const uint8_t *end) noexcept nogil:
    # Mostly there is none: one comparison tells.
    while p < end and p[0] <= c' ' and (p[0] == c' ' or p[0] == c'\t' or p[0] == c'\n' or p[0] == c'\r'):
        p += 1
    return p


cdef inline bint starts_with(const uint8_t *p, const uint8_t *end, const char *word,
                             Py_ssize_t n) noexcept nogil:
    return end - p >= n and memcmp(p, word, n) == 0


cdef inline int special_word(const uint8_t *p, const uint8_t *end, double *value) noexcept nogil:
    """Length of NaN, Infinity or -Infinity at p (Python's json writes them), 0 if it is none."""
    if starts_with(p, end, b"NaN", 3):
        value[0] = NAN_VALUE
        return 3
    if starts_with(p, end, b"Infinity", 8):
        value[0] = INF_VALUE
        return 8
    if starts_with(p, end, b"-Infinity", 9):
        value[0] = -INF_VALUE
        return 9
    return 0


cdef inline const uint8_t *skip_string(const uint8_t *p, const uint8_t *end, Parser *s,
                                       bint *escaped) noexcept nogil:
    """Pass a string whose quote was before p; NULL if it is broken."""
    cdef bint some
    cdef const uint8_t *close = scan_string(p, end, &some)
    if close == NULL:
        return NULL
    if some:
        escaped[0] = True
        if not room_for_scratch(s, close - p) or unescape(p, close, s.scratch, False) < 0:
            return NULL
    return close + 1


cdef inline const uint8_t *skip_value(const uint8_t *p, const uint8_t *end, Parser *s, int depth,
                                      bint *escaped) noexcept nogil:
    """Pass any value at p (no space before it); NULL if it is broken or nested too deep."""
    cdef Number n
    cdef double value
    cdef uint8_t closing
    cdef int size
    if p >= end or depth > MAX_NESTING:
        return NULL
    if p[0] == c'"':
        return skip_string(p + 1, end, s, escaped)
    if p[0] == c'{' or p[0] == c'[':
        closing = p[0] + 2  # in ASCII the closing one is two further
        p = skip_space(p + 1, end)
        if p < end and p[0] == closing:
            return p + 1
        while True:
            if closing == c'}':
                if p >= end or p[0] != c'"':
                    return NULL
                p = skip_string(p + 1, end, s, escaped)
                if p == NULL:
                    return NULL
                p = skip_space(p, end)
                if p >= end or p[0] != c':':
                    return NULL
                p = skip_space(p + 1, end)
            p = skip_value(p, end, s, depth + 1, escaped)
            if p == NULL:
                return NULL
            p = skip_space(p, end)
            if p >= end:
                return NULL
            if p[0] == closing:
                return p + 1
            if p[0] != c',':
                return NULL
            p = skip_space(p + 1, end)
    if starts_with(p, end, b"true", 4) or starts_with(p, end, b"null", 4):
        return p + 4
    if starts_with(p, end, b"false", 5):
        return p + 5
    size = special_word(p, end, &value)
    return p + size if size else lex_number(p, end, True, &n)


cdef inline bint is_key(const Node *n, const uint8_t *p, const uint8_t *end) noexcept nogil:
    """Say whether the key's bytes stand at p; there is room for them."""
    cdef uint64_t word
    if n.key_size <= 8 and end - p >= 8:
        memcpy(&word, p, 8)
        return (word ^ n.head) & n.head_mask == 0
    return memcmp(p, n.key, n.key_size) == 0


cdef inline int follow(Parser *s, int node) noexcept nogil:
    """Note that `node` came now, for the guess in the next record."""
    if s.last >= 0:
        s.nodes[s.last].next = node
    else:
        s.first = node
    s.last = node
    return node


cdef inline int key_node(Parser *s, const uint8_t **at, const uint8_t *end, int parent) noexcept nogil:
    """Read the key after the quote at *at; *at goes behind its closing quote. BAD_KEY if it is broken."""
    cdef const uint8_t *p = at[0]
    cdef const uint8_t *close
    cdef int guess = s.nodes[s.last].next if s.last >= 0 else s.first, node
    cdef Node *n
    cdef bint escaped
    cdef Py_ssize_t size
    if guess >= 0:
        n = &s.nodes[guess]
        size = n.key_size
        if n.parent == parent and n.plain and end - p > size and p[size] == c'"':
            if is_key(n, p, end):
                at[0] = p + size + 1
                s.last = guess
                return guess
    close = scan_string(p, end, &escaped)
    if close == NULL:
        return BAD_KEY
    at[0] = close + 1
    size = close - p
    if escaped:
        if not room_for_scratch(s, size):
            return NO_MEMORY
        size = unescape(p, close, s.scratch, False)
        if size < 0:
            return BAD_KEY
        p = s.scratch
    node = find_node(s, parent, p, size, False)
    return follow(s, node) if node >= 0 else node


cdef inline const uint8_t *plain_member(Parser *s, const uint8_t *p, const uint8_t *end,
                                        int parent) noexcept nogil:
    """Store a member whose key begins at p, behind its quote, if nothing about it is unusual.

    Usual is what fills most records: the key that came here last time, no space, a number of at most 15
    digits without exponent, a column for it or the time. Any other member leaves no trace and is for
    `read_value`. The byte before `end` must be no digit: it ends every run of them. Returns the member's end,
    or p if it was not stored.
    """
    cdef int guess = s.nodes[s.last].next if s.last >= 0 else s.first
    cdef const uint8_t *at
    cdef const uint8_t *first
    cdef const uint8_t *point
    cdef uint64_t mantissa = 0, high
    cdef double value
    cdef int kind = KIND_INT, target, places = 0
    cdef uint8_t digit
    cdef bint negative
    cdef Node *n
    cdef Column *c
    if guess < 0:
        return p
    n = &s.nodes[guess]
    if n.parent != parent or not n.plain or end - p <= n.key_size + 2:
        return p
    at = p + n.key_size
    if at[0] != c'"' or at[1] != c':' or not is_key(n, p, end):
        return p
    at += 2
    negative = at[0] == c'-'
    at += negative
    first = at
    digit = at[0] - c'0'
    while digit <= 9:
        mantissa = mantissa * 10 + digit
        at += 1
        digit = at[0] - c'0'
    if at == first or (first[0] == c'0' and at - first > 1):
        return p
    if at[0] == c'.':
        kind = KIND_FLOAT
        point = at
        at += 1
        digit = at[0] - c'0'
        while digit <= 9:
            mantissa = mantissa * 10 + digit
            at += 1
            digit = at[0] - c'0'
        places = <int>(at - point) - 1
        if places == 0:
            return p
    if at - first > 15 or (at[0] != c',' and at[0] != c'}'):
        return p
    if n.role == ROLE_TIME:
        if kind != KIND_INT or not 0 <= s.time_power <= 18:  # below 0: ISO 8601, where a number is no time
            return p
        mantissa = fb_mul128(mantissa, fb_int_tens[s.time_power], &high)
        if high or mantissa > <uint64_t>0x7FFFFFFFFFFFFFFF:
            return p
        s.local[s.row] = False
        s.times[s.row] = -<int64_t>mantissa if negative else <int64_t>mantissa
        s.time_problem = OK
    else:
        target = n.dest[kind]
        if target < 0:
            return p
        c = &s.columns[target]
        if c.type == COL_F64:
            # both factors are exact, so the quotient is the nearest double: see to_double
            value = <double>mantissa / fb_tens[places]
            value = -value if negative else value
            memcpy(&c.slots[s.row], &value, 8)
        elif c.type == COL_I64 and kind == KIND_INT:
            c.slots[s.row] = -<int64_t>mantissa if negative else <int64_t>mantissa
        else:
            return p
        c.codes[s.row] = Q_GOOD
        c.seen |= <uint32_t>1 << kind
        s.cells += 1
    s.last = guess
    return at


cdef inline int read_value(Parser *s, const uint8_t **at, const uint8_t *end, int node, int depth,
                           const uint64_t *powers) noexcept nogil:
    """Store the value at *at under a node; *at goes behind it."""
    cdef const uint8_t *p = at[0]
    cdef const uint8_t *close
    cdef bint escaped = False, is_time
    cdef double special = 0.0
    cdef int size
    cdef Number n
    if p >= end:
        return BAD_LINE
    if node < 0:
        close = skip_value(p, end, s, depth, &escaped)
        at[0] = close
        s.ignored += 1
        return OK if close != NULL else BAD_LINE
    is_time = s.nodes[node].role == ROLE_TIME
    if p[0] == c'{' and depth < MAX_DEPTH and not is_time:
        at[0] = p + 1
        return read_object(s, at, end, node, depth + 1, powers)
    if p[0] == c'"':
        close = scan_string(p + 1, end, &escaped)
        if close == NULL:
            return BAD_LINE
        at[0] = close + 1
        if not is_time:
            return store_text(s, node, KIND_TEXT, p + 1, close, escaped)
        if not escaped:
            return store_time(s, p + 1, close, False)
        if not room_for_scratch(s, close - p):
            return NO_MEMORY
        size = <int>unescape(p + 1, close, s.scratch, False)
        return store_time(s, s.scratch, s.scratch + size, False) if size >= 0 else BAD_LINE
    if p[0] == c'-' or c'0' <= p[0] <= c'9':
        close = lex_number(p, end, True, &n)
        if close != NULL:
            at[0] = close
            return store_time(s, p, close, True) if is_time else store_number(s, node, &n, p, close, powers)
    close = skip_value(p, end, s, depth, &escaped)
    at[0] = close
    if close == NULL:
        return BAD_LINE
    if is_time:
        s.time_problem = BAD_TIME
        return OK
    if p[0] == c'n':
        return store_null(s, node, Q_NULL)
    if p[0] == c't' or p[0] == c'f':
        return store_bool(s, node, p[0] == c't', p, close)
    if p[0] == c'[' or p[0] == c'{':
        return store_text(s, node, KIND_JSON, p, close, escaped)
    special_word(p, end, &special)
    return store_special(s, node, special, p, close)


cdef inline int read_object(Parser *s, const uint8_t **at, const uint8_t *end, int parent, int depth,
                            const uint64_t *powers) noexcept nogil:
    """Store the members of an object whose brace was before *at."""
    cdef const uint8_t *p = skip_space(at[0], end)
    cdef const uint8_t *plain
    cdef int node, answer
    if p < end and p[0] == c'}':
        at[0] = p + 1
        return OK
    while True:
        if p >= end or p[0] != c'"':
            return BAD_LINE
        if (end - 1)[0] == c'}':
            plain = plain_member(s, p + 1, end, parent)
            if plain != p + 1:
                p = plain
                if p[0] == c'}':
                    at[0] = p + 1
                    return OK
                p = skip_space(p + 1, end)
                continue
        at[0] = p + 1
        node = key_node(s, at, end, parent)
        if node == BAD_KEY:
            return BAD_LINE
        if node == NO_MEMORY:
            return NO_MEMORY
        p = skip_space(at[0], end)
        if p >= end or p[0] != c':':
            return BAD_LINE
        at[0] = skip_space(p + 1, end)
        answer = read_value(s, at, end, node, depth, powers)
        if answer != OK:
            return answer
        p = skip_space(at[0], end)
        if p >= end:
            return BAD_LINE
        if p[0] == c'}':
            at[0] = p + 1
            return OK
        if p[0] != c',':
            return BAD_LINE
        p = skip_space(p + 1, end)


cdef inline int read_record(Parser *s, const uint8_t *p, const uint8_t *end,
                            const uint64_t *powers) noexcept nogil:
    """Store one record, which must be an object and nothing else."""
    cdef int answer
    p = skip_space(p, end)
    if p >= end or p[0] != c'{':
        return BAD_LINE
    p += 1
    answer = read_object(s, &p, end, ROOT, 0, powers)
    if answer == OK and skip_space(p, end) != end:
        return BAD_LINE
    return answer
