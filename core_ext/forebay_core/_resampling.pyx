"""Resampling of one key's rows, all fields in one call: points that are settled, rows that are still needed.

The grid is the multiples of `every_ns` since 1970-01-01 UTC; a point is named by its number,
point / every_ns. What the methods mean, and when a point is settled, is said in forebay.preprocess.resample.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc

cdef enum:
    GOOD = 0
    INTERPOLATED = 5
    BAD_FROM = 64
    MISSING = 128
    LINEAR = 0
    LAST = 1
    MEAN = 2

cdef int64_t TIME_MIN = -0x7FFFFFFFFFFFFFFF - 1
cdef int64_t TIME_MAX = 0x7FFFFFFFFFFFFFFF


cdef inline int64_t _floor(int64_t a, int64_t b) noexcept nogil:
    """Floor of a / b for b > 0."""
    return a / b - 1 if a % b < 0 else a / b


cdef inline int64_t _ceiling(int64_t a, int64_t b) noexcept nogil:
    """Ceiling of a / b for b > 0."""
    return a / b + 1 if a % b > 0 else a / b


cdef inline uint64_t _between(int64_t early, int64_t late) noexcept nogil:
    """Return late - early for late >= early."""
    return <uint64_t>late - <uint64_t>early


cdef inline bint _usable(double value, uint8_t code) noexcept nogil:
    return code < BAD_FROM and value - value == 0.0


cdef struct Series:
    const int64_t* time
    const double* values  # of one field
    const uint8_t* codes
    Py_ssize_t rows

cdef struct Place:
    Py_ssize_t at  # the last usable row passed, -1 before the first
    Py_ssize_t after  # the usable row behind it, `rows` if there is none


cdef inline Py_ssize_t _next(const Series* s, Py_ssize_t at) noexcept nogil:
    """Return the first usable row behind `at`, `rows` if there is none."""
    at += 1
    while at < s.rows and not _usable(s.values[at], s.codes[at]):
        at += 1
    return at


cdef inline void _move(const Series* s, Place* place) noexcept nogil:
    """Pass one usable row."""
    place.at = place.after
    place.after = _next(s, place.at)


cdef bint _value(
    const Series* s, Place* place, int64_t grid, uint64_t every, uint64_t gap, int method,
    double* value, uint8_t* code,
) noexcept nogil:
    """Write the value at a grid point; return whether there is one. `place` moves on to the point."""
    cdef double total = 0.0
    cdef Py_ssize_t count = 0, at, after
    value[0] = 0.0
    code[0] = MISSING
    if method == MEAN:
        while place.after < s.rows and s.time[place.after] < grid:
            _move(s, place)
            if _between(s.time[place.at], grid) <= every:
                total += s.values[place.at]
                count += 1
        if count:
            value[0] = total / <double>count
            code[0] = GOOD
        return count > 0
    while place.after < s.rows and s.time[place.after] <= grid:
        _move(s, place)
    at, after = place.at, place.after
    if at < 0:
        return False
    if s.time[at] == grid:
        value[0], code[0] = s.values[at], s.codes[at]
        return True
    if method == LAST:
        if _between(s.time[at], grid) > gap:
            return False
        value[0] = s.values[at]
    else:
        if after >= s.rows or _between(s.time[at], s.time[after]) > gap:
            return False
        value[0] = s.values[at] + (s.values[after] - s.values[at]) * (
            <double>_between(s.time[at], grid) / <double>_between(s.time[at], s.time[after])
        )
    code[0] = INTERPOLATED
    return True


cdef int64_t _settled(
    const double[:, ::1] values, const uint8_t[:, ::1] codes, const int64_t[::1] time, int64_t every,
    uint64_t gap, int method, bint final,
) noexcept nogil:
    """Return the number of the last point that later rows cannot change."""
    cdef Py_ssize_t rows = time.shape[0], f, i
    cdef int64_t latest = time[rows - 1], end
    if method == MEAN:
        return _floor(latest, every) + final
    if final:
        return _floor(latest, every)
    end = _ceiling(latest, every) - 1  # another row may come at the very same time
    if method == LINEAR:
        for f in range(values.shape[0]):
            i = rows - 1
            while i >= 0 and not _usable(values[f, i], codes[f, i]):
                i -= 1
            if i >= 0 and _between(time[i], latest) <= gap and _floor(time[i], every) < end:
                end = _floor(time[i], every)
    return end


cdef Py_ssize_t _needed(
    const double[:, ::1] values, const uint8_t[:, ::1] codes, const int64_t[::1] time, int64_t number,
    int64_t every, uint64_t gap, int method,
) noexcept nogil:
    """Return the first row that a point from `number` on may need."""
    cdef Py_ssize_t rows = time.shape[0], needed = rows, f, i
    cdef int64_t point = number * every if -(TIME_MAX / every) <= number <= TIME_MAX / every else (
        TIME_MAX if number > 0 else TIME_MIN
    )
    cdef int64_t latest = time[rows - 1], until = point if point < latest else latest
    while needed > 0 and (time[needed - 1] >= point or _between(time[needed - 1], point) <= <uint64_t>every):
        needed -= 1
    if method != MEAN:
        for f in range(values.shape[0]):
            i = rows - 1
            while i >= 0 and (time[i] > point or not _usable(values[f, i], codes[f, i])):
                i -= 1
            if 0 <= i < needed and _between(time[i], until) <= gap:
                needed = i
    return needed


def advance(
    const int64_t[::1] time not None,
    const double[:, ::1] values not None,
    const uint8_t[:, ::1] codes not None,
    int64_t first,
    int64_t every_ns,
    int64_t max_gap_ns,
    int method,
    bint final,
    int64_t[::1] out_time not None,
    double[:, ::1] out_values not None,
    uint8_t[:, ::1] out_codes not None,
):
    """Give the points from number `first` on that are settled and have a value in some field.

    Parameters
    ----------
    time : int64 (n,), ns, not decreasing, n >= 1.  IN
    values : float64 (fields, n).  IN
    codes : uint8 (fields, n); cells of 64 and above, NaN and infinities are not used.  IN
    first : number of the first open point
    every_ns, max_gap_ns : > 0, >= 0; the gap is of `linear` and `last`
    method : 0 linear, 1 last, 2 mean
    final : nothing comes behind these rows
    out_time : int64 (room,).  OUT
    out_values, out_codes : float64 and uint8 (fields, room): a value and its code; where a field has none 0
        and missing (128).  OUT

    Returns
    -------
    made : points written; more than `room`: so many are needed, nothing else counts
    first : number of the first point that is open now
    needed : the first row that open points may need

    Raises
    ------
    ValueError
        If shapes do not agree, there is no row, the method is unknown, or step or gap are not positive.

    Notes
    -----
    O(fields (n + points)): stretches without values are passed over, however long.
    """
    cdef Py_ssize_t rows = time.shape[0], fields = values.shape[0], room = out_time.shape[0]
    cdef Py_ssize_t f, made = 0, needed
    cdef int64_t number = first, end, grid, soonest, candidate
    cdef bint any_value
    cdef double value = 0.0
    cdef uint8_t code = 0
    cdef Place* places
    cdef Series series
    if (
        rows == 0 or values.shape[1] != rows or codes.shape[0] != fields or codes.shape[1] != rows
        or out_values.shape[0] != fields or out_codes.shape[0] != fields
        or out_values.shape[1] != room or out_codes.shape[1] != room
    ):
        raise ValueError("time, values, codes and the outputs differ in shape, or there is no row")
    if every_ns <= 0 or max_gap_ns < 0 or method not in (LINEAR, LAST, MEAN):
        raise ValueError("every_ns must be positive, max_gap_ns not negative, the method 0, 1 or 2")
    places = <Place*>malloc((fields + 1) * sizeof(Place))
    if places == NULL:
        raise MemoryError
    with nogil:
        series.time, series.rows = &time[0], rows
        for f in range(fields):
            series.values, series.codes = &values[f, 0], &codes[f, 0]
            places[f].at, places[f].after = -1, _next(&series, -1)
        end = _settled(values, codes, time, every_ns, <uint64_t>max_gap_ns, method, final)
        if number <= end:
            first = end + 1
        if end > TIME_MAX / every_ns:
            end = TIME_MAX / every_ns
        while number <= end:
            grid = number * every_ns
            any_value, soonest = False, TIME_MAX
            for f in range(fields):
                series.values, series.codes = &values[f, 0], &codes[f, 0]
                if _value(
                    &series, &places[f], grid, <uint64_t>every_ns, <uint64_t>max_gap_ns, method, &value, &code
                ):
                    any_value = True
                if made < room:
                    out_values[f, made], out_codes[f, made] = value, code
                if not any_value:
                    if places[f].after < rows:
                        candidate = time[places[f].after]
                        candidate = _floor(candidate, every_ns) + 1 if method == MEAN else _ceiling(
                            candidate, every_ns
                        )
                        if candidate < soonest:
                            soonest = candidate
            if any_value:
                if made < room:
                    out_time[made] = grid
                made += 1
                number += 1
            else:
                number = soonest if soonest > number else number + 1
        needed = _needed(values, codes, time, first, every_ns, <uint64_t>max_gap_ns, method)
        free(places)
    return made, first, needed
