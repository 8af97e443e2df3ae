# Names and addresses: a second pass over the code points of a cell that holds ideographs, run only where
# these classes are asked for. Included by _text.pyx. Rules return the index where the scan goes on, or 0.

from forebay_core import text_people as people

cdef enum:
    SLOTS = 16384  # a power of two, at least twice the words
    FIELD = 0  # how sure the place of a name is, from sure to guessed
    ROLE = 1
    PROSE = 2
    CHAIN = 80  # symbols of an address, of one of its parts, before an unannounced road
    REACH = 12
    BACK = 6
    HOUSE = 1
    BUILDING = 2
    ROOM = 4
    GROUP = 8
    ROAD = 1
    PLACE = 2
    AREA = 4
    VILLAGE = 8
    ZONE = 16
    MAX_LATIN = 32
    # properties of characters and kinds of words, as in text_people
    HAS_TWO = 0x10
    STOPS = 0x80
    TRANSLITERATES = 0x100
    NUMERAL = 0x200
    COUNTS = 0x400
    CLOSES = 0x800
    HAN = 0x1000
    FOLLOWS = 0x2000
    NAMING = 0x4000
    LABELLING = 0x8000
    W_FIELD = 0x1
    W_ROLE = 0x2
    W_TITLE = 0x4
    W_AFTER = 0x8
    W_NOT_NAME = 0x10
    W_COMPOUND = 0x20
    W_NUMBER = 0x40
    W_ADDRESS = 0x80
    W_CITY = 0x100
    W_COUNTY = 0x200
    W_ROAD = 0x400
    W_NOT_ROAD = 0x800
    W_PLACE = 0x1000
    W_AREA = 0x2000
    W_ZONE = 0x4000
    # bits of MARK
    SEPARATES = 1
    GAP = 2
    VILLAGES = 4
    AREAS_ONE = 8
    DIVISION_ENDS = 16
    PLACES_ONE = 32
    ROADS_ONE = 64
    PREPOSITION = 128

cdef uint16_t BITS[65536]
cdef uint8_t MARK[65536]
cdef uint64_t WORD_KEY[SLOTS]
cdef uint16_t WORD_KINDS[SLOTS]
cdef uint8_t BEGINS[8192]  # a bit for each pair of characters that some word begins with, by their hash
cdef uint8_t ANCHORS[8192]  # the same for words that a rule begins at
cdef uint64_t LATIN[MAX_LATIN]
cdef int LATIN_LENGTH[MAX_LATIN]
cdef int N_LATIN = 0
cdef bint PEOPLE_READY = False


cdef inline int slot_of(uint64_t key) noexcept nogil:
    return <int> ((key * <uint64_t> 0x9E3779B97F4A7C15) >> 50)


cdef inline uint32_t pair_of(const uint16_t *p) noexcept nogil:
    return (<uint32_t> p[0] * <uint32_t> 0x9E3779B1 + <uint32_t> p[1] * <uint32_t> 0x85EBCA77) >> 16


cdef inline bint may_begin(const uint16_t *p) noexcept nogil:
    # Does some word begin with these two characters? Says no for most, from 8 KiB that stay in the cache.
    cdef uint32_t pair = pair_of(p)
    return BEGINS[pair >> 3] >> (pair & 7) & 1


cdef inline bint may_anchor(const uint16_t *p) noexcept nogil:
    cdef uint32_t pair = pair_of(p)
    return ANCHORS[pair >> 3] >> (pair & 7) & 1


def _fill_people():
    # On the first scan that asks for names: a process that never does saves the 5 ms.
    global N_LATIN, PEOPLE_READY
    cdef int i, slot
    cdef uint64_t key
    cdef uint32_t pair
    cdef uint16_t begin[2]
    if PEOPLE_READY:
        return
    for i, bits in enumerate(people.character_bits()):
        BITS[i] = bits
    for chars, bit in (
        (" :='\"\\>|([_-\t<", SEPARATES), (" ,:;()'\"|/\t、。-", GAP), ("在于为是", PREPOSITION),
    ):
        for char in chars:
            MARK[<int> ord(char)] |= <uint8_t> bit
    for codes, bit in (
        (people.VILLAGES, VILLAGES), (people.AREAS_ONE, AREAS_ONE), (people.DIVISION_ENDS, DIVISION_ENDS),
        (people.PLACES_ONE, PLACES_ONE), (people.ROADS_ONE, ROADS_ONE),
    ):
        for code in codes:
            MARK[<int> code] |= <uint8_t> bit
    for word, kinds in people.WORDS.items():
        key = people.pack(word)
        begin[0], begin[1] = ord(word[0]), ord(word[1])
        pair = pair_of(begin)
        BEGINS[pair >> 3] |= <uint8_t> (1 << (pair & 7))
        if kinds & (W_FIELD | W_ROLE | W_TITLE | W_ADDRESS | W_CITY | W_COUNTY):
            ANCHORS[pair >> 3] |= <uint8_t> (1 << (pair & 7))
        slot = slot_of(key)
        while WORD_KEY[slot]:
            slot = (slot + 1) & (SLOTS - 1)
        WORD_KEY[slot], WORD_KINDS[slot] = key, kinds
    for word in people.LATIN_LABELS:
        key = 0
        for i in word:
            key = key << 8 | <uint64_t> i
        LATIN[N_LATIN], LATIN_LENGTH[N_LATIN] = key, len(word)
        N_LATIN += 1
    PEOPLE_READY = True


