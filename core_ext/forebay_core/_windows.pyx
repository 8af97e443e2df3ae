"""Statistics of windows of a series, and the panes of time windows.

Method of `moments`: two passes over a window that is in L1 by the second: sum, minimum and maximum, then
the second to fourth powers of the deviation from the mean. Two pairs of running sums each, so that the
latency of one addition does not limit the loop.
"""

from libc.math cimport fabs, floor, sqrt
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc

from forebay_core._lanes cimport LANES, add, fill, lanes, load, lower, mul, store, sub, upper

# Columns of the result of `moments`. The twin has the same tuple.
MOMENTS = (
    "count", "sum", "mean", "std", "min", "max", "range", "rms", "peak", "crest", "skewness", "kurtosis",
    "first", "last",
)

cdef enum:
    N_MOMENTS = 14
    JOINS = 0
    OPENS = 1
    AFRESH = 2
    LATE = 3

cdef double NAN = float("nan")


cdef inline double _min(double a, double b) noexcept nogil:
    return a if a < b else b


cdef inline double _max(double a, double b) noexcept nogil:
    return a if a > b else b


cdef inline double _total(lanes a, lanes b) noexcept nogil:
    """Sum of the lanes of two running sums."""
    cdef double[2] both
    both[1] = 0.0
    store(both, add(a, b))
    return both[0] + both[1]


cdef void _total_low_high(
    const double* x, Py_ssize_t n, double* total, double* low, double* high
) noexcept nogil:
    """First pass. A NaN makes all three NaN."""
    cdef lanes s0 = fill(0.0), s1 = s0, low0 = fill(x[0]), low1 = low0, high0 = low0, high1 = low0, a, b
    cdef Py_ssize_t i = 0, whole = n - n % (2 * LANES)
    cdef double[2] ends
    while i < whole:
        a, b = load(x + i), load(x + i + LANES)
        s0, s1 = add(s0, a), add(s1, b)
        low0, low1 = lower(a, low0), lower(b, low1)
        high0, high1 = upper(a, high0), upper(b, high1)
        i += 2 * LANES
    total[0] = _total(s0, s1)
    ends[1] = x[0]
    store(ends, lower(low0, low1))
    low[0] = _min(ends[0], ends[1])
    ends[1] = x[0]
    store(ends, upper(high0, high1))
    high[0] = _max(ends[0], ends[1])
    for i in range(whole, n):
        total[0] += x[i]
        low[0] = _min(x[i], low[0])
        high[0] = _max(x[i], high[0])
    if total[0] != total[0]:  # NaN, or infinities of both signs; only the first spoils minimum and maximum
        for i in range(n):
            if x[i] != x[i]:
                low[0] = high[0] = NAN


cdef void _powers(const double* x, Py_ssize_t n, double mean, double* out) noexcept nogil:
    """Second pass: means of the second, third and fourth power of the deviation."""
    cdef lanes centre = fill(mean), s0 = fill(0.0), s1 = s0, p0 = s0, p1 = s0, q0 = s0, q1 = s0, a, b, c, d
    cdef Py_ssize_t i = 0, whole = n - n % (2 * LANES)
    cdef double deviation, square, second, third, fourth
    while i < whole:
        a, b = sub(load(x + i), centre), sub(load(x + i + LANES), centre)
        c, d = mul(a, a), mul(b, b)
        s0, s1 = add(s0, c), add(s1, d)
        p0, p1 = add(p0, mul(c, a)), add(p1, mul(d, b))
        q0, q1 = add(q0, mul(c, c)), add(q1, mul(d, d))
        i += 2 * LANES
    second, third, fourth = _total(s0, s1), _total(p0, p1), _total(q0, q1)
    for i in range(whole, n):
        deviation = x[i] - mean
        square = deviation * deviation
        second += square
        third += square * deviation
        fourth += square * square
    out[0], out[1], out[2] = second / n, third / n, fourth / n


cdef void _moments(const double* x, Py_ssize_t n, double* out) noexcept nogil:
    """Write the statistics of one window of n >= 1 samples."""
    cdef double total = 0.0, low = 0.0, high = 0.0, mean, rms, peak
    cdef double[3] power
    _total_low_high(x, n, &total, &low, &high)
    # Of equal samples the mean is that sample; rounding would leave a spread where there is none.
    mean = low if low == high else total / n
    _powers(x, n, mean, power)
    rms = sqrt(power[0] + mean * mean)
    peak = _max(fabs(low), fabs(high))
    out[0], out[1], out[2], out[3] = n, total, mean, sqrt(power[0])
    out[4], out[5], out[6] = low, high, high - low
    out[7], out[8], out[9] = rms, peak, peak / rms
    out[10], out[11] = power[1] / (power[0] * sqrt(power[0])), power[2] / (power[0] * power[0])
    out[12], out[13] = x[0], x[n - 1]


