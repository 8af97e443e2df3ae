# One cell to its column: what kind it is, where that kind goes.
from libc.math cimport floor
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

from forebay_core._columns cimport *
from forebay_core._decimal cimport Number, fits_int64, lex_number, to_double, to_scaled
from forebay_core._row_text cimport put_code_point, unescape
from forebay_core._timestamp cimport TIME_BAD, TIME_LOCAL, parse_iso


cdef inline double slow_double(const uint8_t *p, const uint8_t *end) noexcept nogil:
    """Python's own conversion, for the one number in thousands that needs exact arithmetic."""
    cdef double value
    with gil:
        value = float((<const char *>p)[:end - p])
    return value


cdef inline int find_node(
    Parser *s, int parent, const uint8_t *key, Py_ssize_t size, bint force
) noexcept nogil:
    """Return the node of a key, making it if there is room (or `force`). SKIPPED: no room. NO_MEMORY."""
    cdef uint32_t h = hash_key(parent, key, size)
    cdef uint32_t slot = h & s.table_mask
    cdef Node *node
    cdef int i
    while s.table[slot]:
        node = &s.nodes[s.table[slot] - 1]
        if node.hash == h and node.parent == parent and node.key_size == size:
            if memcmp(node.key, key, size) == 0:
                return s.table[slot] - 1
        slot = (slot + 1) & s.table_mask
    if size > MAX_KEY_BYTES and not force:
        return SKIPPED
    if s.n_nodes >= s.max_nodes:
        return SKIPPED
    if s.n_nodes == s.room_nodes:
        node = <Node *>realloc(s.nodes, (2 * s.room_nodes + 16) * sizeof(Node))
        if node == NULL:
            return NO_MEMORY
        s.nodes, s.room_nodes = node, 2 * s.room_nodes + 16
    node = &s.nodes[s.n_nodes]
    memset(node, 0, sizeof(Node))
    node.key = <uint8_t *>malloc(size + 1)
    if node.key == NULL:
        return NO_MEMORY
    memcpy(node.key, key, size)
    memcpy(&node.head, key, min(size, <Py_ssize_t>8))
    memset(&node.head_mask, 0xFF, min(size, <Py_ssize_t>8))
    node.key_size, node.parent, node.hash, node.next, node.primary = <int>size, parent, h, -1, -1
    # A decoded key with one of these cannot stand like that in the text of a key.
    node.plain = memchr(key, c'\\', size) == NULL and memchr(key, c'"', size) == NULL
    for i in range(N_KINDS):
        node.dest[i] = TO_STOP
    s.n_nodes += 1
    s.table[slot] = s.n_nodes
    return s.n_nodes - 1


cdef inline bint room_for_scratch(Parser *s, Py_ssize_t size) noexcept nogil:
    cdef uint8_t *scratch
    if size > s.room_scratch:
        scratch = <uint8_t *>realloc(s.scratch, 2 * size + 256)
        if scratch == NULL:
            return False
        s.scratch, s.room_scratch = scratch, 2 * size + 256
    return True


cdef inline void note_stop(Parser *s, int node, int kind) noexcept nogil:
    """Remember the first cell without a destination. The record is read on: a broken one asks for nothing."""
    if s.stop_node < 0:
        s.stop_node, s.stop_kind = node, kind


cdef inline Column *column_for(Parser *s, int node, int kind) noexcept nogil:
    """Return the column of a kind, NULL if the cell is done with."""
    cdef Node *n = &s.nodes[node]
    cdef int target = n.dest[kind]
    if target >= 0:
        s.cells += 1
        s.columns[target].seen |= <uint32_t>1 << kind
        if s.columns[target].type != COL_ANY:
            return &s.columns[target]
        s.columns[target].slots[s.row] = <int64_t>1 << kind
        s.columns[target].codes[s.row] = Q_GOOD
        return NULL
    if target == TO_STOP:
        s.cells += 1
        note_stop(s, node, kind)
    elif target == TO_IGNORE:
        s.ignored += 1
    else:
        put_null(&s.columns[n.primary], s.row, Q_TYPE if target == TO_TYPE else Q_OVERFLOW)
    return NULL


