"""Decoder of integer streams: untrusted bytes to int64 values. See _int_encoder.pyx for the layout.

Every length is checked against the bytes that are there; -1 says that they are not a stream.
"""

from forebay_core._bits cimport get_varint, unzigzag
from forebay_core._ints cimport (
    CENTRED, CONSTANT, DELTA, DOD, FRAME, GROUP_DELTA, GROUP_DOD, KINDS, LINEAR, SCALED, check_groups
)
from forebay_core._residuals cimport get_residuals
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset


cdef struct Work:
    uint64_t* u       # n residuals
    uint64_t* firsts  # n
    uint64_t* last    # n_groups: latest value
    uint64_t* step    # n_groups: latest delta
    uint8_t* seen     # n_groups
    int64_t n_groups


cdef bint allocate(Work* w, int64_t n, int64_t n_groups) noexcept nogil:
    """One block of memory for all work arrays; False when there is none. Freed through w.u."""
    cdef int64_t words = 2 * n + 2 * n_groups
    cdef uint8_t* memory = <uint8_t*>malloc(8 * words + n_groups)
    if memory is NULL:
        return False
    w.u = <uint64_t*>memory
    w.firsts = w.u + n
    w.last = w.firsts + n
    w.step = w.last + n_groups
    w.seen = memory + 8 * words
    w.n_groups = n_groups
    return True


cdef int64_t undo_groups(
    int kind, uint64_t* y, int64_t n, const int32_t* groups, uint64_t bias, Work* w
) noexcept nogil:
    cdef int64_t i, count = 0, firsts = 0
    cdef int32_t g
    memset(w.seen, 0, w.n_groups)
    for i in range(n):
        g = groups[i]
        if not w.seen[g]:
            w.seen[g] = 1
            w.step[g] = 0
            w.last[g] = w.firsts[firsts]
            firsts += 1
        else:
            w.step[g] = unzigzag(w.u[count]) + (bias if kind == GROUP_DELTA else w.step[g])
            w.last[g] += w.step[g]
            count += 1
        y[i] = w.last[g]
    return n


cdef int64_t count_firsts(const int32_t* groups, int64_t n, Work* w) noexcept nogil:
    cdef int64_t i, firsts = 0
    memset(w.seen, 0, w.n_groups)
    for i in range(n):
        if not w.seen[groups[i]]:
            w.seen[groups[i]] = 1
            firsts += 1
    return firsts


cdef int64_t get_ints(
    const uint8_t* data, int64_t at, int64_t size, uint64_t* x, int64_t n, const int32_t* groups,
    int64_t n_groups
) noexcept nogil:
    """Read n >= 1 values; return the position after them, -1 if the bytes are not a stream."""
    cdef uint64_t base, g = 1, bias = 0, fraction = 0
    cdef int64_t i, count = n
    cdef int head, kind, coder
    cdef Work w
    if at >= size:
        return -1
    head = data[at]
    kind, coder = head & 15, (head >> 4) & 3
    if head & 0x80 or kind >= KINDS or (kind >= GROUP_DELTA and groups is NULL):
        return -1
    at = get_varint(data, at + 1, size, &base)
    base = unzigzag(base)
    if at >= 0 and head & SCALED:
        at = get_varint(data, at, size, &g)
    if at >= 0 and kind >= DELTA and kind != GROUP_DOD:
        at = get_varint(data, at, size, &bias)
        bias = unzigzag(bias)
    if at >= 0 and kind == LINEAR:
        at = get_varint(data, at, size, &fraction)
    if at < 0 or fraction > 65535:
        return -1
    if kind == CONSTANT:
        for i in range(n):
            x[i] = base
        return at
    if not allocate(&w, n, n_groups if groups is not NULL else 0):
        return -2
    if kind == DELTA:
        count = n - 1
    elif kind == DOD:
        count = max(n - 2, <int64_t>0)
    elif kind >= GROUP_DELTA:
        i = count_firsts(groups, n, &w)
        count = n - i
        at = get_ints(data, at, size, w.firsts, i, NULL, 0)
    if at >= 0:
        at = get_residuals(data, at, size, coder, w.u, count)
    if at < 0:
        free(w.u)
        return at
    if kind == FRAME:
        for i in range(n):
            x[i] = w.u[i]
    elif kind == CENTRED:
        for i in range(n):
            x[i] = unzigzag(w.u[i])
    elif kind == DELTA:
        x[0] = 0
        for i in range(1, n):
            x[i] = x[i - 1] + unzigzag(w.u[i - 1]) + bias
    elif kind == DOD:
        x[0] = 0
        for i in range(1, n):
            if i > 1:
                bias += unzigzag(w.u[i - 2])
            x[i] = x[i - 1] + bias
    elif kind == LINEAR:
        for i in range(n):
            x[i] = unzigzag(w.u[i]) + bias * <uint64_t>i + ((fraction * <uint64_t>i) >> 16)
    else:
        undo_groups(kind, x, n, groups, bias, &w)
    for i in range(n):
        x[i] = base + g * x[i]
    free(w.u)
    return at


def decode_ints(
    const uint8_t[::1] data not None,
    int64_t start,
    int64_t[::1] out not None,
    const int32_t[::1] groups=None,
    int64_t n_groups=0,
):
    """Read len(out) values from the stream at data[start:].

    Parameters
    ----------
    data : uint8 (size,), untrusted  IN
    start : position of the stream
    out : int64 (n,), caller-allocated; its content is undefined after an error  OUT
    groups, n_groups : as they were given to encode_ints

    Returns
    -------
    int : the position after the stream, -1 if the bytes are not a stream

    Raises
    ------
    ValueError : groups of another length or out of range
    """
    cdef int64_t n = out.shape[0], size = data.shape[0], end
    cdef const uint8_t* first = &data[0] if size else NULL
    cdef const int32_t* first_group = NULL
    if groups is not None:
        check_groups(groups, n, n_groups)
        if n:
            first_group = &groups[0]
    if start < 0 or start > size:
        return -1
    if n == 0:
        return start
    with nogil:
        end = get_ints(first, start, size, <uint64_t*>&out[0], n, first_group, n_groups)
    if end == -2:
        raise MemoryError
    return end
