"""Hampel identifier over a trailing window, many series in one call.

A sample is a spike if it lies further than `n_sigmas` times 1.4826 MAD from the median of the `window`
samples that end with it. 1.4826 makes the median absolute deviation estimate sigma of a normal
distribution (Hampel 1974). The window trails, so that a stream is judged without delay.

Method
------
Window 7: a sorting network of 16 exchanges (optimal for 7, Knuth TAOCP 3, 5.3.4) on seven shifted reads
of the series; without branches, two outputs at once. Other windows: a
sorted copy of the window, one removal and one insertion a sample. In a sorted window the MAD is found by
walking outwards from the median.
"""

from libc.math cimport fabs
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, malloc

from forebay_core._lanes cimport LANES, lanes, load, lower, store, sub, upper

cdef enum:
    MAX_WINDOW = 255
    CHUNK = 256  # outputs a time: three buffers of 2 KiB stay in L1
    BAD_FROM = 64

cdef double SIGMA_OF_MAD = 1.4826


cdef inline void _exchange(lanes* a, lanes* b) noexcept nogil:
    """Put the lower of two in the first."""
    cdef lanes low = lower(a[0], b[0])
    b[0] = upper(a[0], b[0])
    a[0] = low


cdef void _median_mad_7(const double* x, Py_ssize_t n, double* median, double* mad) noexcept nogil:
    """Median and MAD of x[i:i + 7] for i in [0, n); reads and writes up to LANES - 1 further."""
    cdef lanes a, b, c, d, e, f, g
    cdef Py_ssize_t i = 0
    while i < n:
        a, b, c, d = load(x + i), load(x + i + 1), load(x + i + 2), load(x + i + 3)
        e, f, g = load(x + i + 4), load(x + i + 5), load(x + i + 6)
        _exchange(&a, &g)
        _exchange(&c, &d)
        _exchange(&e, &f)
        _exchange(&a, &c)
        _exchange(&b, &e)
        _exchange(&d, &g)
        _exchange(&a, &b)
        _exchange(&c, &f)
        _exchange(&d, &e)
        _exchange(&b, &c)
        _exchange(&e, &g)
        _exchange(&c, &d)
        _exchange(&e, &f)
        _exchange(&b, &c)
        _exchange(&d, &e)
        _exchange(&f, &g)
        store(median + i, d)
        # Distances from the median d, nearest first: c, b, a below and e, f, g above. With the median's
        # own 0 the MAD is the third smallest of the six.
        a, b, c, e, f, g = sub(d, a), sub(d, b), sub(d, c), sub(e, d), sub(f, d), sub(g, d)
        store(mad + i, lower(lower(a, g), lower(upper(c, f), upper(b, e))))
        i += LANES


cdef void _median_mad(
    const double* x, Py_ssize_t n, int window, double* ranked, double* median, double* mad
) noexcept nogil:
    """Median and MAD of x[i:i + window] for i in [0, n), n >= 1; `ranked` has room for one window."""
    cdef int half = window // 2, i, low, high, _k
    cdef Py_ssize_t at
    cdef double value, distance, left, right
    for i in range(window - 1):  # insertion sort of what precedes the first output
        low = i
        while low > 0 and ranked[low - 1] > x[i]:
            ranked[low] = ranked[low - 1]
            low -= 1
        ranked[low] = x[i]
    for at in range(n):
        value = x[at + window - 1]
        low = window - 1
        while low > 0 and ranked[low - 1] > value:
            ranked[low] = ranked[low - 1]
            low -= 1
        ranked[low] = value
        median[at] = ranked[half]
        distance = 0.0
        low, high = half - 1, half + 1
        for _k in range(half):
            left = ranked[half] - ranked[low] if low >= 0 else 0.0
            right = ranked[high] - ranked[half] if high < window else 0.0
            if low >= 0 and (high >= window or left <= right):
                distance = left
                low -= 1
            else:
                distance = right
                high += 1
        mad[at] = distance
        low = 0  # the oldest leaves; it is there, values are not NaN
        while low < window - 1 and ranked[low] != x[at]:
            low += 1
        while low < window - 1:
            ranked[low] = ranked[low + 1]
            low += 1


cdef Py_ssize_t _series(
    const double* x,
    Py_ssize_t n,
    int window,
    double n_sigmas,
    double floor,
    uint8_t* spike,
    double* centre,
) noexcept nogil:
    """Judge x[window - 1:] of a series of n samples; the first window - 1 are what came before.

    x has one sample more than n, of any value: pairs are read.
    """
    cdef double[CHUNK + 2] median
    cdef double[CHUNK + 2] mad
    cdef double[MAX_WINDOW] ranked
    cdef Py_ssize_t start = 0, size, i, total = n - window + 1, found = 0
    cdef double limit
    while start < total:
        size = total - start if total - start < CHUNK else CHUNK
        if window == 7:
            _median_mad_7(x + start, size, median, mad)
        else:
            _median_mad(x + start, size, window, ranked, median, mad)
        for i in range(size):
            limit = n_sigmas * (SIGMA_OF_MAD * mad[i])
            limit = floor if limit < floor else limit
            spike[start + i] = fabs(x[start + i + window - 1] - median[i]) > limit
            centre[start + i] = median[i]
            found += spike[start + i]
        start += size
    return found


