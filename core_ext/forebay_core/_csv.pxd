# One CSV record to the cells of a row.
from libc.stdint cimport int32_t, uint8_t, uint64_t
from libc.string cimport memchr, memcpy

from forebay_core._row_cells cimport (
    copy_text, column_for, room_for_scratch, store_bool, store_null, store_number, store_special, store_text,
    store_time,
)
from forebay_core._columns cimport *
from forebay_core._decimal cimport Number, lex_number


cdef inline bint is_word(const uint8_t *p, Py_ssize_t size, const char *word, Py_ssize_t n) noexcept nogil:
    """Say whether the text is the lower-case word, in any case."""
    cdef Py_ssize_t i
    if size != n:
        return False
    for i in range(n):
        if p[i] != <uint8_t>word[i] and (p[i] < c'A' or p[i] > c'Z' or p[i] + 32 != <uint8_t>word[i]):
            return False
    return True


cdef inline bint is_null_word(const uint8_t *p, Py_ssize_t size) noexcept nogil:
    """Say whether the text stands for no value where numbers are expected."""
    return (
        is_word(p, size, b"null", 4) or is_word(p, size, b"none", 4) or is_word(p, size, b"na", 2)
        or is_word(p, size, b"n/a", 3) or is_word(p, size, b"-", 1) or is_word(p, size, b"--", 2)
    )


cdef inline bint is_special(const uint8_t *p, Py_ssize_t size, double *value) noexcept nogil:
    """Read nan, inf and infinity with an optional sign."""
    cdef bint negative = False
    if size and (p[0] == c'-' or p[0] == c'+'):
        negative = p[0] == c'-'
        p += 1
        size -= 1
    if is_word(p, size, b"nan", 3):
        value[0] = NAN_VALUE
        return True
    if is_word(p, size, b"inf", 3) or is_word(p, size, b"infinity", 8):
        value[0] = -INF_VALUE if negative else INF_VALUE
        return True
    return False


cdef inline int store_cell(Parser *s, int node, const uint8_t *p, const uint8_t *end,
                           const uint64_t *powers) noexcept nogil:
    """Store the text of one cell."""
    cdef Node *n = &s.nodes[node]
    cdef const uint8_t *first = p
    cdef const uint8_t *last = end
    cdef double special = 0.0
    cdef Number number
    if n.role == ROLE_TIME:
        if p < end:
            return store_time(s, p, end, False)
        s.time_problem = TIME_MISSING
        return OK
    if p == end:
        return store_null(s, node, Q_NULL)
    if n.primary >= 0 and s.columns[n.primary].type == COL_STR:
        return store_text(s, node, KIND_TEXT, p, end, False)
    while first < last and (first[0] == c' ' or first[0] == c'\t'):
        first += 1
    while first < last and ((last - 1)[0] == c' ' or (last - 1)[0] == c'\t'):
        last -= 1
    if first == last:
        return store_null(s, node, Q_NULL)
    if lex_number(first, last, False, &number) == last:
        return store_number(s, node, &number, first, last, powers)
    if is_null_word(first, last - first):
        return store_null(s, node, Q_NULL)
    if is_word(first, last - first, b"true", 4):
        return store_bool(s, node, True, first, last)
    if is_word(first, last - first, b"false", 5):
        return store_bool(s, node, False, first, last)
    if is_special(first, last - first, &special):
        return store_special(s, node, special, first, last)
    return store_text(s, node, KIND_TEXT, p, end, False)


cdef inline int read_cells(Parser *s, const uint8_t *p, const uint8_t *end,
                           const uint64_t *powers) noexcept nogil:
    """Store one record after RFC 4180. A quote inside an unquoted cell is an ordinary character."""
    cdef const uint8_t *close
    cdef const uint8_t *from_
    cdef uint8_t *out
    cdef int answer
    while True:
        if p < end and p[0] == c'"':
            from_ = p + 1
            close = <const uint8_t *>memchr(from_, c'"', end - from_) if from_ < end else NULL
            if close != NULL and close + 1 < end and close[1] == c'"':
                if not room_for_scratch(s, end - p):
                    return NO_MEMORY
                out = s.scratch
                while close != NULL and close + 1 < end and close[1] == c'"':
                    memcpy(out, from_, close + 1 - from_)  # with one of the two quotes
                    out += close + 1 - from_
                    from_ = close + 2
                    close = <const uint8_t *>memchr(from_, c'"', end - from_) if from_ < end else NULL
                if close != NULL:
                    memcpy(out, from_, close - from_)
                    out += close - from_
                from_ = s.scratch
            elif close != NULL:
                out = <uint8_t *>close
            if close == NULL or (close + 1 < end and close[1] != s.delimiter):
                return BAD_LINE
            p = close + 1
        else:
            from_ = p
            close = <const uint8_t *>memchr(p, s.delimiter, end - p) if p < end else NULL
            p = end if close == NULL else close
            out = <uint8_t *>p
        if s.found < s.n_header:
            answer = store_cell(s, s.header[s.found], from_, out, powers)
            if answer != OK:
                return answer
        s.found += 1
        if p >= end:
            break
        p += 1
    return OK if s.found == s.n_header else BAD_CELLS
