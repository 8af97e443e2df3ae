"""Complete NDJSON or CSV records to typed columns in one pass, without a Python object a reading.

The bounds of the records come from `_records`. A cell goes where its node (the key in its place, or the CSV
column) sends its kind. Where nothing is said yet the parser undoes the row and returns STOPPED; the caller
says where, and calls again from the same record. So the rules of typing live in Python and run once a field.

Invariants
----------
- A record is one row, or none and one entry in the rejects: nothing of a broken record stays.
- Every column has `rows` cells; a cell that no record wrote is null(missing).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

from libc.string cimport memchr

from forebay_core._row_cells cimport begin_record, end_record, find_node
from forebay_core._columns cimport *
from forebay_core._csv cimport read_cells
from forebay_core._decimal cimport POWER_MAX, POWER_MIN
from forebay_core._json cimport read_record
from forebay_core._row_text cimport has_high_bit, is_utf8

from forebay_core.row_codes import Status


def _powers_of_five():
    """128-bit powers of five for `to_double`: top bit set, cut; reciprocals rounded up before the cut."""
    words = bytearray()
    for q in range(POWER_MIN, POWER_MAX + 1):
        power = 5 ** abs(q)
        bits = power.bit_length()
        if q < 0:
            value = (1 << (bits + 127 if q >= -27 else 2 * bits + 128)) // power + 1
            value >>= value.bit_length() - 128
        else:
            value = power << (128 - bits) if bits <= 128 else power >> (bits - 128)
        words += (value >> 64).to_bytes(8, "little") + (value & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little")
    return bytes(words)


cdef bytes _POWERS = _powers_of_five()
cdef const uint64_t *POWERS = <const uint64_t *>PyBytes_AS_STRING(_POWERS)


cdef inline int judge(Parser *s, const uint8_t *p, const uint8_t *end) noexcept nogil:
    """Return why a record cannot be read at all, OK if it can."""
    if end - p > s.max_record:
        return BAD_SIZE
    return BAD_UTF8 if has_high_bit(p, end) and not is_utf8(p, end) else OK


cdef inline bint is_blank(const uint8_t *p, const uint8_t *end) noexcept nogil:
    while p < end and (p[0] == c' ' or p[0] == c'\t' or p[0] == c'\r' or p[0] == c'\n'):
        p += 1
    return p == end


cdef int parse(Parser *s, const uint8_t *data, const int64_t *spans, Py_ssize_t n, bint csv,
               Py_ssize_t *at) noexcept nogil:
    """Read records from *at on; *at is then the first that was not read. Returns a Status or NO_MEMORY."""
    cdef const uint8_t *p
    cdef const uint8_t *end
    cdef const int64_t *span
    cdef int answer
    while at[0] < n:
        if s.row == s.max_rows:
            return FULL
        span = spans + 4 * at[0]
        p, end = data + span[0], data + span[1]
        if p == end or (not csv and is_blank(p, end)):
            at[0] += 1
            continue
        begin_record(s)
        answer = judge(s, p, end)
        if answer == OK:
            answer = read_cells(s, p, end, POWERS) if csv else read_record(s, p, end, POWERS)
        if answer > OK and csv and memchr(p, c'\n', end - p) != NULL:
            end_record(s, STOP, at[0], span[3])
            return RESPLIT
        answer = end_record(s, answer, at[0], span[3])
        if answer == STOP:
            return STOPPED
        if answer == NO_MEMORY:
            return NO_MEMORY
        at[0] += 1
    return DONE


cdef object copy(const void *data, Py_ssize_t size):
    return PyBytes_FromStringAndSize(<const char *>data, size)


cdef class RowParser:
    """See rows.pyi."""

    cdef Parser s

    def __cinit__(self, Py_ssize_t max_rows=1000, Py_ssize_t max_record=1 << 20, Py_ssize_t max_str=65536,
                  int max_nodes=4096):
        cdef Parser *s = &self.s
        memset(s, 0, sizeof(Parser))
        s.max_rows, s.max_record, s.max_str, s.max_nodes = max_rows, max_record, max_str, max_nodes
        s.time_power, s.first, s.stop_node, s.stop_kind, s.delimiter = ISO, -1, -1, -1, c','
        s.times = <int64_t *>malloc((max_rows + 1) * 8)
        s.lines = <int64_t *>malloc((max_rows + 1) * 8)
        s.local = <uint8_t *>malloc(max_rows + 1)
        s.table_mask = 1023
        while s.table_mask < <uint32_t>(2 * max_nodes):
            s.table_mask = s.table_mask * 2 + 1
        s.table = <int32_t *>malloc((s.table_mask + 1) * sizeof(int32_t))
        if s.times == NULL or s.lines == NULL or s.local == NULL or s.table == NULL:
            raise MemoryError
        memset(s.times, 0, (max_rows + 1) * 8)
        memset(s.local, 0, max_rows + 1)
        memset(s.table, 0, (s.table_mask + 1) * sizeof(int32_t))

    def __dealloc__(self):
        cdef Parser *s = &self.s
        cdef int i
        for i in range(s.n_columns):
            free_column(&s.columns[i])
        for i in range(s.n_nodes):
            free(s.nodes[i].key)
        free(s.columns)
        free(s.nodes)
        free(s.table)
        free(s.header)
        free(s.times)
        free(s.lines)
        free(s.local)
        free(s.rejects)
        free(s.scratch)

    @property
    def rows(self):
        return self.s.row

    @property
    def ignored(self):
        return self.s.all_ignored

    @property
    def stop_node(self):
        return self.s.stop_node

    @property
    def stop_kind(self):
        return self.s.stop_kind

    def set_time(self, bint required, int power, bint allow_naive):
        self.s.timed, self.s.time_power, self.s.allow_naive = required, power, allow_naive

    def add_column(self, int column_type, Py_ssize_t limit=0):
        cdef Parser *s = &self.s
        cdef Column *columns
        if s.n_columns == s.room_columns:
            columns = <Column *>realloc(s.columns, (2 * s.room_columns + 16) * sizeof(Column))
            if columns == NULL:
                raise MemoryError
            s.columns, s.room_columns = columns, 2 * s.room_columns + 16
        if not new_column(&s.columns[s.n_columns], column_type, s.max_rows, limit or s.max_str):
            raise MemoryError
        s.n_columns += 1
        return s.n_columns - 1

    def set_type(self, int column, int column_type):
        cdef Column *c = self._column(column)
        cdef Py_ssize_t i
        cdef double value
        if c.type == COL_I64 and column_type == COL_F64:
            for i in range(self.s.row):
                value = <double>c.slots[i]
                memcpy(&c.slots[i], &value, 8)
        elif c.type != COL_ANY:
            raise ValueError("the type of a column is fixed")
        c.type = column_type

    def seen(self, int column):
        return self._column(column).seen

    def mark_seen(self, int column, unsigned int bits):
        self._column(column).seen |= bits

    def add_node(self, int parent, bytes key):
        cdef const uint8_t *text = <const uint8_t *>PyBytes_AS_STRING(key)
        if parent != ROOT:
            self._check_node(parent)
        cdef int node = find_node(&self.s, parent, text, len(key), True)
        if node == NO_MEMORY:
            raise MemoryError
        return node if node >= 0 else -1

    def node_path(self, int node):
        path = []
        while node >= 0:
            self._check_node(node)
            path.append(copy(self.s.nodes[node].key, self.s.nodes[node].key_size))
            node = self.s.nodes[node].parent
        return tuple(reversed(path))

    def set_node(self, int node, int role, int primary, dest):
        cdef int i
        self._check_node(node)
        if len(dest) != N_KINDS:
            raise ValueError("one destination a kind")
        for target in (primary, *dest):
            if not TO_IGNORE <= target < self.s.n_columns:
                raise ValueError("no such column")
        if primary < 0 and (TO_TYPE in dest or TO_OVERFLOW in dest):
            raise ValueError("a null needs a column")
        self.s.nodes[node].role, self.s.nodes[node].primary = role, primary
        for i in range(N_KINDS):
            self.s.nodes[node].dest[i] = dest[i]

    def set_header(self, nodes, int delimiter):
        for node in nodes:
            self._check_node(node)
        cdef int32_t *header = <int32_t *>malloc((len(nodes) + 1) * sizeof(int32_t))
        if header == NULL:
            raise MemoryError
        for i, node in enumerate(nodes):
            header[i] = node
        free(self.s.header)
        self.s.header, self.s.n_header, self.s.delimiter = header, <int>len(nodes), <uint8_t>delimiter

    def parse_json(self, const uint8_t[::1] data not None, const int64_t[:, ::1] spans not None,
                   Py_ssize_t first):
        return self._parse(data, spans, first, False)

    def parse_csv(self, const uint8_t[::1] data not None, const int64_t[:, ::1] spans not None,
                  Py_ssize_t first):
        return self._parse(data, spans, first, True)

    cdef _parse(self, const uint8_t[::1] data, const int64_t[:, ::1] spans, Py_ssize_t first, bint csv):
        cdef Py_ssize_t at = first, n = spans.shape[0], i
        cdef int status
        if spans.shape[1] != 4 or first < 0:
            raise ValueError("spans are (n, 4)")
        for i in range(first, n):
            if not 0 <= spans[i, 0] <= spans[i, 1] <= data.shape[0]:
                raise ValueError("a span is outside of the data")
        if first >= n or data.shape[0] == 0:
            return Status.DONE, max(first, n)
        with nogil:
            status = parse(&self.s, &data[0], &spans[0, 0], n, csv, &at)
        if status == NO_MEMORY:
            raise MemoryError
        return status, at

    def take_rejects(self):
        out = copy(self.s.rejects, self.s.n_rejects * 32)
        self.s.n_rejects = 0
        return out

    def take(self):
        cdef Parser *s = &self.s
        cdef Py_ssize_t n = s.row
        columns = [self._take_column(&s.columns[i]) for i in range(s.n_columns)]
        out = copy(s.times, n * 8), copy(s.local, n), copy(s.lines, n * 8), columns
        self.clear()
        return out

    def clear(self):
        cdef int i
        for i in range(self.s.n_columns):
            clear_column(&self.s.columns[i], self.s.row + 1)
        memset(self.s.local, 0, self.s.row)
        self.s.row = 0
        self.s.all_ignored = 0

    cdef _take_column(self, Column *c):
        cdef Py_ssize_t n = self.s.row, i
        cdef uint8_t any_code = 0
        for i in range(n):
            any_code |= c.codes[i]
        codes = copy(c.codes, n) if any_code else None
        if c.type != COL_STR:
            return copy(c.slots, n * 8), None, codes
        open_cell(c, n)
        return copy(c.data, c.size), copy(c.slots, (n + 1) * 8), codes

    cdef Column *_column(self, int column) except NULL:
        if not 0 <= column < self.s.n_columns:
            raise ValueError("no such column")
        return &self.s.columns[column]

    cdef int _check_node(self, int node) except -1:
        if not 0 <= node < self.s.n_nodes:
            raise ValueError("no such node")
        return 0
