"""Filters with a state per key, sample by sample: exponential smoothing and gaps; level crossings of windows.

Conventions (codes, groups, time, state arrays) are those of _signal.pyx.
"""

from libc.math cimport expm1, isinf
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

cdef enum:
    # see forebay.quality
    GOOD = 0
    BAD_FROM = 64
    # of `gaps`: as many rows as fit an int32
    MOST_MISSED = 2147483647


cdef int _fits(
    Py_ssize_t rows, Py_ssize_t groups, Py_ssize_t states, Py_ssize_t shortest, Py_ssize_t others
) except -1:
    """Check rows against the optional groups and the shortest other array, and the state arrays."""
    if (groups != 0 and groups != rows) or others != rows:
        raise ValueError("the arrays of the rows differ in length")
    if shortest < states or (states == 0 and rows > 0):
        raise ValueError("state arrays differ in length")
    return 0


cdef inline double _towards(double level, double value, double weight) noexcept nogil:
    """Return level moved towards value; of values whose difference overflows as well."""
    cdef double away = value - level
    if isinf(away):
        return level * (1.0 - weight) + value * weight
    return level + weight * away


def smooth(
    const double[::1] values not None,
    const uint8_t[::1] codes not None,
    const int64_t[::1] time not None,
    const int32_t[::1] groups not None,
    double tau_ns,
    double[::1] level not None,
    int64_t[::1] level_time not None,
    uint8_t[::1] seen not None,
    double[::1] out not None,
):
    """Smooth each series exponentially by time, however irregular the samples.

    A sample moves the level by 1 - exp(-dt / tau) of its distance, dt being the time since the sample before.

    Parameters
    ----------
    values, codes, time, groups : see _signal.pyx.  IN
    tau_ns : time constant, > 0: after it a step has been followed to 63 %
    level, level_time, seen : state, one entry a group.  IN and OUT
    out : float64 (n,), the level at each usable sample; of the others the value as it is.  OUT

    Raises
    ------
    ValueError
        If lengths differ, a group has no state, or tau_ns is not positive.

    Notes
    -----
    Bad and null cells, NaN and infinities are not used and leave the state alone. Of samples at one time the
    first counts. When time goes back the series starts anew.

    References
    ----------
    A. Eckner, "Algorithms for unevenly spaced time series: moving averages and other rolling operators",
    2017.
    """
    cdef Py_ssize_t rows = values.shape[0], states = seen.shape[0], i
    cdef bint keyed = groups.shape[0] > 0, coded = codes.shape[0] > 0, bad = False
    cdef int64_t group = 0
    cdef double value
    _fits(rows, groups.shape[0], states, min(level.shape[0], level_time.shape[0]), time.shape[0])
    if out.shape[0] != rows or (coded and codes.shape[0] != rows):
        raise ValueError("the arrays of the rows differ in length")
    if not tau_ns > 0.0:
        raise ValueError("tau_ns must be positive")
    with nogil:
        for i in range(rows):
            value = out[i] = values[i]
            if keyed:
                group = groups[i]
            if group < 0 or (coded and codes[i] >= BAD_FROM) or value - value != 0.0:
                continue
            if group >= states:
                bad = True
                break
            if not seen[group] or time[i] < level_time[group]:
                seen[group] = 1
                level[group] = value
            else:
                level[group] = _towards(
                    level[group], value,
                    -expm1(-<double>(<uint64_t>time[i] - <uint64_t>level_time[group]) / tau_ns),
                )
            level_time[group] = time[i]
            out[i] = level[group]
    if bad:
        raise ValueError("a group is outside the state arrays")


