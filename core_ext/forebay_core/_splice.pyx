"""Build a new column in which found spans are masked, in one pass and without a Python object per hit.

Invariants
----------
- The input column is never written to.
- `keep` masks at least a third of a hit's letters and digits: where first + last would leave less, it
  masks all of them. Escaped line ends stay as they are.
- A row with a hit whose rule is REMOVE becomes an empty cell, whatever else was found in it.
"""

from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy

import numpy as np

from forebay_core import text_tables as tables

cdef enum:
    ACTION_PASS = 0
    ACTION_KEEP = 1
    ACTION_REPLACE = 2
    ACTION_REMOVE = 3

PASS = ACTION_PASS
KEEP = ACTION_KEEP
REPLACE = ACTION_REPLACE
REMOVE = ACTION_REMOVE

cdef uint8_t COUNTED[65536]  # letters, digits and ideographs: what `keep` counts and masks


def _fill_table():
    of_symbol = bytes(chr(s).isalnum() if s < 128 else s < tables.MIDDLE_DOT for s in range(256))
    cdef bytes counted = bytes(tables.SYMBOLS).translate(of_symbol)
    memcpy(COUNTED, <const char *>counted, sizeof(COUNTED))


_fill_table()

cdef struct Writer:
    uint8_t *out
    Py_ssize_t used


