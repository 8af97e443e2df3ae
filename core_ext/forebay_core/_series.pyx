# cython: language_level=3
"""Windows of any number of series, normalised by what each series is used to, and how surprising an error is.

One pass over cells in order of arrival. Each series (one field of one device) has a row in the state arrays;
all it knows is there, so a saved and restored state goes on to the bit.

`track` columns, float64, one row a series:

    0 COUNT     values seen
    1 LAST      last value
    2 INTERVAL  mean time between values, ns
    3 FILL      differences in the ring, up to its width
    4 STEP      mean |difference|: the unit in which windows are given
    5 LEVEL     mean value
    6 SPREAD    mean |value - LEVEL|
    7 RECENT    mean value that forgets SHORT times faster
    8 SCORED    errors seen
    9 KNEE      running 0.9 quantile of the error
    10 NOISE    mean |error - KNEE|
    11 TAIL     mean excess of the error over KNEE

A mean's weight is 1/n until `memory` values, then 1/memory: cumulative at first, exponential afterwards.
All are winsorised at CLIP times the mean, so that a fault does not teach the series to expect faults.
"""

from libc.math cimport exp, fabs, fmax, fmin, isfinite
from libc.stdint cimport int32_t, int64_t, uint8_t

cdef enum:
    COUNT = 0
    LAST = 1
    INTERVAL = 2
    FILL = 3
    STEP = 4
    LEVEL = 5
    SPREAD = 6
    RECENT = 7
    SCORED = 8
    KNEE = 9
    NOISE = 10
    TAIL = 11
    WIDTH = 12

TRACK_WIDTH = WIDTH

cdef double CLIP = 5.0        # a deviation counts as at most this many mean deviations
cdef double GAP = 20.0        # an interval of this many mean ones breaks the window
cdef double SHORT = 16.0      # how much faster RECENT forgets
cdef double BOUND = 1e6       # largest normalised number: float32 squares of it stay finite
cdef double QUANTILE = 0.9    # where the tail begins
cdef double MIN_TAIL = 0.3    # floor of TAIL, units of the error: few errors cannot show a thinner one
cdef double FLOOR = 1e-12     # a STEP below this share of LEVEL is rounding of the numbers themselves
cdef double MIDDLE = 1.75     # excess, in TAILs, that scores 0.5 ...
cdef double SLOPE = 1.2555572  # ... ln 9 / MIDDLE: none scores 0.1, twice MIDDLE scores 0.9
cdef double LARGEST = 3e38    # float32
cdef double USABLE = 1e150    # beyond it differences and their means overflow


cdef inline double _within(double x, double bound) noexcept nogil:
    return fmax(-bound, fmin(bound, x))


cdef inline double _learn(double mean, double x, double weight, bint young) noexcept nogil:
    """Return the running mean of a magnitude; while young or zero nothing is known to clip by."""
    if not young and mean > 0.0 and x > CLIP * mean:
        x = CLIP * mean
    return mean + weight * (x - mean)


cdef inline double _pull(double mean, double x, double weight, double bound) noexcept nogil:
    """Return the running mean of a value, moved by at most `bound` a step (0: not bounded)."""
    cdef double away = x - mean
    if bound > 0.0:
        away = _within(away, bound)
    return mean + weight * away


cdef bint _observe(
    double x, double dt, float[:, ::1] ring, double[:, ::1] track, Py_ssize_t s, double memory
) noexcept nogil:
    """Take one value into series s; return whether its window is full."""
    cdef Py_ssize_t width = ring.shape[1]
    cdef Py_ssize_t j
    cdef double n = track[s, COUNT] + 1.0
    cdef double weight = 1.0 / fmin(n, memory)
    cdef double d = x - track[s, LAST]
    cdef bint young = n <= width
    cdef bint broken = False
    cdef double bound
    track[s, COUNT] = n
    track[s, LAST] = x
    if n == 1.0:
        track[s, LEVEL] = x
        track[s, RECENT] = x
        return False
    if dt >= 0.0:  # a clock that went back says nothing about the interval
        broken = not young and track[s, INTERVAL] > 0.0 and dt > GAP * track[s, INTERVAL]
        track[s, INTERVAL] = _learn(track[s, INTERVAL], dt, weight, young)
    bound = 0.0 if young else CLIP * track[s, SPREAD]
    track[s, LEVEL] = _pull(track[s, LEVEL], x, weight, bound)
    track[s, RECENT] = _pull(track[s, RECENT], x, fmin(1.0, weight * SHORT), bound)
    track[s, SPREAD] = _learn(track[s, SPREAD], fabs(x - track[s, LEVEL]), weight, young)
    if broken:
        # The difference across an outage says nothing: the window begins anew, what was learned stays.
        track[s, FILL] = 0.0
        return False
    track[s, STEP] = _learn(track[s, STEP], fabs(d), weight, young)
    for j in range(width - 1):
        ring[s, j] = ring[s, j + 1]
    ring[s, width - 1] = <float>_within(d, LARGEST)
    if track[s, FILL] < width:
        track[s, FILL] += 1.0
    return track[s, FILL] >= width and track[s, STEP] > FLOOR * fabs(track[s, LEVEL])


