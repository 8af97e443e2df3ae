"""Cells of string and bytes columns (offsets and data): gathering."""

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
