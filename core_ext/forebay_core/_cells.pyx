"""Cells of string and bytes columns (offsets and data): dictionary, gathering, order of first appearance."""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset


# Where empty columns point to: memcpy and memcmp take no NULL, not even for 0 bytes.
cdef uint8_t NOTHING = 0


cdef inline uint64_t mix(uint64_t h) noexcept nogil:
    h ^= h >> 32
    h *= <uint64_t>0x9FB21C651E98DF25
    return h ^ (h >> 29)


cdef uint64_t hash_cell(const uint8_t* cell, int64_t size, uint64_t seed) noexcept nogil:
    """Hash 8 bytes at a step by multiply and shift. The seed keeps strangers from making collisions."""
    cdef uint64_t h = seed ^ <uint64_t>size, word
    while size >= 8:
        memcpy(&word, cell, 8)
        h = mix(h ^ word)
        cell += 8
        size -= 8
    word = 0
    memcpy(&word, cell, size)
    return mix(mix(h ^ word) + seed)


cdef int64_t number_cells(
    const uint8_t* data, const int64_t* offsets, int64_t n, int32_t* codes, int64_t* first_index,
    uint64_t seed
) noexcept nogil:
    """Open addressing, linear probing, at most half full; returns the number of unique cells or -1."""
    cdef int64_t room = 16, i, j, size, slot, unique = 0
    cdef uint64_t h
    while room < 2 * n:
        room *= 2
    cdef int32_t* table = <int32_t*>malloc(room * sizeof(int32_t))
    cdef uint64_t* hashes = <uint64_t*>malloc((n + 1) * sizeof(uint64_t))
    if table is NULL or hashes is NULL:
        free(table)
        free(hashes)
        return -1
    memset(table, 0xFF, room * sizeof(int32_t))
    for i in range(n):
        size = offsets[i + 1] - offsets[i]
        h = hash_cell(data + offsets[i], size, seed)
        slot = <int64_t>(h & <uint64_t>(room - 1))
        while table[slot] >= 0:
            j = first_index[table[slot]]
            if (
                hashes[table[slot]] == h
                and offsets[j + 1] - offsets[j] == size
                and memcmp(data + offsets[j], data + offsets[i], size) == 0
            ):
                break
            slot = (slot + 1) & (room - 1)
        if table[slot] < 0:
            table[slot] = <int32_t>unique
            hashes[unique] = h
            first_index[unique] = i
            unique += 1
        codes[i] = table[slot]
    free(table)
    free(hashes)
    return unique


cdef bint offsets_fit(const int64_t[::1] offsets, int64_t size) noexcept nogil:
    cdef int64_t i
    if offsets.shape[0] == 0 or offsets[0] < 0 or offsets[offsets.shape[0] - 1] > size:
        return False
    for i in range(1, offsets.shape[0]):
        if offsets[i] < offsets[i - 1]:
            return False
    return True


def factorize(const uint8_t[::1] values not None, const int64_t[::1] offsets not None):
    """Number equal cells alike, in order of first appearance.

    Parameters
    ----------
    values : uint8 (total bytes,)  IN
    offsets : int64 (n + 1,); cell i is values[offsets[i]:offsets[i + 1]]  IN

    Returns
    -------
    codes : int32 (n,), number of each cell, 0 for the first
    first_index : int64 (unique,), row in which each number first appears, ascending

    Raises
    ------
    ValueError : offsets that do not fit the values

    Notes
    -----
    O(total bytes) expected; the hash is seeded by the interpreter's own (PYTHONHASHSEED).
    """
    if not offsets_fit(offsets, values.shape[0]):
        raise ValueError("expected ascending offsets within the values")
    cdef int64_t n = offsets.shape[0] - 1, unique
    codes = np.empty(n, dtype=np.int32)
    first_index = np.empty(n, dtype=np.int64)
    cdef int32_t[::1] codes_view = codes
    cdef int64_t[::1] first_view = first_index
    cdef const uint8_t* data = &values[0] if values.shape[0] else &NOTHING
    cdef uint64_t seed = <uint64_t><int64_t>hash(b"forebay")
    if n == 0:
        return codes, first_index
    with nogil:
        unique = number_cells(data, &offsets[0], n, &codes_view[0], &first_view[0], seed)
    if unique < 0:
        raise MemoryError
    return codes, first_index[:unique].copy()


def gather(
    const uint8_t[::1] values not None,
    const int64_t[::1] offsets not None,
    const int64_t[::1] index not None,
    int64_t max_bytes,
):
    """Return the cells at `index`, in that order.

    Parameters
    ----------
    values : uint8 (total bytes,)  IN
    offsets : int64 (n + 1,)  IN
    index : int64 (m,), 0..n - 1, may repeat  IN
    max_bytes : limit of the result's values, checked before they are allocated

    Returns
    -------
    (values, offsets) : uint8 and int64 (m + 1,), or None if the result would exceed max_bytes

    Raises
    ------
    ValueError : offsets that do not fit the values, or an index out of range
    """
    if not offsets_fit(offsets, values.shape[0]):
        raise ValueError("expected ascending offsets within the values")
    cdef int64_t n = offsets.shape[0] - 1, m = index.shape[0], i, j, total = 0
    cdef bint fits = True
    taken_offsets = np.empty(m + 1, dtype=np.int64)
    cdef int64_t[::1] to_offsets = taken_offsets
    to_offsets[0] = 0
    for i in range(m):
        j = index[i]
        if j < 0 or j >= n:
            raise ValueError(f"expected an index from 0 to {n - 1}")
        total += offsets[j + 1] - offsets[j]
        if total > max_bytes:
            fits = False
            break
        to_offsets[i + 1] = total
    if not fits:
        return None
    taken = np.empty(total, dtype=np.uint8)
    cdef uint8_t[::1] to = taken
    cdef const uint8_t* source = &values[0] if values.shape[0] else &NOTHING
    if total:
        with nogil:
            for i in range(m):
                j = index[i]
                memcpy(&to[0] + to_offsets[i], source + offsets[j], offsets[j + 1] - offsets[j])
    return taken, taken_offsets