def gaps(
    const int64_t[::1] time not None,
    const int32_t[::1] groups not None,
    int64_t every_ns,
    int64_t longest_ns,
    int64_t back_ns,
    int64_t[::1] last_time not None,
    uint8_t[::1] seen not None,
    int64_t[::1] since not None,
    int32_t[::1] missed not None,
):
    """Find the rows before which rows are missing.

    Parameters
    ----------
    time, groups : see _signal.pyx.  IN
    every_ns : the expected distance of a group's rows, > 0
    longest_ns : a longer distance is a gap, >= every_ns
    back_ns : a row up to so much behind its group's latest time is out of order and says nothing; further
        back, the clock was set back and the group starts anew
    last_time, seen : state: each group's latest time, 1 once there is one.  IN and OUT
    since : int64 (n,), time of the row before the gap; only where `missed` is not 0.  OUT
    missed : int32 (n,), rows that should have come since, at least 1 (at most 2**31 - 1); 0: no gap.  OUT

    Returns
    -------
    Number of gaps.

    Raises
    ------
    ValueError
        If lengths differ, a group has no state, or a distance is not positive.
    """
    cdef Py_ssize_t rows = time.shape[0], states = seen.shape[0], i, found = 0
    cdef bint keyed = groups.shape[0] > 0
    cdef int64_t group = 0
    cdef uint64_t distance, count
    _fits(rows, groups.shape[0], states, last_time.shape[0], missed.shape[0])
    if since.shape[0] != rows:
        raise ValueError("the arrays of the rows differ in length")
    if every_ns <= 0 or longest_ns < every_ns or back_ns < 0:
        raise ValueError("every_ns must be positive, longest_ns not shorter, back_ns not negative")
    with nogil:
        for i in range(rows):
            missed[i] = 0
            if keyed:
                group = groups[i]
            if group < 0:
                continue
            if group >= states:
                found = -1
                break
            if seen[group] and time[i] < last_time[group]:
                if <uint64_t>last_time[group] - <uint64_t>time[i] <= <uint64_t>back_ns:
                    continue
            elif seen[group]:
                distance = <uint64_t>time[i] - <uint64_t>last_time[group]
                if distance > <uint64_t>longest_ns:
                    count = distance / <uint64_t>every_ns  # rounded to the nearest below, less the row itself
                    if distance % <uint64_t>every_ns <= <uint64_t>every_ns / 2 and count > 1:
                        count -= 1
                    missed[i] = <int32_t>(count if count < MOST_MISSED else MOST_MISSED)
                    since[i] = last_time[group]
                    found += 1
            seen[group] = 1
            last_time[group] = time[i]
    if found < 0:
        raise ValueError("a group is outside the state arrays")
    return found


def crossings(
    const double[::1] values not None,
    const int64_t[::1] starts not None,
    const int64_t[::1] ends not None,
    const double[::1] levels not None,
    double hysteresis,
    int64_t[::1] out not None,
):
    """Count how often each window crosses its level, in either direction.

    Parameters
    ----------
    values : float64 (n,).  IN
    starts, ends : int64 (n_windows,), window w is values[starts[w]:ends[w]]; they may overlap.  IN
    levels : float64 (n_windows,), in the unit of the samples.  IN
    hysteresis : >= 0; a side is reached only further than this from the level, so that noise on the level
        counts nothing
    out : int64 (n_windows,).  OUT

    Raises
    ------
    ValueError
        If a window lies outside the samples, lengths differ, or the hysteresis is negative or NaN.

    Notes
    -----
    A sample on the level, and NaN, is on neither side. With a level of NaN nothing is crossed.
    """
    cdef Py_ssize_t windows = starts.shape[0], w, i
    cdef int64_t count
    cdef double high, low
    cdef int side, now
    if ends.shape[0] != windows or levels.shape[0] != windows or out.shape[0] != windows:
        raise ValueError("starts, ends, levels and out differ in length")
    if not hysteresis >= 0.0:
        raise ValueError("hysteresis must not be negative")
    for w in range(windows):
        if starts[w] < 0 or ends[w] < starts[w] or ends[w] > values.shape[0]:
            raise ValueError("a window lies outside the samples")
    with nogil:
        for w in range(windows):
            high, low, side, count = levels[w] + hysteresis, levels[w] - hysteresis, 0, 0
            for i in range(starts[w], ends[w]):
                now = (values[i] > high) - (values[i] < low)
                if now != 0:
                    count += side + now == 0
                    side = now
            out[w] = count
