"""Doubles as integers: decimal fractions m / 10^k, and an order-preserving image of the bits.

A double that was read from decimal text is the double nearest to m / 10^k. Division of two exactly held
integers is correctly rounded (IEEE 754), so the decoder's m / 10^k gives that double back to the last bit;
the encoder proves it value by value. -0.0, infinities and NaN never pass the proof and become exceptions.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    PLACES = 16      # exponents 0..15
    SAMPLES = 32

# Exact in double; a table, so that the decoder on any machine divides by the same numbers.
cdef double[16] POWERS = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15
]
cdef double LIMIT = 2251799813685248.0  # 2^51: below it, adding 1.5 * 2^52 rounds to the nearest integer
cdef double ROUNDER = 6755399441055744.0
cdef uint64_t LEAST = <uint64_t>0x433 << 52  # bits of 2^52 = ROUNDER - 2^51
cdef uint64_t SIGN = <uint64_t>1 << 63


cdef inline uint64_t bits_of(double value) noexcept nogil:
    cdef uint64_t bits
    memcpy(&bits, &value, 8)
    return bits


cdef inline bint as_decimal(double value, int k, int64_t* m) noexcept nogil:
    """Find m with m / 10^k equal to value in every bit."""
    cdef double scaled = value * POWERS[k]
    if not (-LIMIT < scaled < LIMIT):
        return False
    scaled = (scaled + ROUNDER) - ROUNDER
    m[0] = <int64_t>scaled
    return bits_of(<double>m[0] / POWERS[k]) == bits_of(value)


cdef bint convert_all(const double* x, int64_t n, int k, int64_t* m) noexcept nogil:
    """Fill m if as_decimal holds for every value; False says nothing. Without branches, two at a time."""
    cdef int64_t i
    cdef uint64_t wrong = 0, bits
    cdef double power = POWERS[k], shifted
    for i in range(n):
        shifted = x[i] * power + ROUNDER
        bits = bits_of(shifted) - LEAST
        # One of both is not 0 unless `shifted` lies within ROUNDER +- 2^51, where a unit is its last bit.
        wrong |= (bits >> 52) | ((bits - 1) >> 52) | (bits_of((shifted - ROUNDER) / power) ^ bits_of(x[i]))
        m[i] = <int64_t>(bits - (<uint64_t>1 << 51))
    return wrong == 0


cdef int64_t convert(
    const double* x, int64_t n, int k, int64_t limit, int64_t* m, int64_t* exceptions
) noexcept nogil:
    """Fill m without the exceptions; return their number, -1 once there are more than `limit`."""
    cdef int64_t i, kept = 0, missed = 0
    if convert_all(x, n, k, m):
        return 0
    for i in range(n):
        if as_decimal(x[i], k, &m[kept]):
            kept += 1
        elif missed == limit:
            return -1
        else:
            exceptions[missed] = i
            missed += 1
    return missed


def to_decimal(
    const double[::1] values not None, int64_t[::1] mantissas not None, int64_t[::1] exceptions not None
):
    """Find the least k of 0..15 for which (nearly) all values are m / 10^k, bit for bit.

    Parameters
    ----------
    values : float64 (n,)  IN
    mantissas : int64 (n,), caller-allocated: m of the values that are no exceptions, in order  OUT
    exceptions : int64 (limit,), caller-allocated: rows of the others, ascending  OUT

    Returns
    -------
    (k, count) : count of exceptions, at most len(exceptions); k is -1 where no k will do

    Raises
    ------
    ValueError : mantissas too short
    """
    cdef int64_t n = values.shape[0], i, count = -1, missed, samples, limit = exceptions.shape[0], dummy
    cdef int k, found = -1
    cdef int64_t* out = &exceptions[0] if limit else NULL
    if mantissas.shape[0] < n:
        raise ValueError(f"expected room for {n} mantissas, found {mantissas.shape[0]}")
    if n == 0:
        return 0, 0
    samples = min(n, <int64_t>SAMPLES)
    with nogil:
        for k in range(PLACES):
            missed = 0
            for i in range(samples):
                missed += not as_decimal(values[i * n // samples], k, &dummy)
            # A sample that misses twice as often as the limit allows is not worth the full pass.
            if missed * n > 2 * limit * samples + n:
                continue
            count = convert(&values[0], n, k, limit, &mantissas[0], out)
            if count >= 0:
                found = k
                break
    return found, max(count, <int64_t>0)


def from_decimal(const int64_t[::1] mantissas not None, int k, double[::1] out not None):
    """Compute out = mantissas / 10^k.

    Parameters
    ----------
    mantissas : int64 (n,)  IN
    k : 0..15
    out : float64 (n,), caller-allocated  OUT

    Raises
    ------
    ValueError : k out of range, or lengths that differ
    """
    cdef int64_t i, n = mantissas.shape[0]
    if not 0 <= k < PLACES or out.shape[0] != n:
        raise ValueError("expected k from 0 to 15 and an output of the same length")
    with nogil:
        for i in range(n):
            out[i] = <double>mantissas[i] / POWERS[k]


def to_ordered(const double[::1] values not None, int64_t[::1] out not None):
    """Map doubles to int64 in order, so that near values are near; -0.0 is -2^63.

    Parameters
    ----------
    values : float64 (n,)  IN
    out : int64 (n,), caller-allocated  OUT

    Raises
    ------
    ValueError : lengths that differ
    """
    cdef int64_t i, n = values.shape[0]
    cdef uint64_t bits
    if out.shape[0] != n:
        raise ValueError("expected an output of the same length")
    with nogil:
        for i in range(n):
            bits = bits_of(values[i])
            if bits > SIGN:
                bits = SIGN - bits  # minus the magnitude; SIGN itself, -0.0, stays
            out[i] = <int64_t>bits


def from_ordered(const int64_t[::1] values not None, double[::1] out not None):
    """Undo to_ordered.

    Parameters
    ----------
    values : int64 (n,)  IN
    out : float64 (n,), caller-allocated  OUT

    Raises
    ------
    ValueError : lengths that differ
    """
    cdef int64_t i, n = values.shape[0]
    cdef uint64_t bits
    if out.shape[0] != n:
        raise ValueError("expected an output of the same length")
    with nogil:
        for i in range(n):
            bits = <uint64_t>values[i]
            if bits > SIGN:
                bits = SIGN - bits
            memcpy(&out[i], &bits, 8)
