# Rules for addresses. Included by _text.pyx. Each returns an index, 0 for nothing.

cdef int closing(const uint16_t *p, int i, int start) noexcept nogil:
    # What kind of part of an address ends with the character i, for one that begins at `start`.
    cdef int room = i - start, kinds, three
    if room >= 3 and kinds_of(p + i - 2, 3) & W_PLACE:
        return PLACE
    if room >= 2:
        kinds = kinds_of(p + i - 1, 2)
        if kinds & W_NOT_ROAD:
            return 0
        if kinds & W_ROAD:
            return ROAD
        if kinds & W_PLACE:
            return PLACE
        three = kinds_of(p + i - 2, 3)
        if three & W_ZONE:
            return ZONE
        if kinds & W_AREA or three & W_AREA:
            return AREA
    if room < 1:
        return 0
    if MARK[p[i]] & ROADS_ONE:
        return 0 if kinds_of(p + i - 1, 2) & W_NOT_ROAD else ROAD
    if MARK[p[i]] & VILLAGES:
        return VILLAGE
    if MARK[p[i]] & AREAS_ONE:
        return AREA
    return PLACE if MARK[p[i]] & PLACES_ONE and room >= 2 else 0


cdef inline int back(const uint16_t *p, int j, int limit) noexcept nogil:
    # Where the name of a road or place that ends at j begins, as far as that can be told.
    cdef int k = j
    while k - 1 >= limit and j - k < BACK:
        if not BITS[p[k - 1]] & HAN or BITS[p[k - 1]] & STOPS:
            break
        if j - k >= 2 and kinds_of(p + k - 2, 2) & (W_AFTER | W_NOT_NAME | W_ADDRESS | W_ROLE | W_FIELD):
            break
        k -= 1
    return k


cdef inline int division(const uint16_t *p, int i) noexcept nogil:
    cdef int n = word(p + i, W_CITY | W_COUNTY), e, f, k
    if n == 0:
        return 0
    e = i + n
    if MARK[p[e]] & DIVISION_ENDS:
        return e + 1
    f = han_end(p, e, 14)
    for k in range(e, f - 2):
        if p[k] == 0x81EA and p[k + 1] == 0x6CBB and MARK[p[k + 2]] & DIVISION_ENDS:  # autonomous
            return k + 3
    return e if kinds_of(p + i, n) & W_CITY and not MARK[p[e]] & ROADS_ONE else 0


cdef inline int number(const uint16_t *p, int i, int *kind) noexcept nogil:
    # End of a number with its counter (`12号`, `三单元`, `B座`) and its kind.
    cdef int k = i
    cdef uint16_t c, follow
    while k - i < 8 and (is_point_alnum(p[k]) or p[k] == 45 or p[k] == 35 or BITS[p[k]] & NUMERAL):
        k += 1
    if k == i or not BITS[p[k]] & COUNTS or p[i] == 45 or p[i] == 35:
        return 0
    c, follow = p[k], p[k + 1]
    if c == 0x5355:  # 单, with 元 a staircase
        kind[0] = BUILDING
        return k + 2 if follow == 0x5143 else 0
    if c == 0x53F7:  # 号, a house; with 楼 or 院 a building
        if follow == 0x697C or follow == 0x9662:
            kind[0] = BUILDING
            return k + 2
        kind[0] = HOUSE
    elif c == 0x5F04 or c == 0x5DF7 or c == 0x9662 or c == 0x95E8:  # 弄巷院门
        kind[0] = HOUSE
    elif (c == 0x680B or c == 0x5E62 or c == 0x5EA7 or c == 0x697C or c == 0x820D or c == 0x68DF
            or c == 0x6A13):  # 栋幢座楼舍棟樓
        kind[0] = BUILDING
    elif c == 0x7EC4 or c == 0x961F or c == 0x793E or c == 0x5C6F:  # 组队社屯
        kind[0] = GROUP
    else:
        kind[0] = ROOM
    return k + 1