cdef inline int line_end(const uint8_t *t, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    # Length of an escaped line end or tab at i, as often escaped as it may be; 0 if there is none.
    cdef Py_ssize_t k = i
    while k < n and t[k] == 92:
        k += 1
    return <int> (k + 1 - i) if k > i and k < n and (t[k] == 110 or t[k] == 114 or t[k] == 116) else 0


cdef inline int char_length(const uint8_t *t, Py_ssize_t i, Py_ssize_t n, bint *counted) noexcept nogil:
    # Bytes of the character at i, and whether it counts. A broken one is a byte that counts.
    cdef uint8_t c = t[i]
    counted[0] = True
    if c < 0x80:
        counted[0] = COUNTED[c]
        return line_end(t, i, n) or 1 if c == 92 else 1
    if 0xC2 <= c < 0xE0 and i + 1 < n and t[i + 1] & 0xC0 == 0x80:
        counted[0] = COUNTED[(c & 0x1F) << 6 | (t[i + 1] & 0x3F)]
        return 2
    if 0xE0 <= c < 0xF0 and i + 2 < n and t[i + 1] & 0xC0 == 0x80 and t[i + 2] & 0xC0 == 0x80:
        counted[0] = COUNTED[(c & 0x0F) << 12 | (t[i + 1] & 0x3F) << 6 | (t[i + 2] & 0x3F)]
        return 3
    if 0xF0 <= c < 0xF5 and i + 3 < n and t[i + 1] & 0xC0 == 0x80 and t[i + 2] & 0xC0 == 0x80 and (
            t[i + 3] & 0xC0 == 0x80):
        return 4
    return 1


cdef inline void copy(Writer *w, const uint8_t *source, Py_ssize_t n) noexcept nogil:
    memcpy(w.out + w.used, source, n)
    w.used += n


cdef inline void keep(Writer *w, const uint8_t *t, Py_ssize_t n, int64_t first, int64_t last,
                      const uint8_t *fill, Py_ssize_t fill_length) noexcept nogil:
    cdef Py_ssize_t i = 0, total = 0, seen = 0
    cdef int length
    cdef bint counted = False, plain = True
    while i < n:
        length = char_length(t, i, n, &counted)
        plain &= t[i] != 37 and (t[i] != 92 or length > 1)  # within an escape nothing may be kept
        i += length
        total += counted
    if 3 * (total - first - last) < total or not plain:
        first = last = 0
    i = 0
    while i < n:
        length = char_length(t, i, n, &counted)
        if counted and first <= seen < total - last:
            copy(w, fill, fill_length)
        else:
            copy(w, t + i, length)
        seen += counted
        i += length


cdef Py_ssize_t bound(const int64_t[:, ::1] spans, const uint8_t[::1] codes, const int64_t[::1] which,
                      const int64_t[:, ::1] rules, const int64_t[::1] new_offsets) noexcept nogil:
    # How much longer than the input the output can be.
    cdef Py_ssize_t i, growth = 0
    cdef int64_t k, length
    for i in range(spans.shape[0]):
        if rules[codes[i], 0] == ACTION_REPLACE:
            growth += new_offsets[which[i] + 1] - new_offsets[which[i]]
        elif rules[codes[i], 0] == ACTION_KEEP:
            k = rules[codes[i], 3]
            length = new_offsets[k + 1] - new_offsets[k]
            growth += (spans[i, 2] - spans[i, 1]) * length
    return growth


cdef bint fits(const int64_t[::1] offsets, Py_ssize_t size, const int64_t[:, ::1] spans) noexcept nogil:
    cdef Py_ssize_t i, n = offsets.shape[0] - 1
    cdef int64_t row = -1, end = 0
    if n < 0 or offsets[0] != 0 or offsets[n] != size:
        return False
    for i in range(n):
        if offsets[i + 1] < offsets[i]:
            return False
    for i in range(spans.shape[0]):
        if spans[i, 0] != row:
            if spans[i, 0] < row or spans[i, 0] >= n:
                return False
            row, end = spans[i, 0], 0
        if spans[i, 1] < end or spans[i, 2] < spans[i, 1] or spans[i, 2] > offsets[row + 1] - offsets[row]:
            return False
        end = spans[i, 2]
    return True


cdef bint replacements_fit(const uint8_t[::1] codes, const int64_t[::1] which, const int64_t[:, ::1] rules,
                           const int64_t[::1] new_offsets, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i, n = new_offsets.shape[0] - 1
    cdef int64_t k
    if n < 0 or new_offsets[0] < 0 or new_offsets[n] > size:
        return False
    for i in range(n):
        if new_offsets[i + 1] < new_offsets[i]:
            return False
    for i in range(codes.shape[0]):
        k = which[i] if rules[codes[i], 0] == ACTION_REPLACE else rules[codes[i], 3]
        if rules[codes[i], 0] in (ACTION_REPLACE, ACTION_KEEP) and (k < 0 or k >= n):
            return False
        if rules[codes[i], 1] < 0 or rules[codes[i], 2] < 0:
            return False
    return True


cdef Py_ssize_t write(const uint8_t *data, const int64_t[::1] offsets, const int64_t[:, ::1] spans,
                      const uint8_t[::1] codes, const int64_t[::1] which, const int64_t[:, ::1] rules,
                      const uint8_t *new_data, const int64_t[::1] new_offsets, Writer *w, int64_t[::1] ends,
                      int64_t[:, ::1] made, uint8_t[::1] removed) noexcept nogil:
    cdef Py_ssize_t hit = 0, row, n_made = 0, n_hits = spans.shape[0], k
    cdef int64_t start, at, action, base
    for row in range(offsets.shape[0] - 1):
        base = offsets[row]
        start, at = w.used, 0
        k = hit
        while k < n_hits and spans[k, 0] == row:
            if rules[codes[k], 0] == ACTION_REMOVE and removed[row] == 0:
                removed[row] = codes[k]
            k += 1
        if removed[row]:
            hit = k
        while hit < k:
            copy(w, data + base + at, spans[hit, 1] - at)
            at = spans[hit, 2]
            action = rules[codes[hit], 0]
            made[n_made, 0], made[n_made, 1] = row, w.used - start
            if action == ACTION_REPLACE:
                copy(w, new_data + new_offsets[which[hit]],
                     new_offsets[which[hit] + 1] - new_offsets[which[hit]])
            elif action == ACTION_KEEP:
                keep(w, data + base + spans[hit, 1], at - spans[hit, 1], rules[codes[hit], 1],
                     rules[codes[hit], 2], new_data + new_offsets[rules[codes[hit], 3]],
                     new_offsets[rules[codes[hit], 3] + 1] - new_offsets[rules[codes[hit], 3]])
            else:
                at = spans[hit, 1]  # pass: copied with what follows
            if action != ACTION_PASS:
                made[n_made, 2] = w.used - start
                n_made += 1
            hit += 1
        if not removed[row]:
            copy(w, data + base + at, offsets[row + 1] - base - at)
        ends[row + 1] = w.used
    return n_made


def splice(const uint8_t[::1] data not None, const int64_t[::1] offsets not None,
           const int64_t[:, ::1] spans not None, const uint8_t[::1] codes not None,
           const int64_t[::1] which not None, const int64_t[:, ::1] rules not None,
           const uint8_t[::1] new_data not None, const int64_t[::1] new_offsets not None):
    """Mask the hits of a column.

    Parameters
    ----------
    data, offsets : the column; offsets[0] is 0 and offsets[-1] is len(data).  IN
    spans : int64 (k, 3): row, start, end within the cell; sorted, not overlapping.  IN
    codes : uint8 (k,), class of each hit, from 1 on.  IN
    which : int64 (k,), index of a REPLACE hit's text in the replacements.  IN
    rules : int64 (256, 4), by class: action (PASS, KEEP, REPLACE, REMOVE); for KEEP how many characters to
        keep at the start and at the end, and the replacement that stands for each other one.  IN
    new_data, new_offsets : the replacements, held like a column.  IN

    Returns
    -------
    data, offsets : the new column
    made : int64 (m, 3): row, start, end of what masking wrote, in the new cells
    removed : uint8 (n,), the class that removed a row, 0 where none did

    Raises
    ------
    ValueError
        Offsets, spans or indices do not fit. Nothing is masked then, so the caller must not go on.

    Notes
    -----
    Linear in the bytes and hits; the GIL is released. Separators within a hit stay where KEEP masks.
    """
    cdef Writer w
    cdef Py_ssize_t n_made, rows = offsets.shape[0] - 1
    cdef uint8_t empty = 0
    if codes.shape[0] != spans.shape[0] or which.shape[0] != spans.shape[0] or (
            spans.shape[1] != 3 or rules.shape[0] != 256 or rules.shape[1] != 4):
        raise ValueError("hits and rules have different lengths")
    if not fits(offsets, data.shape[0], spans):
        raise ValueError("spans do not fit the column")
    if not replacements_fit(codes, which, rules, new_offsets, new_data.shape[0]):
        raise ValueError("a replacement is missing")
    text = np.empty(data.shape[0] + bound(spans, codes, which, rules, new_offsets), np.uint8)
    ends, made = np.zeros(rows + 1, np.int64), np.empty((spans.shape[0] + 1, 3), np.int64)
    removed = np.zeros(rows, np.uint8)
    cdef uint8_t[::1] out = text
    cdef int64_t[::1] ends_view = ends
    cdef int64_t[:, ::1] made_view = made
    cdef uint8_t[::1] removed_view = removed
    w.out = &out[0] if out.shape[0] else &empty
    w.used = 0
    with nogil:
        n_made = write(&data[0] if data.shape[0] else &empty, offsets, spans, codes, which, rules,
                       &new_data[0] if new_data.shape[0] else &empty, new_offsets, &w, ends_view, made_view,
                       removed_view)
    return text[:w.used].copy(), ends, made[:n_made].copy(), removed
