"""What is read from the spectrum of evenly sampled windows: energies of bands, single frequencies (Goertzel).

The transform itself is a library's (pocketfft in numpy.fft); here is what goes over its result, or around it.

Method of `goertzel`: the recurrence s = x + 2 cos(w) s1 - s2 (Goertzel 1958) runs over pieces of PIECE
samples, four at once so that the latency of one step does not limit the loop; the pieces' results are turned
by their place and added. So the rounding, which grows with the length of the recurrence, stays that of PIECE
samples however long the window.
"""

from libc.math cimport cos, floor, hypot, sin
from libc.stdint cimport int64_t

cdef enum:
    PIECE = 256
    AT_ONCE = 4

cdef double TURN = 6.283185307179586  # 2 pi


cdef inline void _add_piece(
    double s1, double s2, double omega, double turns, double start, Py_ssize_t count, double* re, double* im
) noexcept nogil:
    """Add the spectrum of `count` samples from `start` on, given the last two of their recurrence."""
    # s1 - exp(-iw) s2 is the sum of x[j] exp(iw(count - 1 - j)); we want that of x[j] exp(-iw(start + j)).
    cdef double part_re = s1 - cos(omega) * s2, part_im = sin(omega) * s2
    # whole turns are taken away first: the sine of a large number is imprecise
    cdef double place = turns * (start + <double>(count - 1))
    cdef double angle = -TURN * (place - floor(place))
    cdef double c = cos(angle), s = sin(angle)
    re[0] += part_re * c - part_im * s
    im[0] += part_re * s + part_im * c


cdef double _goertzel(const double* x, Py_ssize_t n, double turns) noexcept nogil:
    """Return |sum of x[t] exp(-2 pi i turns t)|."""
    cdef double omega = TURN * turns, c = 2.0 * cos(omega), re = 0.0, im = 0.0, s0
    cdef double[AT_ONCE] s1
    cdef double[AT_ONCE] s2
    cdef Py_ssize_t at = 0, i, lane, length
    while at < n:
        if n - at >= AT_ONCE * PIECE:
            for lane in range(AT_ONCE):
                s1[lane] = s2[lane] = 0.0
            for i in range(PIECE):
                for lane in range(AT_ONCE):
                    s0 = x[at + lane * PIECE + i] + c * s1[lane] - s2[lane]
                    s2[lane] = s1[lane]
                    s1[lane] = s0
            for lane in range(AT_ONCE):
                _add_piece(s1[lane], s2[lane], omega, turns, <double>(at + lane * PIECE), PIECE, &re, &im)
            at += AT_ONCE * PIECE
            continue
        length = PIECE if n - at > PIECE else n - at
        s1[0] = s2[0] = 0.0
        for i in range(length):
            s0 = x[at + i] + c * s1[0] - s2[0]
            s2[0] = s1[0]
            s1[0] = s0
        _add_piece(s1[0], s2[0], omega, turns, <double>at, length, &re, &im)
        at += length
    return hypot(re, im)


def goertzel(
    const double[:, ::1] windows not None,
    const double[:, ::1] turns not None,
    double[:, ::1] out not None,
):
    """Compute single bins of the Fourier transform of windows, at any frequency.

    Parameters
    ----------
    windows : float64 (n_windows, n), evenly sampled, tapered if that is wanted.  IN
    turns : float64 (n_windows, k), cycles per sample, 0 to 0.5; they need not fall on a bin of the FFT.  IN
    out : float64 (n_windows, k), |sum of x[t] exp(-2 pi i turns t)|, in the samples' unit: a sine of
        amplitude a gives a / 2 times the sum of the taper.  OUT

    Raises
    ------
    ValueError
        If shapes do not agree.

    Notes
    -----
    O(n k). A NaN or an infinity makes the results of its window NaN.

    References
    ----------
    G. Goertzel, "An algorithm for the evaluation of finite trigonometric series", Am. Math. Monthly 65
    (1958).
    """
    cdef Py_ssize_t rows = windows.shape[0], n = windows.shape[1], asked = turns.shape[1], w, k
    if turns.shape[0] != rows or out.shape[0] != rows or out.shape[1] != asked:
        raise ValueError("windows, turns and out differ in shape")
    if rows == 0 or asked == 0:
        return
    with nogil:
        for w in range(rows):
            for k in range(asked):
                out[w, k] = _goertzel(&windows[w, 0], n, turns[w, k]) if n else 0.0


def band_energies(
    const double[:, ::1] spectra not None,
    Py_ssize_t n,
    const int64_t[:, ::1] firsts not None,
    const int64_t[:, ::1] lasts not None,
    double[:, ::1] out not None,
):
    """Sum the squared magnitudes of one-sided spectra over bands.

    Parameters
    ----------
    spectra : float64 (n_windows, 2 * (n // 2 + 1)), real and imaginary parts in turn, as numpy.fft.rfft of n
        samples gives them.  IN
    n : samples of a window
    firsts, lasts : int64 (n_windows, k), band b has the bins firsts[w, b] <= bin < lasts[w, b].  IN
    out : float64 (n_windows, k), squares summed over both sides of the spectrum: every bin counts twice but
        those of frequency 0 and of half the sample rate. By Parseval all bins together are n times the sum
        of the samples' squares.  OUT

    Raises
    ------
    ValueError
        If shapes do not agree or a band lies outside the spectrum.
    """
    cdef Py_ssize_t rows = spectra.shape[0], bins = n // 2 + 1, asked = firsts.shape[1], w, b, i
    cdef Py_ssize_t twice = (n + 1) // 2  # bins from 1 to before this one stand for two sides
    cdef int64_t first, last
    cdef double total
    if (
        n < 1 or spectra.shape[1] != 2 * bins or firsts.shape[0] != rows or lasts.shape[0] != rows
        or lasts.shape[1] != asked or out.shape[0] != rows or out.shape[1] != asked
    ):
        raise ValueError("spectra, firsts, lasts and out differ in shape")
    for w in range(rows):
        for b in range(asked):
            if firsts[w, b] < 0 or lasts[w, b] < firsts[w, b] or lasts[w, b] > bins:
                raise ValueError("a band lies outside the spectrum")
    with nogil:
        for w in range(rows):
            for b in range(asked):
                first, last = firsts[w, b], lasts[w, b]
                total = 0.0
                for i in range(2 * max(first, 1), 2 * min(last, twice)):
                    total += spectra[w, i] * spectra[w, i]
                total *= 2.0
                if first == 0 and last > 0:
                    total += spectra[w, 0] * spectra[w, 0] + spectra[w, 1] * spectra[w, 1]
                if twice < bins and last == bins and first < bins and twice > 0:
                    total += spectra[w, 2 * twice] * spectra[w, 2 * twice]
                    total += spectra[w, 2 * twice + 1] * spectra[w, 2 * twice + 1]
                out[w, b] = total
