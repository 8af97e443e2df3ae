# Columns of numbers on their way to the scan: their text, and which of them are long enough to be
# identifiers. Included by _text.pyx.

def decimal_text(const int64_t[::1] values not None):
    """Write integers as decimal text, so that numbers can be scanned.

    Parameters
    ----------
    values : int64 (n,).  IN

    Returns
    -------
    data : uint8 (total,), the digits, a minus sign before negative ones
    offsets : int64 (n + 1,)
    """
    cdef Py_ssize_t i, n = values.shape[0], used = 0
    cdef uint64_t rest
    cdef int k
    cdef uint8_t buffer[20]
    text, ends = np.empty(n * 20, np.uint8), np.zeros(n + 1, np.int64)
    cdef uint8_t[::1] data = text
    cdef int64_t[::1] offsets = ends
    with nogil:
        for i in range(n):
            # the magnitude in unsigned arithmetic: -(-2**63) does not fit an int64
            rest = <uint64_t> values[i] if values[i] >= 0 else 0 - <uint64_t> values[i]
            k = 0
            while rest or k == 0:
                buffer[k] = 48 + <uint8_t> (rest % 10)
                rest //= 10
                k += 1
            if values[i] < 0:
                data[used] = 45
                used += 1
            while k:
                k -= 1
                data[used] = buffer[k]
                used += 1
            offsets[i + 1] = used
    return text[:used].copy(), ends


_NONE = np.empty(0, np.int64)  # most columns: two arrays made anew cost more than the search


def long_ints(const int64_t[::1] values not None, int64_t least):
    """Find integers whose magnitude is at least `least`: as text they may be identifiers.

    Parameters
    ----------
    values : int64 (n,).  IN
    least : at least 1

    Returns
    -------
    rows : int64 (k,), ascending
    numbers : int64 (k,), the values there
    """
    cdef Py_ssize_t i, k = 0, found = 0, n = values.shape[0]
    cdef uint64_t below = <uint64_t>least - 1
    if least < 1:
        raise ValueError("the least magnitude is at least 1")
    with nogil:
        # One comparison for both ends: what lies between them becomes at most twice `below`.
        for i in range(n):
            found += <uint64_t>values[i] + below > 2 * below
    if found == 0:
        return _NONE, _NONE
    rows, numbers = np.empty(found, np.int64), np.empty(found, np.int64)
    cdef int64_t[::1] to_rows = rows, to_numbers = numbers
    with nogil:
        for i in range(n):
            if values[i] >= least or values[i] <= -least:
                to_rows[k] = i
                to_numbers[k] = values[i]
                k += 1
    return rows, numbers


cdef inline bint is_long(double value, double least) noexcept nogil:
    # beyond 2^53 a double is no count of anything; NaN compares false
    return least <= fabs(value) <= 9007199254740992.0 and value == <double> <int64_t> value


def long_floats(const double[::1] values not None, int64_t least):
    """Find whole numbers whose magnitude is at least `least`, as `long_ints` does.

    Parameters
    ----------
    values : float64 (n,).  IN
    least : at least 1

    Returns
    -------
    rows : int64 (k,), ascending
    numbers : int64 (k,), the values there

    Notes
    -----
    Numbers beyond 2^53, NaN and infinities are left out.
    """
    cdef Py_ssize_t i, k = 0, found = 0, n = values.shape[0]
    cdef double bound = <double> least
    if least < 1:
        raise ValueError("the least magnitude is at least 1")
    with nogil:
        for i in range(n):
            found += fabs(values[i]) >= bound
        if found:
            found = 0
            for i in range(n):
                found += is_long(values[i], bound)
    if found == 0:
        return _NONE, _NONE
    rows, numbers = np.empty(found, np.int64), np.empty(found, np.int64)
    cdef int64_t[::1] to_rows = rows, to_numbers = numbers
    with nogil:
        for i in range(n):
            if is_long(values[i], bound):
                to_rows[k] = i
                to_numbers[k] = <int64_t> values[i]
                k += 1
    return rows, numbers
