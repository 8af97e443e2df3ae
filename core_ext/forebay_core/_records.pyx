"""Where records begin and end: lines, CSV records with quoted newlines, elements of a JSON array.

Each span is four int64: start, end (without the line end), where the next record starts, and the number of
line ends before the record within this call.
"""

from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memchr


cdef inline void put_span(int64_t[:, ::1] spans, Py_ssize_t i, const uint8_t *base, const uint8_t *start,
                          const uint8_t *end, const uint8_t *after, int64_t line) noexcept nogil:
    if end > start and (end - 1)[0] == c'\r':
        end -= 1
    spans[i, 0] = start - base
    spans[i, 1] = end - base
    spans[i, 2] = after - base
    spans[i, 3] = line


def split_lines(const uint8_t[::1] data not None, Py_ssize_t start, bint final,
                int64_t[:, ::1] spans not None):
    if spans.shape[1] != 4:
        raise ValueError("spans are (n, 4)")
    if not 0 <= start < data.shape[0]:
        return 0
    cdef const uint8_t *base = &data[0]
    cdef const uint8_t *p = base + start
    cdef const uint8_t *end = base + data.shape[0]
    cdef const uint8_t *stop
    cdef Py_ssize_t i = 0, room = spans.shape[0]
    with nogil:
        while p < end and i < room:
            stop = <const uint8_t *>memchr(p, c'\n', end - p)
            if stop == NULL:
                if final:
                    put_span(spans, i, base, p, end, end, i)
                    i += 1
                break
            put_span(spans, i, base, p, stop, stop + 1, i)
            p = stop + 1
            i += 1
    return i


cdef inline const uint8_t *csv_end(const uint8_t *p, const uint8_t *end, uint8_t delimiter) noexcept nogil:
    """Find the newline that ends the CSV record at p: one outside of quotes. NULL: none."""
    cdef const uint8_t *stop = <const uint8_t *>memchr(p, c'\n', end - p)
    if stop != NULL and memchr(p, c'"', stop - p) == NULL:
        return stop
    if stop == NULL and memchr(p, c'"', end - p) == NULL:
        return NULL
    while True:
        if p < end and p[0] == c'"':
            p += 1
            while True:
                p = <const uint8_t *>memchr(p, c'"', end - p) if p < end else NULL
                if p == NULL:
                    return NULL
                p += 1
                if p >= end or p[0] != c'"':
                    break
                p += 1
        while p < end and p[0] != delimiter and p[0] != c'\n':
            p += 1
        if p >= end:
            return NULL
        if p[0] == c'\n':
            return p
        p += 1


def split_csv(const uint8_t[::1] data not None, Py_ssize_t start, bint final, int delimiter,
              int64_t[:, ::1] spans not None):
    if spans.shape[1] != 4:
        raise ValueError("spans are (n, 4)")
    if not 0 <= start < data.shape[0]:
        return 0
    cdef const uint8_t *base = &data[0]
    cdef const uint8_t *p = base + start
    cdef const uint8_t *end = base + data.shape[0]
    cdef const uint8_t *stop
    cdef const uint8_t *inner
    cdef Py_ssize_t i = 0, room = spans.shape[0]
    cdef int64_t line = 0
    with nogil:
        while p < end and i < room:
            stop = csv_end(p, end, <uint8_t>delimiter)
            if stop == NULL:
                if final:
                    put_span(spans, i, base, p, end, end, line)
                    i += 1
                break
            put_span(spans, i, base, p, stop, stop + 1, line)
            inner = p
            while inner != NULL and inner <= stop:
                inner = <const uint8_t *>memchr(inner, c'\n', stop + 1 - inner)
                if inner != NULL:
                    line += 1
                    inner += 1
            p = stop + 1
            i += 1
    return i


def split_array(const uint8_t[::1] data not None, int64_t[:, ::1] spans not None):
    """Find the elements of a JSON array by brackets and quotes; -1 if the text cannot be one."""
    if spans.shape[1] != 4:
        raise ValueError("spans are (n, 4)")
    cdef Py_ssize_t p = 0, end = data.shape[0], i = 0, start, room = spans.shape[0]
    cdef int depth = 0
    cdef bint quoted = False, blank = True, closed = False
    cdef uint8_t c
    while end > 0 and (data[end - 1] == 32 or 9 <= data[end - 1] <= 13):
        end -= 1
    while p < end and (data[p] == 32 or 9 <= data[p] <= 13):
        p += 1
    if end - p < 2 or data[p] != c'[':
        return -1
    p += 1
    start = p
    with nogil:
        while p < end and not closed:
            c = data[p]
            if quoted:
                if c == c'\\':
                    p += 1
                elif c == c'"':
                    quoted = False
            elif (c == c',' or c == c']') and depth == 0:
                closed = c == c']'
                if not (closed and blank and i == 0):
                    if i < room:
                        spans[i, 0], spans[i, 1], spans[i, 2], spans[i, 3] = start, p, p + 1, i
                    i += 1
                start = p + 1
                blank = True
            elif c == c'"':
                quoted = True
                blank = False
            elif c == c'{' or c == c'[':
                depth += 1
                blank = False
            elif c == c'}' or c == c']':
                depth -= 1
                if depth < 0:
                    break
            elif c > 32:
                blank = False
            p += 1
    return i if closed and p == end else -1
