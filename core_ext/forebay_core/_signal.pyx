"""Sample by sample checks with a state per key: validate, deadband; and scale.

Conventions shared by all kernels here
--------------------------------------
codes : uint8 (n,) quality codes or empty (all good); from 128 on the cell is null and its value is not read
groups : int32 (n,) index into the state arrays, or empty (all rows in group 0); negative: no state
time : int64 (n,), ns. Differences are taken as unsigned, so that no pair of times can overflow.
State arrays have one entry a group and are changed in place.
"""

from libc.float cimport DBL_EPSILON
from libc.math cimport fabs
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

cdef enum:
    # see forebay.quality
    GOOD = 0
    STUCK = 2
    RATE = 3
    BAD_FROM = 64
    RANGE = 65
    NULL_FROM = 128
    NAN_ = 130
    TYPE = 131
    SIZE = 132
    UNCHANGED = 137
    DEVICE_ERROR = 138
    OVERFLOW_ = 139
    # in `reported` of deadband: nothing was reported yet
    NOTHING = 255
    # bits of `seen` in validate
    SEEN_RATE = 1
    SEEN_STUCK = 2

cdef uint64_t NEVER = 0xFFFFFFFFFFFFFFFFULL


cdef inline uint64_t _elapsed(int64_t now, int64_t since) noexcept nogil:
    """Return now - since, 0 if time went back."""
    return <uint64_t>now - <uint64_t>since if now > since else 0


cdef inline uint64_t _distance(int64_t a, int64_t b) noexcept nogil:
    return <uint64_t>a - <uint64_t>b if a > b else <uint64_t>b - <uint64_t>a


cdef int _same_length(Py_ssize_t rows, Py_ssize_t codes, Py_ssize_t groups) except -1:
    """Check the optional arrays against the number of rows."""
    if codes != 0 and codes != rows:
        raise ValueError("codes and values differ in length")
    if groups != 0 and groups != rows:
        raise ValueError("groups and values differ in length")
    return 0


cdef inline bint _is_stuck(
    double value, int64_t now, uint64_t stuck_ns, double* same_value, int64_t* since, uint8_t* seen
) noexcept nogil:
    """Return whether the value has been the same for long; move the state on."""
    if not (seen[0] & SEEN_STUCK) or value != same_value[0] or now < since[0]:
        same_value[0] = value
        since[0] = now
        seen[0] |= SEEN_STUCK
        return False
    return _elapsed(now, since[0]) >= stuck_ns


cdef inline bint _is_fast(
    double value, int64_t now, double max_rate, double* rate_value, int64_t* rate_time, uint8_t* seen
) noexcept nogil:
    """Return whether the value changed too fast; move the state on."""
    cdef bint fast = False
    if not (seen[0] & SEEN_RATE) or now < rate_time[0]:
        seen[0] |= SEEN_RATE
    elif now == rate_time[0]:  # of samples at one time the first stays the reference
        return False
    else:
        fast = fabs(value - rate_value[0]) * 1e9 > max_rate * <double>(<uint64_t>now - <uint64_t>rate_time[0])
    rate_value[0] = value
    rate_time[0] = now
    return fast