cdef inline int kinds_of(const uint16_t *p, int length) noexcept nogil:
    # Kinds of the word of `length` (2..4) characters that begins at p.
    cdef uint64_t key
    cdef int slot
    if not BITS[p[0]] & (HAS_TWO << (length - 2)) or not may_begin(p):
        return 0
    key = <uint64_t> p[0] << 16 | p[1]
    if length > 2:
        key = key << 16 | p[2]
    if length > 3:
        key = key << 16 | p[3]
    slot = slot_of(key)
    while WORD_KEY[slot]:
        if WORD_KEY[slot] == key:
            return WORD_KINDS[slot]
        slot = (slot + 1) & (SLOTS - 1)
    return 0


cdef inline int word(const uint16_t *p, int kind) noexcept nogil:
    # Length of the longest word of a kind that begins at p, 0 if there is none.
    if not BITS[p[0]] & (7 * HAS_TWO) or not may_begin(p):
        return 0
    if kinds_of(p, 4) & kind:
        return 4
    if kinds_of(p, 3) & kind:
        return 3
    return 2 if kinds_of(p, 2) & kind else 0


cdef struct Look:
    int two  # kinds of the words of two, three and four characters that begin at a place
    int three
    int four
    int all


cdef inline void look_at(const uint16_t *p, Look *look) noexcept nogil:
    look.two, look.three, look.four = kinds_of(p, 2), kinds_of(p, 3), kinds_of(p, 4)
    look.all = look.two | look.three | look.four


cdef inline int longest(Look *look, int kind) noexcept nogil:
    if not look.all & kind:
        return 0
    return 4 if look.four & kind else (3 if look.three & kind else 2)


cdef inline int surname(uint16_t p) noexcept nogil:
    return BITS[p] & 3


cdef inline int given(uint16_t p) noexcept nogil:
    return BITS[p] >> 2 & 3


cdef inline int han_end(const uint16_t *p, int j, int most) noexcept nogil:
    cdef int e = j
    while e - j < most and BITS[p[e]] & HAN:
        e += 1
    return e


cdef inline int skip(const uint16_t *p, int j, uint8_t which, int most) noexcept nogil:
    cdef int n = 0
    while n < most and MARK[p[j]] & which:
        j += 1
        n += 1
    return j


cdef inline bint is_point_digit(uint16_t p) noexcept nogil:
    return p >= 48 and p <= 57


cdef inline bint is_point_alnum(uint16_t p) noexcept nogil:
    return p < 128 and KIND[p] & ALNUM


# --- names

cdef inline int dotted(const uint16_t *p, int k) noexcept nogil:
    # A transliterated name with a dot in it: its end.
    cdef int e = han_end(p, k, 8), f, i, parts = 0, foreign = 0, total = e - k
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
    e = given_end(p, i, &g)
    g1 = given(p[i])
    if level == FIELD:
        return e
    if e - i == 2:
        if level == ROLE:
            return e if s + g1 + g >= 6 else 0
        return e if g1 >= 2 and g >= 2 else 0
    if level == ROLE:
        if is_closed(p, e):
            return e if s == 3 or (s + g1 >= 4 and g1 >= 2) else 0
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


cdef inline bint goes_on(Cell *c, Hits *who, int j) noexcept nogil:
    # Does j stand behind a name in a list of them?
    cdef int i = j
    while j - i < 2 and MARK[c.cp[i - 1]] & GAP:
        i -= 1
    return i > PAD and i < j and who.n and who.codes[who.n - 1] == NAME and (
        who.spans[3 * who.n - 1] == c.pos[i])


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
    if latin_label(p, j) or beside_number(c, out, j, f) or beside_gender(p, f) or goes_on(c, who, j):
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


# --- addresses

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
        if i > start and last == i and (p[i] == 32 or p[i] == 44 or p[i] == 45):
            i += 1
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


# --- the pass

cdef inline int emit_person(Cell *c, Hits *who, int start, int end, int code, int confidence) noexcept nogil:
    if make_room(who, 1):
        who.spans[3 * who.n] = c.row
        who.spans[3 * who.n + 1] = c.pos[start]
        who.spans[3 * who.n + 2] = c.pos[end]
        who.codes[who.n] = code
        who.confidence[who.n] = confidence
        who.n += 1
    return end


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
