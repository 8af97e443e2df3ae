"""Find identifiers in a UTF-8 column in one pass, without a Python object per candidate.

Invariants
----------
- A cell is first folded to one byte a character (SYMBOLS): full-width forms, the many dashes and spaces,
  JSON escapes (backslash u XXXX, backslash n) and percent escapes look like what they stand for, and what
  has no width is gone. `pos[j]` is the byte in the cell where symbol j begins. ASCII without escapes folds to
  itself and is only copied. A survey then tells the kind of each symbol; the scan goes from digit to digit.
- Symbols stand between PAD zeros on either side, so rules may look a few symbols around without a check.
- Rules look at maximal runs of letters and digits: a number inside a longer number is none.
- Hits of a row are in order and do not overlap; where two rules claim the same bytes the later, wider one
  (e-mail, IPv6, MAC, GPS pair) takes the place of those that it covers.
- What is found does not depend on which classes are asked for, but for such covering.
- A cell with line ends is scanned once more as if they were not there, for what they cut in two.
- Names and addresses are looked for in a second pass, over the code points, and only in cells that hold
  ideographs and where these classes are asked for. A number that they overlap with wins.
"""

from threading import Lock

from libc.math cimport fabs
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

import numpy as np

from forebay_core import text_tables as tables

cdef enum:
    PAD = 8
    REST = 24  # zeros behind the symbols: PAD, and up to a whole sixteen
    OTHER = 0x80
    PROVINCE = 0x81
    PLATE_END = 0x82
    SPOKEN = 0x83  # and nine more
    MIDDLE_DOT = 0x90
    DEGREE = 0x91
    SKIP = 0xFF
    UNKNOWN = 1  # code point of what is no character of the basic plane
    # kinds of symbols
    DIGIT = 1
    LETTER = 2
    HEX = 4
    LOCAL = 8  # in the local part of an address
    DOMAIN = 16
    ALNUM = 3
    # classes, as in text_tables.CLASSES
    RESIDENT_ID = 1
    MOBILE = 2
    LANDLINE = 3
    BANK_CARD = 4
    USCC = 5
    PASSPORT = 6
    PLATE = 7
    VIN = 8
    IMEI = 9
    EMAIL = 10
    IPV4 = 11
    IPV6 = 12
    MAC = 13
    GPS = 14
    NAME = 15
    ADDRESS = 16
    # context words, as in text_tables.CONTEXTS
    NEAR_IMEI = 0
    NEAR_PERMIT = 1
    NEAR_CARD = 2
    NEAR_PHONE = 3
    NEAR_GPS = 4
    NEAR_VERSION = 5
    NEAR_NAME = 6
    NEAR_ADDRESS = 7
    NEAR_PLATE = 8
    NEAR_VIN = 9
    NEAR_OTHER = 10
    NEAR_COUNTER = 11
    NEAR_MACHINE = 12
    NEAR_RESIDENT = 13
    NEAR_BANK = 14
    NEAR_USCC = 15
    NEAR_MAC = 16
    NEAR_PERSON = 17
    NEAR_THING = 18
    N_CONTEXTS = 19
    MAX_WORDS = 24
    MAX_LABELS = 64
    GROUPS = 20  # of digits, in a number written in groups

cdef uint8_t SYMBOL[65536]
cdef uint8_t KIND[256]
cdef uint8_t GOES_ON[256]  # may a number or address go on behind this symbol?
cdef uint64_t LABEL[MAX_LABELS]
cdef int N_LABELS = 0
cdef uint8_t WORD[N_CONTEXTS][MAX_WORDS][24]
cdef int WORD_LENGTH[N_CONTEXTS][MAX_WORDS]
cdef uint32_t FIRSTS[256]  # a bit for each context of which some word begins with this byte
cdef int CONTEXT_BYTES = tables.CONTEXT_BYTES
cdef int VERSION_BYTES = tables.VERSION_BYTES
cdef int MACHINE_BYTES = tables.MACHINE_BYTES
cdef int COUNTER_BYTES = tables.COUNTER_BYTES
cdef int LABEL_BYTES = tables.LABEL_BYTES
cdef int GPS_BYTES = tables.GPS_BYTES


