# Rules for names. Included by _text.pyx. Each returns an index, 0 for nothing.

cdef inline int dotted(const uint16_t *p, int k) noexcept nogil:
    # A transliterated name with a dot in it: its end.
    cdef int e = han_end(p, k, 8), f, i, parts = 0, foreign = 0, total = e - k
    if SYMBOL[p[e]] != MIDDLE_DOT:
        return 0
    for i in range(k, e):
        foreign += (BITS[p[i]] & TRANSLITERATES) != 0
    while e > k and parts < 3 and SYMBOL[p[e]] == MIDDLE_DOT and BITS[p[e + 1]] & HAN:
        f = han_end(p, e + 1, 8)
        for i in range(e + 1, f):
            foreign += (BITS[p[i]] & TRANSLITERATES) != 0
        total += f - e - 1
        e = f
        parts += 1
    return e if parts and total >= 4 and 3 * foreign >= 2 * total else 0


cdef inline bint no_name(const uint16_t *p) noexcept nogil:
    return word(p, W_NOT_NAME | W_FIELD | W_NUMBER | W_ADDRESS)


cdef inline int given_end(const uint16_t *p, int i, int *weight) noexcept nogil:
    # End of a given name that begins at i, and the weight of its second character (0: it has one).
    cdef int g = given(p[i + 1])
    cdef bint closed
    weight[0] = 0
    if not BITS[p[i + 1]] & HAN or g == 0 or word(p + i + 1, W_AFTER):
        return i + 1
    closed = not BITS[p[i + 2]] & HAN or given(p[i + 2]) == 0 or word(p + i + 2, W_AFTER)
    if not closed and (g < 2 or BITS[p[i + 1]] & FOLLOWS):
        return i + 1
    weight[0] = g
    return i + 2


cdef inline int unlisted(const uint16_t *p, int k) noexcept nogil:
    # What a form has in the place of a name, though its surname is in no list.
    cdef int e = han_end(p, k, 5), i
    if e - k < 2 or e - k > 4:
        return 0
    for i in range(k, e):
        if given(p[i]) == 0:
            return 0
    return e


cdef inline bint is_closed(const uint16_t *p, int e) noexcept nogil:
    # Does a name that ends at e end there for sure?
    return not BITS[p[e]] & HAN or word(p + e, W_AFTER)


cdef int name_at(const uint16_t *p, int k, int level) noexcept nogil:
    # End of a name that begins at k.
    cdef int e, i, s, g, g1
    cdef bint compound
    if not BITS[p[k]] & HAN:
        return 0
    e = dotted(p, k)
    if e:
        return e
    compound = (kinds_of(p + k, 2) & W_COMPOUND) != 0
    i = k + 2 if compound else k + 1
    s = 3 if compound else surname(p[k])
    if not compound and no_name(p + k):
        # a name may begin like a word: where a form has nothing but three characters, they are one
        if level != PROSE and han_end(p, k, 4) == k + 3 and s and given(p[k + 2]) >= 2 and (
                word(p + k, W_NOT_NAME) == 2):
            return k + 3
        return 0
    if s == 0:
        return unlisted(p, k) if level == FIELD else 0
    if level == FIELD:
        e = han_end(p, k, 5)
        if 1 <= e - i <= 2:
            return e
    if not BITS[p[i]] & HAN or given(p[i]) == 0 or word(p + i, W_AFTER):
        return 0
    if not compound and level != FIELD and word(p + k, W_CITY):
        return 0
    if level != FIELD and BITS[p[k]] & FOLLOWS and word(p + i, W_NOT_NAME | W_ROLE):
        return 0  # a preposition that is a surname too, and a word behind it
    e = given_end(p, i, &g)
    g1 = given(p[i])
    if level == FIELD:
        return e
    if e - i == 2:
        if level == ROLE:  # a verb behind it is a second sign
            return e if s + g1 + g >= (5 if word(p + e, W_AFTER) else 6) else 0
        return e if g1 >= 2 and g >= 2 else 0
    if level == ROLE:
        if is_closed(p, e):
            return e if s == 3 or (g1 >= 2 and s + g1 >= (3 if word(p + e, W_AFTER) else 4)) else 0
        return e if s == 3 and g1 >= 2 else 0
    return e if g1 == 3 else 0