cdef inline int store_null(Parser *s, int node, int code) noexcept nogil:
    """Make the node's cell null. A field that had only nulls yet asks for a column first."""
    cdef Node *n = &s.nodes[node]
    if n.primary >= 0:
        put_null(&s.columns[n.primary], s.row, code)
    elif n.primary == TO_STOP:
        note_stop(s, node, KIND_NULL)
    return OK


cdef inline int copy_text(Parser *s, Column *c, const uint8_t *p, const uint8_t *end) noexcept nogil:
    """Store text as it is, NUL as U+FFFD."""
    cdef uint8_t *out
    cdef Py_ssize_t size = end - p
    open_cell(c, s.row)
    if size > c.limit:
        c.codes[s.row] = Q_SIZE
        s.cells -= 1
        return OK
    if memchr(p, 0, size) == NULL:
        if not reserve(c, size):
            return NO_MEMORY
        memcpy(c.data + c.size, p, size)
        c.size += size
    else:
        if not reserve(c, 3 * size):
            return NO_MEMORY
        out = c.data + c.size
        while p < end:
            if p[0] == 0:
                out += put_code_point(out, 0)
            else:
                out[0] = p[0]
                out += 1
            p += 1
        size = out - c.data - c.size
        if size > c.limit:
            c.codes[s.row] = Q_SIZE
            s.cells -= 1
            return OK
        c.size += size
    c.codes[s.row] = Q_GOOD
    return OK


cdef inline int store_text(
    Parser *s, int node, int kind, const uint8_t *p, const uint8_t *end, bint escaped
) noexcept nogil:
    """Store a string (KIND_TEXT) or a piece of JSON (KIND_JSON)."""
    cdef Column *c = column_for(s, node, kind)
    cdef Py_ssize_t size
    if c == NULL:
        return OK
    if not escaped:
        return copy_text(s, c, p, end)
    open_cell(c, s.row)
    if not reserve(c, end - p):
        return NO_MEMORY
    size = unescape(p, end, c.data + c.size, kind == KIND_JSON)
    if size < 0:
        return BAD_LINE
    if size > c.limit:
        c.codes[s.row] = Q_SIZE
        s.cells -= 1
        return OK
    c.size += size
    c.codes[s.row] = Q_GOOD
    return OK


cdef inline int store_number(Parser *s, int node, const Number *n, const uint8_t *p, const uint8_t *end,
                             const uint64_t *powers) noexcept nogil:
    """Store a number; p to end is its text."""
    cdef int64_t whole = 0
    cdef double value = 0.0
    cdef int kind = KIND_FLOAT
    cdef Column *c
    if n.integer:
        if n.padded or (n.plus and n.digits >= 10):
            kind = KIND_PADDED
            fits_int64(n, &whole)
        elif not fits_int64(n, &whole):
            kind = KIND_HUGE
        else:
            kind = KIND_INT if -EXACT <= whole <= EXACT else KIND_LONG
    c = column_for(s, node, kind)
    if c == NULL:
        return OK
    if c.type == COL_F64:
        if not to_double(n, powers, &value):
            value = slow_double(p, end)
        put_double(c, s.row, value)
    elif c.type == COL_I64:
        return store_whole(s, c, n, whole, p, end, powers)
    elif c.type == COL_STR:
        return copy_text(s, c, p, end)
    else:
        return store_flag(s, c, n.mantissa == 1 and not n.negative, n.integer and n.mantissa <= 1)
    return OK


cdef inline int store_flag(Parser *s, Column *c, bint flag, bint valid) noexcept nogil:
    if valid:
        c.slots[s.row] = flag
        c.codes[s.row] = Q_GOOD
    else:
        put_null(c, s.row, Q_TYPE)
        s.cells -= 1
    return OK


