"""Rows to groups: dictionary codes of a key column and the order that puts each group's rows together.

Invariants
----------
- Codes count up from 0 in order of first appearance, so they do not depend on the hash or its seed.
- Every kernel that takes `groups` reads an empty array as "one group, 0" and a negative entry as
  "this row has no state" (more keys than the step may remember).
"""

import os

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

# Secret of this process: a sender who could choose keys that collide would make the table quadratic.
cdef uint64_t _SEED = int.from_bytes(os.urandom(8), "little") | 1
cdef uint64_t _MIX_A = 0x9E3779B97F4A7C15ULL  # 2**64 / golden ratio, Knuth's multiplicative hashing
cdef uint64_t _MIX_B = 0xD6E8FEB86659FD93ULL  # odd, from Degski's 64-bit mixer


cdef inline uint64_t _hash(const uint8_t* text, int64_t size, uint64_t seed) noexcept nogil:
    """Multiply-and-fold over 8 bytes at a time."""
    cdef uint64_t state = seed ^ (<uint64_t>size * _MIX_A)
    cdef uint64_t word
    while size >= 8:
        memcpy(&word, text, 8)
        state = (state ^ word) * _MIX_B
        state ^= state >> 32
        text += 8
        size -= 8
    if size > 0:
        word = 0
        memcpy(&word, text, <size_t>size)
        state = (state ^ word) * _MIX_B
        state ^= state >> 32
    state *= _MIX_A
    return state ^ (state >> 29)


cdef inline bint _same(const uint8_t* a, const uint8_t* b, int64_t size) noexcept nogil:
    """Whether two texts are equal: names of devices are short, so a call of memcmp would be most of it."""
    cdef uint64_t x, y
    if size < 8:
        return memcmp(a, b, <size_t>size) == 0
    while size > 8:
        memcpy(&x, a, 8)
        memcpy(&y, b, 8)
        if x != y:
            return False
        a += 8
        b += 8
        size -= 8
    memcpy(&x, a + size - 8, 8)  # the last eight, some of them a second time
    memcpy(&y, b + size - 8, 8)
    return x == y


cdef int64_t _factorize(
    const uint8_t* data,
    int64_t total,
    const int64_t* offsets,
    Py_ssize_t rows,
    int32_t* table,
    uint64_t mask,
    uint64_t seed,
    int32_t* codes,
    int64_t* first,
    int32_t* after,
) noexcept nogil:
    """Fill `codes` and `first`; return the number of distinct cells, -1 if an offset is out of place.

    `after` has room for a code a row: which one came after each last time, 0 at the start.
    """
    cdef int64_t found = 0, start, size, other
    cdef uint64_t slot
    cdef int32_t code, last = 0
    cdef Py_ssize_t i
    for i in range(rows):
        start = offsets[i]
        size = offsets[i + 1] - start
        if start < 0 or size < 0 or start + size > total:
            return -1
        # Devices come in bursts or in turns: what came after the last cell before is tried before the table.
        if i:
            code = after[last]
            other = offsets[first[code]]
            if offsets[first[code] + 1] - other == size and _same(data + other, data + start, size):
                codes[i] = last = code
                continue
        slot = _hash(data + start, size, seed) & mask
        while True:
            code = table[slot] - 1  # 0 marks a free place
            if code < 0:
                code = <int32_t>found
                table[slot] = code + 1
                first[found] = i
                found += 1
                break
            other = offsets[first[code]]
            if offsets[first[code] + 1] - other == size and _same(data + other, data + start, size):
                break
            slot = (slot + 1) & mask
        if i:
            after[last] = code
        codes[i] = last = code
    return found


def factorize(const uint8_t[::1] values not None, const int64_t[::1] offsets not None):
    """Give every distinct cell of a str column a code.

    Parameters
    ----------
    values : uint8 (total bytes,).  IN
    offsets : int64 (n + 1,), cell i is values[offsets[i]:offsets[i + 1]].  IN

    Returns
    -------
    codes : int32 (n,), 0 for the first distinct cell, 1 for the next, in order of first appearance
    first : int64 (n_unique,), row of each code's first appearance

    Raises
    ------
    ValueError
        If there is no offset at all, an offset decreases or points outside `values`.

    Notes
    -----
    O(total bytes), open addressing at a load of at most one half; the hash is seeded per process.
    """
    cdef Py_ssize_t rows = offsets.shape[0] - 1
    if rows < 0:
        raise ValueError("expected at least one offset, found none")
    codes_array = np.empty(rows, dtype=np.int32)
    first_array = np.empty(rows, dtype=np.int64)
    if rows == 0:
        return codes_array, first_array
    cdef int32_t[::1] codes = codes_array
    cdef int64_t[::1] first = first_array
    cdef uint64_t size = 16
    while size < 2 * <uint64_t>rows:
        size *= 2
    cdef int32_t* table = <int32_t*>calloc(size + <uint64_t>rows, sizeof(int32_t))
    if table == NULL:
        raise MemoryError
    cdef uint8_t nothing = 0
    cdef const uint8_t* data = &values[0] if values.shape[0] else &nothing
    cdef int64_t found
    with nogil:
        found = _factorize(
            data, values.shape[0], &offsets[0], rows, table, size - 1, _SEED, &codes[0], &first[0],
            table + size,
        )
        free(table)
    if found < 0:
        raise ValueError("offsets decrease or point outside the values")
    return codes_array, first_array[:found].copy()


def group_rows(const int32_t[::1] codes not None, Py_ssize_t groups):
    """Return the stable order that puts the rows of each group together (counting sort).

    Parameters
    ----------
    codes : int32 (n,), each in [0, groups).  IN
    groups : number of groups

    Returns
    -------
    order : int64 (n,), rows of group 0 in their order, then those of group 1, ...
    bounds : int64 (groups + 1,), group g is order[bounds[g]:bounds[g + 1]]

    Raises
    ------
    ValueError
        If a code is outside [0, groups).
    """
    cdef Py_ssize_t rows = codes.shape[0], i
    cdef int32_t code
    cdef int64_t sum_ = 0, count
    cdef bint bad = False
    if groups < 0:
        raise ValueError("the number of groups is negative")
    order_array = np.empty(rows, dtype=np.int64)
    bounds_array = np.zeros(groups + 1, dtype=np.int64)
    cursor_array = np.zeros(groups + 1, dtype=np.int64)
    cdef int64_t[::1] order = order_array, bounds = bounds_array, cursor = cursor_array
    with nogil:
        for i in range(rows):
            code = codes[i]
            if code < 0 or code >= groups:
                bad = True
                break
            cursor[code] += 1
        if not bad:
            for i in range(groups):
                count = cursor[i]
                cursor[i] = sum_
                bounds[i] = sum_
                sum_ += count
            bounds[groups] = sum_
            for i in range(rows):
                code = codes[i]
                order[cursor[code]] = i
                cursor[code] += 1
    if bad:
        raise ValueError("a code is outside the number of groups")
    return order_array, bounds_array