def _fill_tables():
    global N_LABELS
    cdef bytes symbols = tables.SYMBOLS
    cdef int i, k
    cdef uint64_t packed
    memcpy(SYMBOL, <const uint8_t *> symbols, 65536)
    memset(KIND, 0, 256)
    for i in range(128):
        if chr(i).isdigit():
            KIND[i] = DIGIT | HEX | LOCAL | DOMAIN
        elif chr(i).isalpha():
            KIND[i] = LETTER | LOCAL | DOMAIN | (HEX if chr(i) in "abcdefABCDEF" else 0)
    memset(GOES_ON, 0, 256)
    for i in (*b" -.)/_+", MIDDLE_DOT, DEGREE):
        GOES_ON[i] = 1
    for char in "._%+-":
        KIND[<int> ord(char)] |= LOCAL
    for char in ".-":
        KIND[<int> ord(char)] |= DOMAIN
    for label in tables.LABELS:
        packed = 0
        for i in label.encode():
            packed = packed << 8 | <uint64_t> i
        LABEL[N_LABELS] = packed
        N_LABELS += 1
    for i, words in enumerate(tables.CONTEXTS):
        for k, word in enumerate(words):
            memcpy(WORD[i][k], <const uint8_t *> (<bytes> word), len(word))
            WORD_LENGTH[i][k] = len(word)
            FIRSTS[<int> word[0]] |= <uint32_t> (1 << i)
            FIRSTS[<int> word[:1].upper()[0]] |= <uint32_t> (1 << i)


_fill_tables()

cdef struct Cell:
    const uint8_t *s  # symbols, PAD zeros on either side
    const uint8_t *kinds  # of each symbol, see survey
    const int32_t *pos  # byte of each symbol within the cell, unless plain
    const uint16_t *cp  # code point of each symbol, ASCII where it folds to that; 1 for what is no character
    const uint8_t *raw
    int64_t row
    int end  # index after the last symbol
    bint plain  # ASCII without escapes: symbols are the bytes, `pos` and `cp` are not filled
    bint han  # holds ideographs
    bint broken  # holds line ends
    bint at  # holds an at sign
    uint32_t context  # kinds of context that the caller vouches for (a field named imei)

cdef struct Hits:
    int64_t *spans
    uint8_t *codes
    uint8_t *confidence
    Py_ssize_t n
    Py_ssize_t capacity
    Py_ssize_t row_from  # first hit of the current row
    uint32_t classes
    int failed
    bint ready, lacking  # the tables of names and addresses: are there; were needed and not there


cdef inline bint is_digit(uint8_t c) noexcept nogil:
    return c >= 48 and c <= 57


cdef inline bint is_letter(uint8_t c) noexcept nogil:
    return KIND[c] & LETTER


cdef inline bint is_alnum(uint8_t c) noexcept nogil:
    return KIND[c] & ALNUM


cdef inline int byte_of(const Cell *c, int j) noexcept nogil:
    return j - PAD if c.plain else c.pos[j]


include "_text_checks.pxi"
include "_text_fold.pxi"
include "_text_around.pxi"
include "_text_address.pxi"
include "_text_groups.pxi"
include "_text_rules.pxi"
include "_text_words.pxi"
include "_text_names.pxi"
include "_text_places.pxi"
include "_text_people.pxi"
include "_text_survey.pxi"
include "_text_breaks.pxi"


cdef Py_ssize_t longest_cell(const int64_t[::1] offsets, Py_ssize_t size) noexcept nogil:
    # -1 when the offsets are not a partition of the data
    cdef Py_ssize_t i, longest = 0
    if offsets.shape[0] < 1 or offsets[0] < 0 or offsets[offsets.shape[0] - 1] > size:
        return -1
    for i in range(offsets.shape[0] - 1):
        if offsets[i + 1] < offsets[i]:
            return -1
        if offsets[i + 1] - offsets[i] > longest:
            longest = offsets[i + 1] - offsets[i]
    return longest


cdef inline bint prepare(Cell *c, const Buffers *b, int64_t length) noexcept nogil:
    # Fill a cell with what the rules look at. False: no rule has anything to look at.
    cdef int seen
    memcpy(b.symbols + PAD, c.raw, length)
    memset(b.symbols + PAD + length, 0, REST)
    seen = survey(b.symbols + PAD, length + PAD, b.kinds + PAD)
    # every number has a digit, of whatever script; names and addresses are in ideographs
    if not seen & (IS_DIGIT | IS_AT | IS_ESCAPE):
        if not seen & IS_HIGH or not has_high(c.raw, length):
            return False
    c.han = False
    c.end = PAD + <int> length
    c.plain = not seen & (IS_HIGH | IS_ESCAPE)
    if not c.plain:
        c.end = fold(c.raw, <int> length, b.symbols, b.pos, b.points, &c.han)
        seen = survey(b.symbols + PAD, c.end, b.kinds + PAD)
    c.broken, c.at = (seen & IS_BREAK) != 0, (seen & IS_AT) != 0
    return True


