"""Resampling of the rows of many keys in one call: points that are settled, rows that are still needed.

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


cdef struct Rows:
    # Those of one stretch. Field f has its cells from values + f * width on, codes likewise.
    const int64_t* time
    const double* values
    const uint8_t* codes
    Py_ssize_t rows
    Py_ssize_t fields
    Py_ssize_t width


cdef inline void _select(const Rows* r, Py_ssize_t field, Series* series) noexcept nogil:
    """Let `series` be a field's."""
    series.time, series.rows = r.time, r.rows
    series.values, series.codes = r.values + field * r.width, r.codes + field * r.width


cdef int64_t _settled(
    const Rows* r, int64_t every, uint64_t gap, int method, bint final
) noexcept nogil:
    """Return the number of the last point that later rows cannot change."""
    cdef Py_ssize_t f, i
    cdef int64_t latest = r.time[r.rows - 1], end
    cdef Series s
    if method == MEAN:
        return _floor(latest, every) + final
    if final:
        return _floor(latest, every)
    end = _ceiling(latest, every) - 1  # another row may come at the very same time
    if method == LINEAR:
        for f in range(r.fields):
            _select(r, f, &s)
            i = r.rows - 1
            while i >= 0 and not _usable(s.values[i], s.codes[i]):
                i -= 1
            if i >= 0 and _between(r.time[i], latest) <= gap and _floor(r.time[i], every) < end:
                end = _floor(r.time[i], every)
    return end


cdef Py_ssize_t _needed(
    const Rows* r, int64_t number, int64_t every, uint64_t gap, int method
) noexcept nogil:
    """Return the first row that a point from `number` on may need."""
    cdef Py_ssize_t needed = r.rows, f, i
    cdef int64_t point = number * every if -(TIME_MAX / every) <= number <= TIME_MAX / every else (
        TIME_MAX if number > 0 else TIME_MIN
    )
    cdef int64_t latest = r.time[r.rows - 1], until = point if point < latest else latest
    cdef Series s
    while needed > 0 and (
        r.time[needed - 1] >= point or _between(r.time[needed - 1], point) <= <uint64_t>every
    ):
        needed -= 1
    if method != MEAN:
        for f in range(r.fields):
            _select(r, f, &s)
            i = r.rows - 1
            while i >= 0 and (r.time[i] > point or not _usable(s.values[i], s.codes[i])):
                i -= 1
            if 0 <= i < needed and _between(r.time[i], until) <= gap:
                needed = i
    return needed


cdef Py_ssize_t _points(
    const Rows* r, int64_t* first, int64_t every, uint64_t gap, int method, bint final, Place* places,
    Py_ssize_t made, int64_t[::1] out_time, double[:, ::1] out_values, uint8_t[:, ::1] out_codes,
) noexcept nogil:
    """Write the settled points of a stretch behind the `made` ones; return how many there are then.

    `first` moves on to the first open point. What does not fit is counted only.
    """
    cdef Py_ssize_t f, room = out_time.shape[0]
    cdef int64_t number = first[0], end, grid, soonest, candidate
    cdef bint any_value
    cdef double value = 0.0
    cdef uint8_t code = 0
    cdef Series series
    for f in range(r.fields):
        _select(r, f, &series)
        places[f].at, places[f].after = -1, _next(&series, -1)
    end = _settled(r, every, gap, method, final)
    if number <= end:
        first[0] = end + 1
    if end > TIME_MAX / every:
        end = TIME_MAX / every
    while number <= end:
        grid = number * every
        any_value, soonest = False, TIME_MAX
        for f in range(r.fields):
            _select(r, f, &series)
            if _value(&series, &places[f], grid, every, gap, method, &value, &code):
                any_value = True
            if made < room:
                out_values[f, made], out_codes[f, made] = value, code
            if not any_value:
                if places[f].after < r.rows:
                    candidate = r.time[places[f].after]
                    if method == MEAN:
                        candidate = _floor(candidate, every) + 1
                    else:
                        candidate = _ceiling(candidate, every)
                    if candidate < soonest:
                        soonest = candidate
        if any_value:
            if made < room:
                out_time[made] = grid
            made += 1
            number += 1
        else:
            number = soonest if soonest > number else number + 1
    return made