cdef inline int part(const uint16_t *p, int i, int *kind) noexcept nogil:
    # End of the named part (a road, an estate) that begins at i and its kind.
    cdef int k
    for k in range(i, i + REACH):
        if not BITS[p[k]] & HAN:
            if is_point_alnum(p[k]):
                continue
            break
        if BITS[p[k]] & STOPS or (k > i and word(p + k, W_AFTER)):
            break
        if k == i or not BITS[p[k]] & CLOSES:
            continue
        kind[0] = closing(p, k, i)
        if kind[0] == ROAD and p[k] == 0x8857 and p[k + 1] == 0x9053:  # a street, and the area named alike
            continue
        if kind[0] != ROAD and MARK[p[k + 1]] & ROADS_ONE:  # a road named after an area
            continue
        if kind[0]:
            return k + 1
    return 0


cdef inline int room_end(const uint16_t *p, int i) noexcept nogil:
    # End of a bare number behind a building.
    cdef int k = i, digits = 0
    while k - i < 14 and (is_point_digit(p[k]) or p[k] == 45 or p[k] == 35):
        digits = digits + 1 if is_point_digit(p[k]) else 0
        if digits > 4:
            return 0
        k += 1
    if digits == 0 or is_point_alnum(p[k]) or p[i] == 35 or BITS[p[k]] & COUNTS:
        return 0
    return k


cdef int chain(Cell *c, Hits *who, int start, bint label) noexcept nogil:
    # Follow the parts of an address from `start` on.
    cdef const uint16_t *p = c.cp
    cdef int i = start, last = start, divisions = 0, named = 0, numbered = 0, e, kind = 0, house
    while i < c.end and i - start < CHAIN:
        if i > start and last == i:
            if p[i] == 32 or p[i] == 44 or p[i] == 45:
                i += 1
            elif (p[i] == 10 or p[i] == 13) and gap_end(c.s, i):
                i = gap_end(c.s, i)
        e = 0 if named or numbered else division(p, i)
        if e:
            divisions += 1
            i = last = e
            continue
        e = number(p, i, &kind)
        if e:
            numbered |= kind
            i = last = e
            continue
        e = part(p, i, &kind)
        if e:
            named |= kind
            i = last = e
            continue
        e = room_end(p, i) if named & PLACE or numbered else 0
        if e == 0:
            break
        numbered |= ROOM
        i = last = e
    house = numbered & (HOUSE | BUILDING)
    if (
        (named & ROAD and house)
        or (named & PLACE and numbered & (BUILDING | ROOM))
        or (named & ZONE and house and (divisions or label or named & AREA))
        or (named & VILLAGE and numbered & (HOUSE | GROUP))
        or (divisions and (named & ROAD or (named & PLACE and (numbered or divisions > 1))))
        or (divisions > 1 and named & VILLAGE)
        or (label and (named & (ROAD | VILLAGE) or (named and (divisions or numbered)) or divisions > 1))
    ):
        return emit_person(c, who, start, last, ADDRESS, 90 if divisions or label else 75)
    return 0


cdef int address_at(Cell *c, Hits *who, Look *look, int j, int limit) noexcept nogil:
    cdef const uint16_t *p = c.cp
    cdef int n, k, e, kind
    if look.all & (W_ADDRESS | W_CITY | W_COUNTY):
        n = longest(look, W_ADDRESS)
        if n:
            k = skip(p, j + n, SEPARATES | PREPOSITION, 4)
            e = chain(c, who, k, 1)
            if e:
                return e
        if look.all & (W_CITY | W_COUNTY):
            e = chain(c, who, j, 0)
            if e:
                return e
    if BITS[p[j]] & CLOSES:
        kind = closing(p, j, limit if limit > j - REACH else j - REACH)
        if kind == PLACE and not (is_point_alnum(p[j + 1]) or p[j + 1] == 32 or p[j + 1] == 45):
            if not BITS[p[j + 1]] & NUMERAL:
                kind = 0  # a place alone is none: a number must follow
        if kind:
            k = back(p, j, limit)
            if k < (j if kind == ROAD or kind == PLACE else j - 1):
                return chain(c, who, k, 0)
    return 0