cdef inline double _score(double over, double tail) noexcept nogil:
    """Return 0..1 for an error `over` the knee of its series."""
    return 1.0 / (1.0 + exp(-SLOPE * (over / fmax(tail, MIN_TAIL) - MIDDLE)))


def windows(
    const double[::1] values not None,
    const int64_t[::1] time not None,
    const int32_t[::1] series not None,
    float[:, ::1] ring not None,
    int64_t[::1] stamp not None,
    double[:, ::1] track not None,
    double memory,
    float[:, ::1] out not None,
    uint8_t[::1] ready not None,
):
    """See forebay_core.series."""
    cdef Py_ssize_t n = values.shape[0]
    cdef Py_ssize_t width = ring.shape[1]
    cdef Py_ssize_t i, j, s
    cdef double dt, scale
    if (
        time.shape[0] != n or series.shape[0] != n or out.shape[0] != n or ready.shape[0] != n
        or out.shape[1] != width + 2 or track.shape[0] != ring.shape[0] or stamp.shape[0] != ring.shape[0]
        or track.shape[1] != WIDTH or width < 1 or memory < 1.0
    ):
        raise ValueError("array shapes do not agree")
    for i in range(n):
        if series[i] < 0 or series[i] >= ring.shape[0]:
            raise ValueError(f"series number out of range at {i}")
    with nogil:
        for i in range(n):
            ready[i] = 0
            s = series[i]
            for j in range(width + 2):
                out[i, j] = 0.0
            if not fabs(values[i]) <= USABLE:  # also false for NaN
                continue
            dt = <double>time[i] - <double>stamp[s]
            stamp[s] = time[i]
            if not _observe(values[i], dt, ring, track, s, memory):
                continue
            scale = track[s, STEP]
            for j in range(width):
                out[i, j] = <float>_within(<double>ring[s, j] / scale, BOUND)
            scale = track[s, SPREAD]
            if scale > 0.0:
                out[i, width] = <float>_within((values[i] - track[s, LEVEL]) / scale, BOUND)
                out[i, width + 1] = <float>_within((values[i] - track[s, RECENT]) / scale, BOUND)
            ready[i] = 1


def surprise(
    const float[::1] error not None,
    const int32_t[::1] series not None,
    double[:, ::1] track not None,
    double memory,
    double calibration,
    double[::1] score not None,
):
    """See forebay_core.series."""
    cdef Py_ssize_t n = error.shape[0]
    cdef Py_ssize_t i, s
    cdef double e, k, weight, over
    cdef bint young
    if series.shape[0] != n or score.shape[0] != n or track.shape[1] != WIDTH or memory < 1.0:
        raise ValueError("array shapes do not agree")
    for i in range(n):
        if series[i] < 0 or series[i] >= track.shape[0]:
            raise ValueError(f"series number out of range at {i}")
    with nogil:
        for i in range(n):
            score[i] = -1.0
            s = series[i]
            if not isfinite(error[i]):
                continue
            e = error[i]
            k = track[s, SCORED] + 1.0
            track[s, SCORED] = k
            if k == 1.0:
                track[s, KNEE] = e
                continue
            over = e - track[s, KNEE]
            if k > calibration:
                score[i] = _score(over, track[s, TAIL])
            weight = 1.0 / fmin(k, memory)
            young = k <= 16.0
            track[s, NOISE] = _learn(track[s, NOISE], fabs(over), weight, young)
            if over > 0.0:
                # Only a tenth of the errors are excesses, so each weighs ten times as much.
                track[s, TAIL] = _learn(track[s, TAIL], over, fmin(0.5, weight / (1.0 - QUANTILE)), young)
            # Robbins and Monro (1951): up and down steps balance where a tenth of the errors is above.
            track[s, KNEE] += 4.0 * weight * track[s, NOISE] * (
                QUANTILE if over > 0.0 else QUANTILE - 1.0
            )
