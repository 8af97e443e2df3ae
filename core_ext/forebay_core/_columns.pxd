# Growing columns of one block, and the nodes that lead cells to them.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

cdef extern from *:
    """
    #include <math.h>
    #define FB_EXACT (INT64_C(1) << 53)
    """
    const double NAN_VALUE "NAN"
    const double INF_VALUE "INFINITY"
    const int64_t EXACT "FB_EXACT"  # integers up to here are exact as f64

cdef enum:  # row_codes.py says what they mean
    COL_ANY = 0
    COL_F64 = 1
    COL_I64 = 2
    COL_BOOL = 3
    COL_STR = 4
    KIND_BOOL = 0
    KIND_INT = 1
    KIND_LONG = 2
    KIND_HUGE = 3
    KIND_FLOAT = 4
    KIND_PADDED = 5
    KIND_TEXT = 6
    KIND_JSON = 7
    KIND_NULL = 8
    N_KINDS = 8
    TO_STOP = -1
    TO_TYPE = -2
    TO_OVERFLOW = -3
    TO_IGNORE = -4
    Q_GOOD = 0
    Q_MISSING = 128
    Q_NULL = 129
    Q_NAN = 130
    Q_TYPE = 131
    Q_SIZE = 132
    Q_OVERFLOW = 139

cdef struct Column:
    int type
    uint32_t seen       # bit per kind
    int64_t *slots      # values (bits of a double for f64); for str the start of each cell in data
    uint8_t *codes
    uint8_t *data       # str
    Py_ssize_t size
    Py_ssize_t capacity
    Py_ssize_t opened   # str: rows whose start is known
    Py_ssize_t limit    # str: bytes a cell may have

cdef struct Node:
    int parent          # node of the object that holds it, -1 at the top
    int next            # the node that came after it last time: keys keep their order
    int role
    int primary         # column that gets null and its reason, -1: none yet
    bint plain          # the key can be compared with the raw text
    uint32_t hash
    int key_size
    uint8_t *key
    uint64_t head       # the key's first 8 bytes, and which of them count
    uint64_t head_mask
    int32_t dest[8]     # by kind: a column, or TO_*


cdef enum:
    OK = 0              # what a record came to: above 0 a Reason, below a stop
    BAD_LINE = 1
    BAD_UTF8 = 2
    BAD_SIZE = 3
    BAD_CELLS = 4
    BAD_TIME = 5
    TIME_NAIVE = 6
    TIME_NUMBER = 7
    TIME_MISSING = 8
    STOP = -1
    NO_MEMORY = -2
    DONE = 0
    FULL = 1
    STOPPED = 2
    RESPLIT = 3
    ROLE_TIME = 1
    ROOT = -1
    SKIPPED = -3        # node of a key that is not taken
    BAD_KEY = -4
    MAX_DEPTH = 16
    MAX_NESTING = 64
    MAX_KEY_BYTES = 512
    ISO = -1

cdef struct Parser:
    Column *columns
    int n_columns
    int room_columns
    Node *nodes
    int n_nodes
    int room_nodes
    int max_nodes
    int32_t *table      # open addressing: node + 1
    uint32_t table_mask
    int32_t *header     # CSV: node of each cell
    int n_header
    uint8_t delimiter
    Py_ssize_t row      # the row that is being filled
    Py_ssize_t max_rows
    Py_ssize_t max_record
    Py_ssize_t max_str
    int64_t *times
    int64_t *lines      # line number of each row
    uint8_t *local      # the time has no zone yet
    uint8_t *scratch
    Py_ssize_t room_scratch
    int64_t *rejects    # (record, reason, cells, found) each
    Py_ssize_t n_rejects
    Py_ssize_t room_rejects
    bint timed          # rows must have a time
    bint allow_naive
    int time_power
    int time_problem    # of this record: OK or why it has no time
    Py_ssize_t cells    # its values
    Py_ssize_t ignored  # its values that are not taken
    Py_ssize_t all_ignored
    int found           # CSV: its cells
    int last            # the node before
    int first           # the node that records begin with
    int stop_node
    int stop_kind


cdef inline uint32_t hash_key(int parent, const uint8_t *key, Py_ssize_t size) noexcept nogil:
    """FNV-1a over parent and key; the table is small and its size capped, so no seed."""
    cdef uint32_t h = <uint32_t>2166136261 ^ <uint32_t>(parent + 1) * <uint32_t>2654435761
    cdef Py_ssize_t i
    for i in range(size):
        h = (h ^ key[i]) * <uint32_t>16777619
    return h


cdef inline void open_cell(Column *c, Py_ssize_t row) noexcept nogil:
    """Begin the text of a row. The same row again (a key twice): the later text replaces the earlier."""
    if c.opened == row + 1:
        c.size = c.slots[row]
        return
    while c.opened <= row:
        c.slots[c.opened] = c.size
        c.opened += 1


cdef inline bint reserve(Column *c, Py_ssize_t more) noexcept nogil:
    """Make room for `more` bytes of text. False: no memory."""
    cdef Py_ssize_t wanted = c.size + more
    cdef uint8_t *data
    if wanted <= c.capacity:
        return True
    wanted = wanted * 2 if wanted > 1024 else 2048
    data = <uint8_t *>realloc(c.data, wanted)
    if data == NULL:
        return False
    c.data = data
    c.capacity = wanted
    return True


cdef inline void put_null(Column *c, Py_ssize_t row, int code) noexcept nogil:
    """Make a cell null for a reason."""
    if c.type == COL_STR:
        open_cell(c, row)
    else:
        c.slots[row] = 0
    c.codes[row] = <uint8_t>code


cdef inline void put_double(Column *c, Py_ssize_t row, double value) noexcept nogil:
    """Store a double; NaN is null."""
    if value != value:
        put_null(c, row, Q_NAN)
        return
    memcpy(&c.slots[row], &value, 8)
    c.codes[row] = Q_GOOD


cdef inline void undo_row(Column *c, Py_ssize_t row) noexcept nogil:
    """Forget what a broken record wrote."""
    c.codes[row] = Q_MISSING
    if c.type == COL_STR:
        if c.opened == row + 1:
            c.size = c.slots[row]
            c.opened = row
    else:
        c.slots[row] = 0


cdef inline void clear_column(Column *c, Py_ssize_t rows) noexcept nogil:
    """Empty the first rows for the next block."""
    memset(c.slots, 0, rows * 8)
    memset(c.codes, Q_MISSING, rows)
    c.size = 0
    c.opened = 0


cdef inline bint new_column(Column *c, int type_, Py_ssize_t max_rows, Py_ssize_t limit) noexcept nogil:
    """Allocate an empty column. False: no memory."""
    memset(c, 0, sizeof(Column))
    c.type = type_
    c.limit = limit
    c.slots = <int64_t *>malloc((max_rows + 1) * 8)
    c.codes = <uint8_t *>malloc(max_rows + 1)
    if c.slots == NULL or c.codes == NULL:
        free(c.slots)
        free(c.codes)
        return False
    clear_column(c, max_rows + 1)
    return True


cdef inline void free_column(Column *c) noexcept nogil:
    free(c.slots)
    free(c.codes)
    free(c.data)