def validate(
    const double[::1] values not None,
    const uint8_t[::1] codes not None,
    const int64_t[::1] time not None,
    const int32_t[::1] groups not None,
    double low,
    double high,
    double max_rate,
    int64_t stuck_ns,
    double[::1] rate_value not None,
    int64_t[::1] rate_time not None,
    double[::1] stuck_value not None,
    int64_t[::1] stuck_since not None,
    uint8_t[::1] seen not None,
    uint8_t[::1] out not None,
):
    """Mark cells out of range, changing too fast or unchanged for too long.

    Parameters
    ----------
    values, codes, time, groups : see the module.  IN
    low, high : inclusive limits; -inf and inf switch them off. A value outside is RANGE.
    max_rate : units per second, negative for off; |dv| / dt above it is RATE
    stuck_ns : negative for off; a value unchanged for at least this long is STUCK
    rate_value, rate_time, stuck_value, stuck_since, seen : state, one entry a group.  IN and OUT
    out : uint8 (n,), the higher of the cell's code and what was found.  OUT

    Returns
    -------
    Number of cells whose code rose.

    Raises
    ------
    ValueError
        If lengths differ or a group has no state.

    Notes
    -----
    Samples at one time are not judged for rate; when time goes back, reference and stuck timer start anew.
    NaN is passed over (blocks have none: NaN is null there).
    """
    cdef Py_ssize_t rows = values.shape[0], states = seen.shape[0], i, marked = 0
    cdef bint keyed = groups.shape[0] > 0, coded = codes.shape[0] > 0
    cdef bint rated = max_rate >= 0.0, timed = stuck_ns >= 0
    cdef int64_t group = 0
    cdef double value
    cdef uint8_t code = GOOD, found
    # Pointers in registers: after each write to `out` the compiler would load those of the views again.
    cdef double* rate_values
    cdef int64_t* rate_times
    cdef uint8_t* known
    _same_length(rows, codes.shape[0], groups.shape[0])
    if time.shape[0] != rows or out.shape[0] != rows:
        raise ValueError("time, out and values differ in length")
    if (
        rate_value.shape[0] < states
        or rate_time.shape[0] < states
        or stuck_value.shape[0] < states
        or stuck_since.shape[0] < states
        or (states == 0 and rows > 0)
    ):
        raise ValueError("state arrays differ in length")
    if rows == 0:
        return 0
    rate_values, rate_times, known = &rate_value[0], &rate_time[0], &seen[0]
    with nogil:
        for i in range(rows):
            if coded:
                code = codes[i]
            value = values[i]
            out[i] = code
            if code >= NULL_FROM or value != value:
                continue
            found = code
            if (value < low or value > high) and found < RANGE:
                found = RANGE
            if keyed:
                group = groups[i]
            if group >= states:
                marked = -1
                break
            if group >= 0:
                if timed and _is_stuck(
                    value, time[i], <uint64_t>stuck_ns, &stuck_value[group], &stuck_since[group],
                    &known[group],
                ):
                    found = max(found, <uint8_t>STUCK)
                # A bad or infinite value is no reference: a 9999 between two good ones is one fault, not two.
                if rated and found < BAD_FROM and value - value == 0.0 and _is_fast(
                    value, time[i], max_rate, &rate_values[group], &rate_times[group], &known[group]
                ):
                    found = max(found, <uint8_t>RATE)
            if found != code:
                out[i] = found
                marked += 1
    if marked < 0:
        raise ValueError("a group is outside the state arrays")
    return marked


cdef inline bint _is_failure(uint8_t code) noexcept nogil:
    """Whether a null says that something went wrong, as against there being nothing to say."""
    return code == NAN_ or code == TYPE or code == SIZE or code == DEVICE_ERROR or code == OVERFLOW_


cdef inline double _reach(double value, double absolute, double relative) noexcept nogil:
    """Return how far from this reported value another one says nothing new."""
    cdef double size = fabs(value), width = size * relative
    if size - size != 0.0:
        return -1.0  # from an infinite value every other one is a change
    if width < absolute:
        width = absolute
    # 20.1 - 20.0 is 0.10000000000000142: a step of just the deadband is no change.
    return width + 4.0 * DBL_EPSILON * size if width > 0.0 else width


cdef inline bint _repeats(
    double value, int64_t now, uint8_t code, uint64_t silence, double last, int64_t at, uint8_t told,
    double reach,
) noexcept nogil:
    """Return whether the cell says nothing that `last`, reported at `at` as `told`, has not said."""
    if code != told or (silence != NEVER and _distance(now, at) >= silence):
        return False
    return code >= NULL_FROM or value == last or fabs(value - last) <= reach