cdef int name_before(const uint16_t *p, int j, int limit) noexcept nogil:
    # Start of a name that ends at j, before a title.
    cdef int k, two_score = 0, three = 0
    if j - 4 >= limit and kinds_of(p + j - 4, 2) & W_COMPOUND and given(p[j - 2]) and given(p[j - 1]):
        return j - 4
    if j - 3 >= limit and kinds_of(p + j - 3, 2) & W_COMPOUND and given(p[j - 1]):
        return j - 3
    k = j - 2
    if k >= limit and surname(p[k]) and given(p[k + 1]) and not no_name(p + k):
        two_score = 2 * surname(p[k]) + given(p[k + 1]) + 1
    k = j - 3
    if k >= limit and surname(p[k]) and given(p[k + 1]) and given(p[k + 2]) and not no_name(p + k):
        three = 2 * surname(p[k]) + given(p[k + 1]) + given(p[k + 2])
        if surname(p[k + 1]) == 3 and given(p[k + 1]) < 3:
            three -= 3
    if three >= 6 and three > two_score:
        return j - 3
    return j - 2 if two_score >= 5 else 0


cdef bint latin_label(const uint16_t *p, int j) noexcept nogil:
    # Does a word such as `contact` stand before j, with a colon or an equals sign between?
    cdef int i = j, n, k
    cdef bint sign = False
    cdef uint64_t packed = 0, mask
    while j - i < 6 and MARK[p[i - 1]] & SEPARATES:
        i -= 1
        sign |= p[i] == 58 or p[i] == 61 or p[i] == 62
    if not sign:
        return False
    n = 0
    while n < 8 and p[i - 1] < 128 and KIND[p[i - 1]] & LETTER:
        i -= 1
        packed |= (<uint64_t> (p[i] | 0x20)) << (8 * n)
        n += 1
    for k in range(N_LATIN):
        if LATIN_LENGTH[k] <= n:
            mask = <uint64_t> 0xFFFFFFFFFFFFFFFF >> (64 - 8 * LATIN_LENGTH[k])
            if packed & mask == LATIN[k]:
                return True
    return False


cdef inline bint is_neighbour(uint8_t code) noexcept nogil:
    return (code == MOBILE or code == RESIDENT_ID or code == BANK_CARD or code == PASSPORT
            or code == LANDLINE or code == PLATE)


cdef bint hit_at(Hits *out, int64_t place, int column) noexcept nogil:
    # Does a number of the row start (column 1) or end (column 2) at a byte?
    cdef Py_ssize_t low = out.row_from, high = out.n, middle
    while low < high:
        middle = (low + high) // 2
        if out.spans[3 * middle + column] < place:
            low = middle + 1
        else:
            high = middle
    return low < out.n and out.spans[3 * low + column] == place and is_neighbour(out.codes[low])


cdef bint beside_number(Cell *c, Hits *out, int j, int f) noexcept nogil:
    cdef const uint16_t *p = c.cp
    cdef int k = skip(p, f, GAP, 3), i = j
    if word(p + k, W_NUMBER):
        k = skip(p, han_end(p, k, 8), GAP, 3)
    if p[k] == 43:
        k += 1
    if p[k] == 56 and p[k + 1] == 54:
        k = skip(p, k + 2, GAP, 1)
    while j - i < 3 and MARK[p[i - 1]] & GAP:
        i -= 1
    return hit_at(out, c.pos[k], 1) or hit_at(out, c.pos[i], 2)


cdef inline bint beside_gender(const uint16_t *p, int f) noexcept nogil:
    cdef int k = skip(p, f, GAP, 3)
    return k > f and (p[k] == 0x7537 or p[k] == 0x5973) and not BITS[p[k + 1]] & HAN


cdef inline bint coordinated(Cell *c, Hits *who, int j) noexcept nogil:
    # Does j stand behind a name and a word for `and`?
    cdef int64_t end
    if who.n == 0 or who.codes[who.n - 1] != NAME:
        return False
    end = who.spans[3 * who.n - 1]
    if end == c.pos[j - 1]:
        return (c.cp[j - 1] == JOINING[0] or c.cp[j - 1] == JOINING[1] or c.cp[j - 1] == JOINING[2]
                or c.cp[j - 1] == JOINING[3])
    return end == c.pos[j] and c.cp[j - 1] == JOINING[0]


cdef inline bint goes_on(Cell *c, Hits *who, int j) noexcept nogil:
    # Does j stand behind a name in a list of them?
    cdef int i = j
    while j - i < 2 and MARK[c.cp[i - 1]] & GAP:
        i -= 1
    return i > PAD and i < j and who.n and who.codes[who.n - 1] == NAME and (
        who.spans[3 * who.n - 1] == c.pos[i])


