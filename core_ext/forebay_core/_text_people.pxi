# Names and addresses: a second pass over the code points of a cell that holds ideographs, run only where
# these classes are asked for, and its merging with what the first pass found. Included by _text.pyx.

cdef void find_people(Cell *c, Hits *out, Hits *who) noexcept nogil:
    cdef const uint16_t *p = c.cp
    cdef int j, e, first = PAD, limit = PAD
    cdef uint16_t bits, before
    cdef bint wanted
    cdef Look look
    cdef bint names = out.classes >> NAME & 1, addresses = out.classes >> ADDRESS & 1
    who.n = 0
    while first < c.end and MARK[p[first]] & GAP:
        first += 1
    if addresses and c.context >> NEAR_ADDRESS & 1:
        e = chain(c, who, first, 1)
        limit = e if e else limit
    if names and limit == PAD and c.context >> NEAR_NAME & 1:
        e = name_at(p, first, FIELD)
        if e:
            limit = emit_person(c, who, first, e, NAME, 85)
    j = limit
    before = BITS[p[j - 1]]
    while j < c.end:
        bits = BITS[p[j]]
        # One branch for all that makes a place worth a look, as none of its parts can be foretold
        wanted = may_anchor(p + j) | ((bits & (CLOSES | LABELLING)) != 0) | ((before & (HAN | STOPS)) != HAN)
        if not wanted & ((bits & HAN) != 0):
            before = bits
            j += 1
            continue
        look_at(p + j, &look)
        e = 0
        if addresses and (look.all & (W_ADDRESS | W_CITY | W_COUNTY) or bits & CLOSES):
            e = address_at(c, who, &look, j, limit)
        # nothing else has a rule for names: a sign before it, a word for somebody, a title
        if e == 0 and names and (
                look.all & (W_FIELD | W_ROLE | W_TITLE) or before & (HAN | STOPS) != HAN or bits & LABELLING):
            e = name_near(c, out, who, &look, j, limit)
        if e:
            limit = e
        j = e if e > j else j + 1
        before = BITS[p[j - 1]]


cdef void merge_people(Hits *out, Hits *who) noexcept nogil:
    # Where numbers overlap with names and addresses, a name goes and an address is cut.
    cdef Py_ssize_t h = out.row_from, i, k, kept = 0
    cdef int64_t start, end
    for i in range(who.n):
        start, end = who.spans[3 * i + 1], who.spans[3 * i + 2]
        while h < out.n and out.spans[3 * h + 2] <= start:
            h += 1
        k = h
        while k < out.n and out.spans[3 * k + 1] < end and start < end:
            if who.codes[i] == NAME:
                start = end
            elif out.spans[3 * k + 1] > start:
                end = out.spans[3 * k + 1]
            else:
                start = end if end < out.spans[3 * k + 2] else out.spans[3 * k + 2]
            k += 1
        if start < end:
            who.spans[3 * kept + 1], who.spans[3 * kept + 2] = start, end
            who.codes[kept], who.confidence[kept] = who.codes[i], who.confidence[i]
            kept += 1
    if kept == 0 or not make_room(out, kept):
        return
    i = out.n - 1
    out.n += kept
    k = out.n - 1
    while kept:
        if i >= out.row_from and out.spans[3 * i + 1] > who.spans[3 * kept - 2]:
            copy_hit(out, k, out, i)
            i -= 1
        else:
            kept -= 1
            copy_hit(out, k, who, kept)
        k -= 1


cdef inline void copy_hit(Hits *to, Py_ssize_t k, Hits *source, Py_ssize_t i) noexcept nogil:
    to.spans[3 * k] = source.spans[3 * i]
    to.spans[3 * k + 1] = source.spans[3 * i + 1]
    to.spans[3 * k + 2] = source.spans[3 * i + 2]
    to.codes[k] = source.codes[i]
    to.confidence[k] = source.confidence[i]
