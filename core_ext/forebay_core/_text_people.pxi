# Names and addresses: a second pass over the code points of a cell that holds ideographs, run only where
# these classes are asked for, and its merging with what the first pass found. Included by _text.pyx.

cdef int next_place(const uint16_t *p, int j, int end) noexcept nogil:
    # The first ideograph from j on where a rule may begin or end: perhaps a word that one looks for, a
    # character that closes a part of an address or a word for somebody, the first one behind a sign or
    # behind what is in no name.
    cdef uint16_t before = STEP[p[j - 1]], here = STEP[p[j]], behind
    while j < end:
        behind = STEP[p[j + 1]]
        if here & STEP_HAN and (before & STEP_OPENS) | (here & STEP_ENDS) | (here & STEP_LEADS & behind >> 8):
            return j
        before, here = here, behind
        j += 1
    return j


cdef void find_people(Cell *c, Hits *out, Hits *who) noexcept nogil:
    cdef const uint16_t *p = c.cp
    cdef int j, e, first = PAD, limit = PAD
    cdef uint16_t bits, before
    cdef Look look
    cdef bint names = out.classes >> NAME & 1, addresses = out.classes >> ADDRESS & 1
    who.n = 0
    if not who.ready:
        who.lacking = True
        return
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
    while j < c.end:
        j = next_place(p, j, c.end)
        if j >= c.end:
            return
        bits, before = BITS[p[j]], BITS[p[j - 1]]
        if may_anchor(p + j):
            look_at(p + j, &look)
        else:
            look.all = 0  # no word that a rule begins at
        e = 0
        if addresses and (look.all & (W_ADDRESS | W_CITY | W_COUNTY) or bits & CLOSES):
            e = address_at(c, who, &look, j, limit)
        # nothing else has a rule for names: a sign before it, a word for somebody, a title, another name
        if e == 0 and names and (
                look.all & (W_FIELD | W_ROLE | W_TITLE) or before & (HAN | STOPS) != HAN or bits & LABELLING
                or coordinated(c, who, j)):
            e = name_near(c, out, who, &look, j, limit)
        if e:
            limit = e
        j = e if e > j else j + 1


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
    insert_hits(out, who, kept)


cdef void insert_hits(Hits *out, Hits *more, Py_ssize_t kept) noexcept nogil:
    # Put the first hits of another list among those of the row, in order.
    cdef Py_ssize_t i, k
    if kept == 0 or not make_room(out, kept):
        return
    i = out.n - 1
    out.n += kept
    k = out.n - 1
    while kept:
        if i >= out.row_from and out.spans[3 * i + 1] > more.spans[3 * kept - 2]:
            copy_hit(out, k, out, i)
            i -= 1
        else:
            kept -= 1
            copy_hit(out, k, more, kept)
        k -= 1


cdef inline void copy_hit(Hits *to, Py_ssize_t k, Hits *source, Py_ssize_t i) noexcept nogil:
    to.spans[3 * k] = source.spans[3 * i]
    to.spans[3 * k + 1] = source.spans[3 * i + 1]
    to.spans[3 * k + 2] = source.spans[3 * i + 2]
    to.codes[k] = source.codes[i]
    to.confidence[k] = source.confidence[i]