cdef void scan_all(const uint8_t *data, const int64_t[::1] offsets, const Buffers *b, Buffers *whole,
                   uint32_t context, Hits *out, Hits *who) noexcept nogil:
    cdef Cell c
    cdef Py_ssize_t row
    cdef int64_t length
    cdef bint persons = (out.classes >> NAME | out.classes >> ADDRESS) & 1
    c.s, c.kinds, c.pos, c.cp, c.context = b.symbols, b.kinds, b.pos, b.points, context
    for row in range(offsets.shape[0] - 1):
        length = offsets[row + 1] - offsets[row]
        c.raw = data + offsets[row]
        if length == 0 or not prepare(&c, b, length):
            continue
        c.row = row
        scan_cell(&c, out)
        if c.broken:
            scan_broken(&c, whole, out, who)
        if persons and c.han:
            find_people(&c, out, who)
            if who.n:
                merge_people(out, who)
        if out.failed or who.failed:
            return


def scan(const uint8_t[::1] data not None, const int64_t[::1] offsets not None, unsigned int classes,
         unsigned int context):
    """Find identifiers in every cell of a column.

    Parameters
    ----------
    data : uint8 (total,), bytes of all cells, UTF-8 or not.  IN
    offsets : int64 (n + 1,), cell i is data[offsets[i]:offsets[i + 1]].  IN
    classes : bits `1 << code` of the classes wanted, see text_tables.CLASSES
    context : bits `1 << k` of the contexts (text_tables.CONTEXTS) that every cell stands in, for columns
        whose name says what they hold

    Returns
    -------
    spans : int64 (k, 3), C-contiguous: row, start, end in bytes within the cell; sorted, not overlapping
    codes : uint8 (k,), class of each hit
    confidence : uint8 (k,), 0..100

    Raises
    ------
    ValueError
        The offsets do not fit the data, or a cell has 2 GiB or more.

    Notes
    -----
    Linear in the bytes: each rule looks at a bounded number of symbols. The GIL is released.
    """
    cdef Hits out, who
    cdef Py_ssize_t longest = longest_cell(offsets, data.shape[0])
    cdef Buffers b, whole
    cdef uint8_t empty = 0
    if longest < 0:
        raise ValueError("offsets do not fit the data")
    if longest >= 0x7FFFFF00:
        raise ValueError("a cell has 2 GiB or more")
    memset(&out, 0, sizeof(out))
    memset(&who, 0, sizeof(who))
    out.classes = classes
    who.ready = PEOPLE_READY  # read here, where the GIL is held: the tables are then whole
    memset(&b, 0, sizeof(b))
    memset(&whole, 0, sizeof(whole))
    try:
        whole.room = longest  # its own are made when a cell with line ends comes
        if not make_buffers(&b, longest):
            raise MemoryError
        while True:
            with nogil:
                scan_all(&data[0] if data.shape[0] else &empty, offsets, &b, &whole, context, &out, &who)
            if not who.lacking:
                break
            _fill_people()  # the first ideographs that this process sees: once more, with the tables
            who.ready, who.lacking, out.n = True, False, 0
        if out.failed or who.failed:
            raise MemoryError
        return _arrays(&out)
    finally:
        free_buffers(&b)
        free_buffers(&whole)
        _free(&out)
        _free(&who)


cdef void _free(Hits *hits) noexcept:
    free(hits.spans)
    free(hits.codes)
    free(hits.confidence)


cdef tuple _arrays(Hits *out):
    cdef int64_t[:, ::1] spans
    cdef uint8_t[::1] codes, confidence
    result = (np.empty((out.n, 3), np.int64), np.empty(out.n, np.uint8), np.empty(out.n, np.uint8))
    if out.n:
        spans, codes, confidence = result
        memcpy(&spans[0, 0], out.spans, out.n * 24)
        memcpy(&codes[0], out.codes, out.n)
        memcpy(&confidence[0], out.confidence, out.n)
    return result


include "_text_numbers.pxi"