def deadband(
    const double[::1] values not None,
    const uint8_t[::1] codes not None,
    const int64_t[::1] time not None,
    const int32_t[::1] groups not None,
    double absolute,
    double relative,
    int64_t max_silence_ns,
    double[::1] last_value not None,
    int64_t[::1] last_time not None,
    uint8_t[::1] reported not None,
    uint8_t[::1] out not None,
):
    """Find the cells that repeat what was last reported.

    A cell is new if its value differs from the last reported one by more than the larger of `absolute`
    and `relative` times the last value's size, if its quality code changed, if nothing was reported for
    `max_silence_ns` (in data time, in either direction), or if it is the first of its group.

    Parameters
    ----------
    values, codes, time, groups : see the module.  IN
    absolute : in the field's unit, >= 0
    relative : fraction, >= 0 (0.02 is 2 %)
    max_silence_ns : negative for off
    last_value, last_time, reported : state; `reported` starts as 255, nothing yet.  IN and OUT
    out : uint8 (n,), 1 where the cell is unchanged and may be blanked.  OUT

    Returns
    -------
    Number of unchanged cells.

    Raises
    ------
    ValueError
        If lengths differ or a group has no state.

    Notes
    -----
    A null that reports a failure (nan, type, size, device_error, overflow) is news once, then unchanged.
    Other nulls and NaN say nothing: they are never marked and do not touch the state.
    A change of just the deadband is not reported, whatever the rounding of decimals: 4 ulp of slack.
    Reference: OPC UA part 4, 7.22.2 (absolute deadband, trigger StatusValue).
    """
    cdef Py_ssize_t rows = values.shape[0], states = reported.shape[0], i, unchanged = 0
    cdef bint keyed = groups.shape[0] > 0, coded = codes.shape[0] > 0
    cdef int64_t group = 0, at
    cdef double value, last, reach
    cdef uint8_t code = GOOD, told
    cdef uint64_t silence = NEVER if max_silence_ns < 0 else <uint64_t>max_silence_ns
    _same_length(rows, codes.shape[0], groups.shape[0])
    if time.shape[0] != rows or out.shape[0] != rows:
        raise ValueError("time, out and values differ in length")
    if last_value.shape[0] < states or last_time.shape[0] < states or (states == 0 and rows > 0):
        raise ValueError("state arrays differ in length")
    if rows == 0:
        return 0
    with nogil:
        if not keyed:  # one series: its state stays in registers, its reach is computed once a report
            last, at, told = last_value[0], last_time[0], reported[0]
            reach = _reach(last, absolute, relative)
            for i in range(rows):
                value = values[i]
                out[i] = 0
                if coded:
                    code = codes[i]
                if value != value or (code >= NULL_FROM and not _is_failure(code)):
                    continue
                if _repeats(value, time[i], code, silence, last, at, told, reach):
                    out[i] = 1
                    unchanged += 1
                else:
                    last, at, told = value, time[i], code
                    reach = _reach(value, absolute, relative)
            last_value[0], last_time[0], reported[0] = last, at, told
        else:
            for i in range(rows):
                value = values[i]
                group = groups[i]
                out[i] = 0
                if coded:
                    code = codes[i]
                if group < 0 or value != value or (code >= NULL_FROM and not _is_failure(code)):
                    continue
                if group >= states:
                    unchanged = -1
                    break
                last = last_value[group]
                reach = _reach(last, absolute, relative)
                if _repeats(value, time[i], code, silence, last, last_time[group], reported[group], reach):
                    out[i] = 1
                    unchanged += 1
                else:
                    last_value[group], last_time[group], reported[group] = value, time[i], code
    if unchanged < 0:
        raise ValueError("a group is outside the state arrays")
    return unchanged


def scale(
    const double[::1] values not None,
    const uint8_t[::1] codes not None,
    double multiply,
    double add,
    double divide,
    double[::1] out not None,
):
    """Compute (value * multiply + add) / divide; null cells become 0.

    Parameters
    ----------
    values, codes : see the module.  IN
    multiply, add, divide : factor 0.1 is better given as 1 / 10: 3 * 0.1 is not 0.3, 3 / 10 is
    out : float64 (n,).  OUT

    Raises
    ------
    ValueError
        If lengths differ.
    """
    cdef Py_ssize_t rows = values.shape[0], i
    _same_length(rows, codes.shape[0], 0)
    if out.shape[0] != rows:
        raise ValueError("out and values differ in length")
    with nogil:
        if codes.shape[0] == 0:
            for i in range(rows):
                out[i] = (values[i] * multiply + add) / divide
        else:
            for i in range(rows):
                out[i] = 0.0 if codes[i] >= NULL_FROM else (values[i] * multiply + add) / divide
