"""Cells of string and bytes columns (offsets and data): gathering, and finding those with long runs."""

import numpy as np

from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy


# Where empty columns point to: memcpy takes no NULL, not even for 0 bytes.
cdef uint8_t NOTHING = 0


cdef bint offsets_fit(const int64_t[::1] offsets, int64_t size) noexcept nogil:
    cdef int64_t i
    if offsets.shape[0] == 0 or offsets[0] < 0 or offsets[offsets.shape[0] - 1] > size:
        return False
    for i in range(1, offsets.shape[0]):
        if offsets[i] < offsets[i - 1]:
            return False
    return True


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


def with_runs(
    const uint8_t[::1] values not None,
    const int64_t[::1] offsets not None,
    const uint8_t[::1] wanted not None,
    int64_t least,
):
    """Find the cells that hold `least` wanted bytes in a row.

    Parameters
    ----------
    values : uint8 (total bytes,)  IN
    offsets : int64 (n + 1,)  IN
    wanted : uint8 (256,), not 0 for each byte that counts  IN
    least : at least 1

    Returns
    -------
    rows : int64 (k,), ascending

    Raises
    ------
    ValueError : offsets that do not fit the values, a table of another size, or `least` below 1

    Notes
    -----
    Looks at every `least`-th byte, and back from those that are wanted: where runs are short most bytes are
    never read.
    """
    if not offsets_fit(offsets, values.shape[0]):
        raise ValueError("expected ascending offsets within the values")
    if wanted.shape[0] != 256 or least < 1:
        raise ValueError("expected a table of 256 bytes and a run of at least 1")
    cdef int64_t n = offsets.shape[0] - 1, i, at, from_, back, found = 0
    # Columns without cells of that length, which most are, are told apart before anything is allocated.
    for i in range(n):
        found += offsets[i + 1] - offsets[i] >= least
    rows = np.empty(found, dtype=np.int64)
    if found == 0:
        return rows
    cdef int64_t[::1] to_rows = rows
    found = 0
    with nogil:
        for i in range(n):
            from_ = offsets[i]  # where a run may begin at the earliest
            at = from_ + least - 1
            while at < offsets[i + 1]:
                back = at
                while back >= from_ and wanted[values[back]]:
                    back -= 1
                if back < from_:
                    to_rows[found] = i
                    found += 1
                    break
                from_ = back + 1
                at = back + least
    return rows[:found].copy()
