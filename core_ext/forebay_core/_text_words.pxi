# Words and characters that the rules for names and addresses look at: properties of code points, a table of
# words by hash, and the output of hits. Included by _text.pyx before _text_names.pxi.

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

    # bits of STEP
    STEP_LEADS = 0xF8  # a rule begins at a word with this first character: a bit for one fifth of them
    STEP_HAN = 1
    STEP_OPENS = 2  # no ideograph, or never in a name
    STEP_ENDS = 4  # CLOSES or LABELLING
    STEP_GROUPS = 5

cdef uint16_t STEP[65536]  # what the walk looks at; << 8, STEP_LEADS of words with this second character
cdef uint16_t BITS[65536]
cdef uint8_t MARK[65536]
cdef uint64_t WORD_KEY[SLOTS]
cdef uint16_t WORD_KINDS[SLOTS]
cdef uint8_t BEGINS[8192]  # a bit for each pair of characters that some word begins with, by their hash
cdef uint8_t ANCHORS[8192]  # the same for words that a rule begins at
cdef uint64_t LATIN[MAX_LATIN]
cdef int LATIN_LENGTH[MAX_LATIN]
cdef int N_LATIN = 0
cdef uint16_t JOINING[4]
cdef bint PEOPLE_READY = False
FILLING = Lock()


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
    # At the first ideographs: a process that sees none saves 15 ms and a megabyte. One thread makes the
    # tables while the others wait: two that fill them at once would find no free slot, and never end.
    with FILLING:
        _fill_tables()


def _fill_tables():
    global N_LATIN, PEOPLE_READY
    cdef int i, slot
    cdef uint64_t key
    cdef uint32_t pair
    cdef uint16_t begin[2]
    if PEOPLE_READY:
        return
    from forebay_core import text_people as people
    for i, bits in enumerate(people.character_bits()):
        BITS[i] = bits
        STEP[i] = <uint16_t> (STEP_HAN if bits & HAN else STEP_OPENS)
        if bits & STOPS:
            STEP[i] |= STEP_OPENS
        if bits & (CLOSES | LABELLING):
            STEP[i] |= STEP_ENDS
    for i, char in enumerate(people.JOINING_CHARS):
        JOINING[i] = <uint16_t> ord(char)
        STEP[<int> ord(char)] |= STEP_OPENS
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
            STEP[begin[0]] |= <uint16_t> (8 << (begin[0] % STEP_GROUPS))
            STEP[begin[1]] |= <uint16_t> (8 << (begin[0] % STEP_GROUPS) << 8)
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


cdef inline int emit_person(Cell *c, Hits *who, int start, int end, int code, int confidence) noexcept nogil:
    if make_room(who, 1):
        who.spans[3 * who.n] = c.row
        who.spans[3 * who.n + 1] = c.pos[start]
        who.spans[3 * who.n + 2] = c.pos[end]
        who.codes[who.n] = code
        who.confidence[who.n] = confidence
        who.n += 1
    return end