cdef int _check_windows(
    Py_ssize_t size, const int64_t[::1] starts, const int64_t[::1] ends, Py_ssize_t outputs
) except -1:
    """Check that every window lies within the samples; outputs has a row for each."""
    cdef Py_ssize_t i
    if ends.shape[0] != starts.shape[0] or outputs != starts.shape[0]:
        raise ValueError("starts, ends and out differ in length")
    for i in range(starts.shape[0]):
        if starts[i] < 0 or ends[i] < starts[i] or ends[i] > size:
            raise ValueError("a window lies outside the samples")
    return 0


def moments(
    const double[::1] values not None,
    const int64_t[::1] starts not None,
    const int64_t[::1] ends not None,
    double[:, ::1] out not None,
):
    """Compute count, sum, mean, std, min, max, ... of windows; see MOMENTS for the columns.

    Parameters
    ----------
    values : float64 (n,).  IN
    starts, ends : int64 (n_windows,), window w is values[starts[w]:ends[w]]; they may overlap.  IN
    out : float64 (n_windows, 14), in the unit of the samples but for count, crest (peak / rms), skewness
        and kurtosis. An empty window has count and sum 0, the rest is NaN.  OUT

    Raises
    ------
    ValueError
        If a window lies outside the samples or `out` does not fit.

    Notes
    -----
    std, skewness and kurtosis are those of the samples themselves (divisor n); kurtosis is 3 for a normal
    distribution (Pearson), peak is the largest magnitude. Equal samples: skewness and kurtosis are NaN.
    A NaN among the samples makes every statistic of its window NaN but count, first and last.
    """
    cdef Py_ssize_t windows = starts.shape[0], w, k
    if out.shape[1] != N_MOMENTS:
        raise ValueError("out must have one column for each of MOMENTS")
    _check_windows(values.shape[0], starts, ends, out.shape[0])
    with nogil:
        for w in range(windows):
            if ends[w] > starts[w]:
                _moments(&values[starts[w]], ends[w] - starts[w], &out[w, 0])
            else:
                out[w, 0] = out[w, 1] = 0.0
                for k in range(2, N_MOMENTS):
                    out[w, k] = NAN


cdef double _select(
    double* x, Py_ssize_t low, Py_ssize_t high, Py_ssize_t k, uint64_t* random
) noexcept nogil:
    """Return the k-th smallest of x[low..high], partitioning in place (Hoare's FIND, random pivots)."""
    cdef Py_ssize_t i, j
    cdef double pivot, swap
    while high > low:
        random[0] = random[0] * 6364136223846793005ULL + 1442695040888963407ULL  # Knuth's MMIX generator
        pivot = x[low + <Py_ssize_t>((random[0] >> 33) % <uint64_t>(high - low + 1))]
        i, j = low, high
        while i <= j:
            while x[i] < pivot:
                i += 1
            while pivot < x[j]:
                j -= 1
            if i <= j:
                swap = x[i]
                x[i] = x[j]
                x[j] = swap
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            break
    return x[k]


cdef double _percentile(
    double* x, Py_ssize_t n, Py_ssize_t* done, double probability, uint64_t* random
) noexcept nogil:
    """Interpolate one percentile; x[:done] is already the smallest part, in place."""
    cdef double place = probability / 100.0 * <double>(n - 1)
    cdef Py_ssize_t k = <Py_ssize_t>floor(place), i
    cdef double a, b, part
    if k > n - 1:
        k = n - 1
    part = place - <double>k
    a = _select(x, done[0], n - 1, k, random)
    done[0] = k
    if part <= 0.0 or k + 1 >= n:
        return a + 0.0  # of equal zeros either sign may stand there: which one depends on the windows before
    b = x[k + 1]
    for i in range(k + 2, n):
        b = _min(x[i], b)
    return (a if a == b else a + (b - a) * part) + 0.0