cdef inline bint labelled_by_colon(const uint16_t *p, int j) noexcept nogil:
    # Does a word for somebody stand before j, with a colon between?
    cdef int i = j, n
    cdef bint colon = False
    while j - i < 3 and MARK[p[i - 1]] & SEPARATES:
        i -= 1
        colon |= p[i] == 58
    if not colon:
        return False
    for n in range(2, 5):
        if i - n >= PAD and kinds_of(p + i - n, n) & (W_FIELD | W_ROLE):
            return True
    return False


cdef int segment(Cell *c, Hits *out, Hits *who, int j) noexcept nogil:
    # The characters from j to the next of another kind, as a whole.
    cdef const uint16_t *p = c.cp
    cdef int f = han_end(p, j, 5), n = f - j, e, i, s, first, second
    cdef bint compound, certain
    if n < 2 or n > 4:
        return 0
    e = dotted(p, j)
    if e:
        return emit_person(c, who, j, e, NAME, 75)
    compound = n > 2 and (kinds_of(p + j, 2) & W_COMPOUND) != 0
    s = 3 if compound else surname(p[j])
    i = j + 2 if compound else j + 1
    if s == 0 or f - i > 2 or (not compound and no_name(p + j)):
        return 0
    first = given(p[i])
    second = given(p[i + 1]) if f - i == 2 else -1
    if first == 0 or second == 0 or kinds_of(p + j, n) & (
            W_CITY | W_COUNTY | W_TITLE | W_ROLE | W_AFTER | W_PLACE):
        return 0
    if word(p + i, W_AFTER | W_TITLE):
        return 0
    certain = c.context >> NEAR_PERSON & 1 and j == PAD and f == c.end
    certain = certain or p[j - 1] == 64 or latin_label(p, j) or labelled_by_colon(p, j)
    certain = certain or beside_number(c, out, j, f)
    if certain or beside_gender(p, f) or goes_on(c, who, j):
        return emit_person(c, who, j, f, NAME, 75)
    if compound:
        certain = not kinds_of(p + j, 2) & (W_NOT_NAME | W_CITY | W_COUNTY)
    else:
        certain = second > 0 and s >= 2 and first + second >= (5 if s == 3 else 6)
    return emit_person(c, who, j, f, NAME, 60) if certain else 0


cdef int name_near(Cell *c, Hits *out, Hits *who, Look *look, int j, int limit) noexcept nogil:
    # Every rule for a name whose sign stands at j.
    cdef const uint16_t *p = c.cp
    cdef bint starts = not BITS[p[j - 1]] & HAN
    cdef int n, k, e
    if starts:
        e = segment(c, out, who, j)
        if e:
            return e
    if look.all & (W_FIELD | W_ROLE):
        n = longest(look, W_FIELD)
        if n:
            k = skip(p, j + n, SEPARATES, 6)
            e = name_at(p, k, FIELD)
            if e:
                return emit_person(c, who, k, e, NAME, 90)
        n = longest(look, W_ROLE)
        if n:
            k = skip(p, j + n, SEPARATES, 3)
            e = name_at(p, k, ROLE)
            if e:
                return emit_person(c, who, k, e, NAME, 80)
    if coordinated(c, who, j):
        e = name_at(p, j, ROLE)
        if e and is_closed(p, e):
            return emit_person(c, who, j, e, NAME, 70)
    if not starts and BITS[p[j]] & LABELLING:
        k = skip(p, j + 1, SEPARATES, 3)
        e = name_at(p, k, ROLE)
        if e and is_closed(p, e):
            return emit_person(c, who, k, e, NAME, 75)
    if look.all & W_TITLE:
        k = name_before(p, j, limit)
        if k:
            return emit_person(c, who, k, j, NAME, 85)
    if j >= limit and (starts or BITS[p[j - 1]] & STOPS):
        if surname(p[j]) < 2 and not kinds_of(p + j, 2) & W_COMPOUND:
            return 0
        if kinds_of(p + j - 1, 2) & (W_AFTER | W_NOT_NAME):
            return 0
        e = name_at(p, j, PROSE)
        if e and (word(p + e, W_AFTER) or (BITS[p[j - 1]] & NAMING and not BITS[p[e]] & HAN)):
            return emit_person(c, who, j, e, NAME, 70)
    return 0