cdef inline bint _usable(double value, uint8_t code) noexcept nogil:
    """Whether a sample is finite and not bad."""
    return code < BAD_FROM and value - value == 0.0


def hampel(
    const double[::1] values not None,
    const uint8_t[::1] codes not None,
    const int64_t[::1] order not None,
    const int64_t[::1] bounds not None,
    const int64_t[::1] slots not None,
    int window,
    double n_sigmas,
    double min_deviation,
    double[:, ::1] history not None,
    int64_t[::1] filled not None,
    uint8_t[::1] spikes not None,
    double[::1] medians not None,
):
    """Find spikes in the series of several keys.

    Parameters
    ----------
    values : float64 (n,), all keys in order of arrival.  IN
    codes : uint8 (n,) quality codes, or empty; cells of 64 and above, NaN and infinities are neither
        judged nor part of a window.  IN
    order : int64 (n,), rows of segment s are order[bounds[s]:bounds[s + 1]]; empty: rows as they are.  IN
    bounds : int64 (n_segments + 1,).  IN
    slots : int64 (n_segments,), row of `history` that belongs to the segment; negative: passed over.  IN
    window : odd, 3 to 255, the judged sample included
    n_sigmas : limit in estimated standard deviations
    min_deviation : a sample nearer to the median than this is no spike, however quiet the window
    history : float64 (n_slots, window - 1), the last samples, oldest first.  IN and OUT
    filled : int64 (n_slots,), how many of them there are.  IN and OUT
    spikes : uint8 (n,), 1 for a spike. Only rows of segments are written.  OUT
    medians : float64 (n,), the window's median where a row was judged, else 0.  OUT

    Returns
    -------
    Number of spikes.

    Raises
    ------
    ValueError
        If lengths, bounds, rows or slots do not fit, or the window is not odd and within 3 to 255.

    Notes
    -----
    Nothing is judged until a window is full. With a MAD of 0 every deviation above `min_deviation` counts.
    """
    cdef Py_ssize_t rows = values.shape[0], segments = slots.shape[0], places = filled.shape[0]
    cdef Py_ssize_t s, i, row, count, longest = 0, room, judged, found = 0, have
    cdef bint ordered = order.shape[0] > 0, coded = codes.shape[0] > 0, bad = False
    cdef int64_t slot
    if window < 3 or window > MAX_WINDOW or window % 2 == 0:
        raise ValueError("the window must be odd and from 3 to 255")
    if (coded and codes.shape[0] != rows) or spikes.shape[0] != rows or medians.shape[0] != rows:
        raise ValueError("codes, spikes, medians and values differ in length")
    if bounds.shape[0] != segments + 1:
        raise ValueError("bounds must have one entry more than slots")
    if history.shape[0] < places or history.shape[1] != window - 1:
        raise ValueError("history must be (n_slots, window - 1)")
    room = order.shape[0] if ordered else rows
    for s in range(segments):
        if bounds[s] < 0 or bounds[s + 1] < bounds[s] or bounds[s + 1] > room or slots[s] >= places:
            raise ValueError("bounds or slots are out of place")
        longest = max(longest, bounds[s + 1] - bounds[s])
    room = longest + window + 1  # history, samples, and one for the last pair
    # one allocation: samples, medians, spikes
    cdef double* series = <double*>malloc(room * (2 * sizeof(double) + 1))
    if series == NULL:
        raise MemoryError
    cdef double* centre = series + room
    cdef uint8_t* spike = <uint8_t*>(centre + room)
    with nogil:
        for s in range(segments):
            slot = slots[s]
            if slot < 0:
                continue
            have = filled[slot]
            if have < 0 or have > window - 1:
                bad = True
                break
            for i in range(have):
                series[i] = history[slot, i]
            count = have
            for i in range(bounds[s], bounds[s + 1]):
                row = order[i] if ordered else i
                if row < 0 or row >= rows:
                    bad = True
                    break
                spikes[row] = 0
                medians[row] = 0.0
                series[count] = values[row]
                # without a branch: an unusable sample is written over by the next one
                count += _usable(values[row], codes[row] if coded else 0)
            if bad:
                break
            if count >= window:
                series[count] = 0.0
                judged = have - (window - 1)  # place of the next usable sample's result; below 0: warm-up
                if not ordered and count - have == bounds[s + 1] - bounds[s]:  # no gap: write in place
                    row = bounds[s] - judged
                    found += _series(
                        series, count, window, n_sigmas, min_deviation, &spikes[row], &medians[row]
                    )
                else:
                    found += _series(series, count, window, n_sigmas, min_deviation, spike, centre)
                    for i in range(bounds[s], bounds[s + 1]):
                        row = order[i] if ordered else i
                        if _usable(values[row], codes[row] if coded else 0):
                            if judged >= 0:
                                spikes[row] = spike[judged]
                                medians[row] = centre[judged]
                            judged += 1
            have = count if count < window - 1 else window - 1
            for i in range(have):
                history[slot, i] = series[count - have + i]
            filled[slot] = have
        free(series)
    if bad:
        raise ValueError("a row or the history's fill is out of place")
    return found