cdef inline int store_whole(Parser *s, Column *c, const Number *n, int64_t whole, const uint8_t *p,
                            const uint8_t *end, const uint64_t *powers) noexcept nogil:
    """Store into i64. A decimal whose value is whole (5.0, 1e3) passes, another is bad(type)."""
    cdef double value = 0.0
    if n.integer:
        if fits_int64(n, &whole):
            c.slots[s.row] = whole
            c.codes[s.row] = Q_GOOD
            return OK
        put_null(c, s.row, Q_OVERFLOW)
        s.cells -= 1
        return OK
    if not to_double(n, powers, &value):
        value = slow_double(p, end)
    if -<double>EXACT <= value <= <double>EXACT and floor(value) == value:
        c.slots[s.row] = <int64_t>value
        c.codes[s.row] = Q_GOOD
        return OK
    put_null(c, s.row, Q_TYPE)
    s.cells -= 1
    return OK


cdef inline int store_bool(Parser *s, int node, bint flag, const uint8_t *p,
                           const uint8_t *end) noexcept nogil:
    """Store true or false; in a str column its text."""
    cdef Column *c = column_for(s, node, KIND_BOOL)
    if c == NULL:
        return OK
    if c.type == COL_STR:
        return copy_text(s, c, p, end)
    c.slots[s.row] = flag
    c.codes[s.row] = Q_GOOD
    return OK


cdef inline int store_special(Parser *s, int node, double value, const uint8_t *p,
                              const uint8_t *end) noexcept nogil:
    """Store NaN or an infinity, which have no digits."""
    cdef Column *c = column_for(s, node, KIND_FLOAT)
    if c == NULL:
        return OK
    if c.type == COL_STR:
        return copy_text(s, c, p, end)
    if c.type == COL_F64:
        put_double(c, s.row, value)
    else:
        put_null(c, s.row, Q_NAN if value != value else Q_TYPE)
    s.cells -= c.codes[s.row] != Q_GOOD
    return OK


cdef inline int store_time(Parser *s, const uint8_t *p, const uint8_t *end, bint number) noexcept nogil:
    """Set the row's time. The rest of a record without a good one is still read, to count its values."""
    s.time_problem = read_time(s, p, end, number)
    return OK


cdef inline int read_time(Parser *s, const uint8_t *p, const uint8_t *end, bint number) noexcept nogil:
    """Read a time from text or the digits of a number. Returns OK or a Reason."""
    cdef Number n
    cdef int64_t value = 0
    cdef int status
    while p < end and (p[0] == c' ' or p[0] == c'\t'):
        p += 1
    while p < end and ((end - 1)[0] == c' ' or (end - 1)[0] == c'\t'):
        end -= 1
    s.local[s.row] = False
    if s.time_power != ISO:
        if p == end or lex_number(p, end, False, &n) != end or not to_scaled(&n, s.time_power, &value):
            return BAD_TIME
    elif number:
        return TIME_NUMBER
    else:
        status = parse_iso(p, end, &value)
        if status == TIME_BAD:
            return BAD_TIME
        if status == TIME_LOCAL:
            if not s.allow_naive:
                return TIME_NAIVE
            s.local[s.row] = True
    s.times[s.row] = value
    return OK


cdef inline void begin_record(Parser *s) noexcept nogil:
    s.time_problem = TIME_MISSING if s.timed else OK
    s.cells = s.ignored = 0
    s.found = 0
    s.last = s.stop_node = -1


cdef inline int end_record(Parser *s, int answer, int64_t record, int64_t line) noexcept nogil:
    """Close the row, or undo it and note why. Returns OK, STOP or NO_MEMORY."""
    cdef int64_t *rejects
    cdef int i
    if answer == OK:
        answer = s.time_problem
        if s.stop_node >= 0 and (answer == OK or answer == TIME_MISSING):
            answer = STOP  # the cell may turn out to be the time
    if answer == OK:
        s.lines[s.row] = line
        s.row += 1
        s.all_ignored += s.ignored
        return OK
    for i in range(s.n_columns):
        undo_row(&s.columns[i], s.row)
    if answer < 0:
        return answer
    if s.n_rejects == s.room_rejects:
        rejects = <int64_t *>realloc(s.rejects, (2 * s.room_rejects + 64) * 32)
        if rejects == NULL:
            return NO_MEMORY
        s.rejects, s.room_rejects = rejects, 2 * s.room_rejects + 64
    rejects = s.rejects + 4 * s.n_rejects
    rejects[0], rejects[1], rejects[2], rejects[3] = record, answer, s.cells, s.found
    s.n_rejects += 1
    return OK