def percentiles(
    const double[::1] values not None,
    const int64_t[::1] starts not None,
    const int64_t[::1] ends not None,
    const double[::1] probabilities not None,
    double[:, ::1] out not None,
):
    """Compute percentiles of windows, linear between the two nearest samples (NumPy's default).

    Parameters
    ----------
    values, starts, ends : as in `moments`.  IN
    probabilities : float64 (p,), in percent, 0 to 100, ascending.  IN
    out : float64 (n_windows, p); NaN for an empty window or one with a NaN.  OUT

    Raises
    ------
    ValueError
        If a window lies outside the samples, `out` does not fit, or the probabilities do not ascend
        within 0 to 100.

    Notes
    -----
    Quickselect on a copy of the window, each percentile in what the one before left: O(n) expected.
    """
    cdef Py_ssize_t windows = starts.shape[0], asked = probabilities.shape[0], w, i, n, longest = 0, done
    cdef uint64_t random = 88172645463325252ULL
    cdef bint broken
    _check_windows(values.shape[0], starts, ends, out.shape[0])
    if out.shape[1] != asked:
        raise ValueError("out must have one column a probability")
    for i in range(asked):
        if not 0.0 <= probabilities[i] <= 100.0 or (i > 0 and probabilities[i] < probabilities[i - 1]):
            raise ValueError("probabilities must ascend within 0 to 100")
    for w in range(windows):
        longest = max(longest, ends[w] - starts[w])
    cdef double* scratch = <double*>malloc((longest + 1) * sizeof(double))
    if scratch == NULL:
        raise MemoryError
    with nogil:
        for w in range(windows):
            n = ends[w] - starts[w]
            broken = n == 0
            for i in range(n):
                scratch[i] = values[starts[w] + i]
                broken = broken or scratch[i] != scratch[i]
            done = 0
            for i in range(asked):
                out[w, i] = NAN if broken else _percentile(scratch, n, &done, probabilities[i], &random)
        free(scratch)


cdef inline int64_t _floor_div(int64_t a, int64_t b) noexcept nogil:
    """Floor of a / b for b > 0."""
    cdef int64_t quotient = a / b
    return quotient - 1 if a % b < 0 else quotient


def panes(
    const int64_t[::1] time not None,
    const int32_t[::1] groups not None,
    int64_t pane_ns,
    int64_t max_back,
    int64_t max_rows,
    int64_t[::1] open_pane not None,
    int64_t[::1] open_rows not None,
    int64_t[::1] pane not None,
    uint8_t[::1] kind not None,
):
    """Sort rows into panes: stretches of `pane_ns` aligned to 1970, one open for each group at a time.

    Parameters
    ----------
    time : int64 (n,), ns, in order of arrival.  IN
    groups : int32 (n,), or empty for one group; a row with a negative one is LATE.  IN
    pane_ns : length, > 0
    max_back : a row up to so many panes behind the open one is late; further back, the clock was set
        back and the row opens a pane afresh
    max_rows : rows after which a pane is closed although its time is not over, > 0
    open_pane, open_rows : state: number and rows (0: none yet) of each group's open pane.  IN and OUT
    pane : int64 (n,), floor(time / pane_ns).  OUT
    kind : uint8 (n,): 0 joins the open pane, 1 opens a later one, 2 opens one afresh (first, set back or
        full), 3 is late.  OUT

    Raises
    ------
    ValueError
        If lengths differ, a group has no state, or a parameter is not positive.
    """
    cdef Py_ssize_t rows = time.shape[0], states = open_rows.shape[0], i
    cdef bint keyed = groups.shape[0] > 0, bad = False
    cdef int64_t group = 0, number
    if pane.shape[0] != rows or kind.shape[0] != rows or (keyed and groups.shape[0] != rows):
        raise ValueError("time, groups, pane and kind differ in length")
    if open_pane.shape[0] < states or (states == 0 and rows > 0):
        raise ValueError("state arrays differ in length")
    if pane_ns <= 0 or max_rows <= 0 or max_back < 0:
        raise ValueError("pane_ns and max_rows must be positive, max_back not negative")
    with nogil:
        for i in range(rows):
            number = _floor_div(time[i], pane_ns)
            pane[i] = number
            if keyed:
                group = groups[i]
            if group < 0:
                kind[i] = LATE
                continue
            if group >= states:
                bad = True
                break
            if open_rows[group] == 0:
                kind[i] = AFRESH
            elif number > open_pane[group]:
                kind[i] = OPENS
            elif number == open_pane[group]:
                kind[i] = AFRESH if open_rows[group] >= max_rows else JOINS
            elif <uint64_t>open_pane[group] - <uint64_t>number <= <uint64_t>max_back:
                kind[i] = LATE
                continue
            else:
                kind[i] = AFRESH
            if kind[i] != JOINS:
                open_rows[group] = 0
                open_pane[group] = number
            open_rows[group] += 1
    if bad:
        raise ValueError("a group is outside the state arrays")