def advance(
    const int64_t[::1] time not None,
    const double[:, ::1] values not None,
    const uint8_t[:, ::1] codes not None,
    const int64_t[::1] bounds not None,
    const uint8_t[::1] final not None,
    int64_t every_ns,
    int64_t max_gap_ns,
    int method,
    int64_t[::1] first not None,
    int64_t[::1] made not None,
    int64_t[::1] needed not None,
    int64_t[::1] out_time not None,
    double[:, ::1] out_values not None,
    uint8_t[:, ::1] out_codes not None,
):
    """Give the points of each stretch that are settled and have a value in some field.

    A stretch is rows of one key. Stretches know nothing of each other.

    Parameters
    ----------
    time : int64 (n,), ns, not decreasing within a stretch.  IN
    values : float64 (fields, n).  IN
    codes : uint8 (fields, n); cells of 64 and above, NaN and infinities are not used.  IN
    bounds : int64 (stretches + 1,); stretch s is the rows bounds[s]:bounds[s + 1], at least one.  IN
    final : uint8 (stretches,); 1: no rows come after these.  IN
    every_ns, max_gap_ns : > 0, >= 0; the gap is of `linear` and `last`
    method : 0 linear, 1 last, 2 mean
    first : int64 (stretches,), number of the first open point.  IN and OUT: of the first that is open now
    made : int64 (stretches,), points written.  OUT
    needed : int64 (stretches,), the first row, counted in the stretch, that open points may need.  OUT
    out_time : int64 (room,), ns, of the points, stretch by stretch.  OUT
    out_values, out_codes : float64 and uint8 (fields, room): a value and its code; where a field has none 0
        and missing (128).  OUT

    Returns
    -------
    int : points in all. More than `room`: so many are needed, and the points written do not count.

    Raises
    ------
    ValueError
        If shapes do not agree, a stretch has no row, the method is unknown, or step or gap are not positive.

    Notes
    -----
    O(fields (n + points)): stretches of time without values are passed over, however long.
    """
    cdef Py_ssize_t rows = time.shape[0], fields = values.shape[0], room = out_time.shape[0]
    cdef Py_ssize_t stretches = final.shape[0], s, total = 0, before
    cdef Place* places
    cdef Rows r
    if (
        values.shape[1] != rows or codes.shape[0] != fields or codes.shape[1] != rows
        or out_values.shape[0] != fields or out_codes.shape[0] != fields
        or out_values.shape[1] != room or out_codes.shape[1] != room
        or bounds.shape[0] != stretches + 1 or first.shape[0] != stretches
        or made.shape[0] != stretches or needed.shape[0] != stretches
    ):
        raise ValueError("rows, stretches and the outputs differ in shape")
    if bounds[0] != 0 or bounds[stretches] != rows:
        raise ValueError("the stretches are not the rows")
    for s in range(stretches):
        if bounds[s + 1] <= bounds[s]:
            raise ValueError("a stretch has no row")
    if every_ns <= 0 or max_gap_ns < 0 or method not in (LINEAR, LAST, MEAN):
        raise ValueError("every_ns must be positive, max_gap_ns not negative, the method 0, 1 or 2")
    if rows == 0 or fields == 0:
        made[:] = 0
        needed[:] = 0
        return 0
    places = <Place*>malloc(fields * sizeof(Place))
    if places == NULL:
        raise MemoryError
    with nogil:
        r.fields, r.width = fields, rows
        for s in range(stretches):
            r.rows = bounds[s + 1] - bounds[s]
            r.time, r.values, r.codes = &time[bounds[s]], &values[0, bounds[s]], &codes[0, bounds[s]]
            before = total
            total = _points(
                &r, &first[s], every_ns, <uint64_t>max_gap_ns, method, final[s], places, total,
                out_time, out_values, out_codes,
            )
            made[s] = total - before
            needed[s] = _needed(&r, first[s], every_ns, <uint64_t>max_gap_ns, method)
        free(places)
    return total
