# Decimal text to numbers: exact, without locale, without the GIL.
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #include <stdint.h>
    static inline uint64_t fb_mul128(uint64_t a, uint64_t b, uint64_t *high) {
        unsigned __int128 z = (unsigned __int128)a * b;
        *high = (uint64_t)(z >> 64);
        return (uint64_t)z;
    }
    static inline int fb_clz(uint64_t x) { return __builtin_clzll(x); }
    static const double fb_tens[23] = {
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
        1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    static const uint64_t fb_int_tens[19] = {
        1ULL, 10ULL, 100ULL, 1000ULL, 10000ULL, 100000ULL, 1000000ULL, 10000000ULL, 100000000ULL,
        1000000000ULL, 10000000000ULL, 100000000000ULL, 1000000000000ULL, 10000000000000ULL,
        100000000000000ULL, 1000000000000000ULL, 10000000000000000ULL, 100000000000000000ULL,
        1000000000000000000ULL};
    """
    uint64_t fb_mul128(uint64_t a, uint64_t b, uint64_t *high) noexcept nogil
    int fb_clz(uint64_t x) noexcept nogil
    const double *fb_tens
    const uint64_t *fb_int_tens

cdef enum:
    POWER_MIN = -342
    POWER_MAX = 308
    EXPONENT_LIMIT = 1_000_000  # a larger exponent says the same: 0 or infinity
    MAX_DIGITS = 19             # significant digits that fit uint64


cdef struct Number:
    bint negative
    bint integer     # no point, no exponent
    bint cut         # more than MAX_DIGITS significant digits
    bint padded      # a leading zero before another digit
    bint plus        # a leading +
    int digits       # digits before the point
    uint64_t mantissa
    int64_t exponent  # the value is mantissa * 10**exponent, if not cut


cdef inline const uint8_t *read_digits(const uint8_t *p, const uint8_t *end,
                                       uint64_t *mantissa) noexcept nogil:
    """Append the digits at p to the mantissa (which may overflow: see `read_long`). Returns their end."""
    cdef uint64_t value = mantissa[0]
    cdef uint8_t digit
    while p < end:
        digit = p[0] - c'0'
        if digit > 9:
            break
        value = value * 10 + digit
        p += 1
    mantissa[0] = value
    return p


cdef inline void read_long(const uint8_t *p, const uint8_t *end, Number *n) noexcept nogil:
    """Read digits and point from p to end again: there are more than fit, zeros in front not counted."""
    cdef uint64_t mantissa = 0
    cdef int significant = 0
    cdef bint fraction = False
    n.exponent = 0
    while p < end:
        if p[0] == c'.':
            fraction = True
        elif significant < MAX_DIGITS:
            mantissa = mantissa * 10 + <uint64_t>(p[0] - c'0')
            significant += mantissa != 0
            n.exponent -= fraction
        else:
            n.cut = True
            n.exponent += not fraction
        p += 1
    n.mantissa = mantissa


cdef inline const uint8_t *lex_number(const uint8_t *p, const uint8_t *end, bint json,
                                      Number *n) noexcept nogil:
    """Read the number at p. Returns its end, NULL if there is none.

    `json`: as RFC 8259 has it; else +5, .5, 5. and 007 are numbers too.
    """
    cdef const uint8_t *start
    cdef const uint8_t *fraction
    cdef uint64_t mantissa = 0
    cdef int digit
    cdef int64_t written = 0
    cdef bint down = False
    n.negative = n.cut = n.padded = n.plus = False
    n.integer = True
    n.exponent = 0
    if p < end and p[0] == c'-':
        n.negative = True
        p += 1
    elif not json and p < end and p[0] == c'+':
        n.plus = True
        p += 1
    start = p
    p = read_digits(p, end, &mantissa)
    n.digits = <int>(p - start)
    n.padded = n.digits > 1 and start[0] == c'0'
    if json and (n.digits == 0 or n.padded):
        return NULL
    if p < end and p[0] == c'.':
        n.integer = False
        fraction = p + 1
        p = read_digits(fraction, end, &mantissa)
        n.exponent = fraction - p
        if p == fraction and (json or n.digits == 0):
            return NULL
    elif n.digits == 0:
        return NULL
    n.mantissa = mantissa
    if p - start > MAX_DIGITS:  # the point counted: once in a while it is read again for nothing
        read_long(start, p, n)
    if p < end and (p[0] | 32) == c'e':
        n.integer = False
        p += 1
        if p < end and (p[0] == c'-' or p[0] == c'+'):
            down = p[0] == c'-'
            p += 1
        start = p
        while p < end:
            digit = p[0] - c'0'
            if digit < 0 or digit > 9:
                break
            if written < EXPONENT_LIMIT:
                written = written * 10 + digit
            p += 1
        if p == start:
            return NULL
        n.exponent += -written if down else written
    return p


cdef inline bint fits_int64(const Number *n, int64_t *out) noexcept nogil:
    """Say whether an integer fits int64, and store it."""
    if n.cut or n.mantissa > <uint64_t>0x7FFFFFFFFFFFFFFF + n.negative:
        return False
    out[0] = <int64_t>(0 - n.mantissa) if n.negative else <int64_t>n.mantissa
    return True


cdef inline bint to_double(const Number *n, const uint64_t *powers, double *out) noexcept nogil:
    """Store the nearest double, ties to even. False: these digits need exact arithmetic.

    Short numbers: Clinger, "How to read floating point numbers accurately" (1990): both factors are exact.
    Others: Lemire, "Number parsing at a gigabyte per second" (2021), with the 128-bit powers of five in
    `powers` (two words each, high first, from POWER_MIN on).
    """
    cdef uint64_t w = n.mantissa, high, low, second, bits
    cdef int64_t q = n.exponent
    cdef int zeros, upper
    cdef int64_t power
    cdef double value
    if n.cut:
        return False
    if w == 0:
        out[0] = -0.0 if n.negative else 0.0
        return True
    if w <= <uint64_t>1 << 53 and -22 <= q <= 22:
        value = <double>w
        value = value / fb_tens[-q] if q < 0 else value * fb_tens[q]
        out[0] = -value if n.negative else value
        return True
    if q < POWER_MIN or q > POWER_MAX:
        return False
    zeros = fb_clz(w)
    w <<= zeros
    low = fb_mul128(w, powers[2 * (q - POWER_MIN)], &high)
    if high & 0x1FF == 0x1FF:
        fb_mul128(w, powers[2 * (q - POWER_MIN) + 1], &second)
        low += second
        high += low < second
        if low == <uint64_t>0xFFFFFFFFFFFFFFFF and (q < -27 or q > 55):
            return False
    upper = <int>(high >> 63)
    bits = high >> (upper + 9)
    power = ((217706 * q) >> 16) + 63 + upper - zeros + 1023
    if power <= 0 or power >= 2046:
        return False  # subnormal or near infinity: rare
    if low <= 1 and -4 <= q <= 23 and bits & 3 == 1 and bits << (upper + 9) == high:
        bits &= ~<uint64_t>1  # exactly between two doubles: to even
    bits += bits & 1
    bits >>= 1
    if bits >= <uint64_t>1 << 53:
        bits = <uint64_t>1 << 52
        power += 1
    bits = (bits & ~(<uint64_t>1 << 52)) | (<uint64_t>power << 52) | (<uint64_t>n.negative << 63)
    memcpy(out, &bits, 8)
    return True


cdef inline bint to_scaled(const Number *n, int power, int64_t *out) noexcept nogil:
    """Store value * 10**power as int64, cut towards zero. False: it does not fit.

    Digits after the 19th are below one unit of any result that fits, so a cut mantissa does no harm.
    """
    cdef int64_t shift = n.exponent + power
    cdef uint64_t value = n.mantissa, high
    if value != 0:
        if shift >= 19 or shift < -19:
            if shift > 0:
                return False
            value = 0
        elif shift >= 0:
            value = fb_mul128(value, fb_int_tens[shift], &high)
            if high:
                return False
        else:
            value = value // (fb_int_tens[-shift] if shift > -19 else <uint64_t>10000000000000000000)
    if value > <uint64_t>0x7FFFFFFFFFFFFFFF:
        return False
    out[0] = -<int64_t>value if n.negative else <int64_t>value
    return True
