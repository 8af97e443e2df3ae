"""Residual coder: small unsigned integers to bytes, by bit packing or by rANS over tokens.

Layout (docs/wire-format.md has it byte by byte)
------------------------------------------------
ZERO    nothing; every residual is 0
PACKED  frames of 128 residuals: width byte 0..64, then count * width bits, least significant first
RANS    last token, levels of tokens 0..last as nibbles, varint word count, u32 state, u16 words, extra bits

A residual u < 16 is its own token; above, the token holds the exponent and the two bits below the leading
one, the rest are extra bits. 256 tokens cover 64 bits, so an outlier costs a rare token and its bits.

Notes
-----
A table level stands for a weight on a geometric scale (2^0.8 a step): the mean loss against exact
frequencies is 0.02 bit a residual, the table 4 bits a token, which at 1,000 rows beats exact tables.

References
----------
J. Duda, "Asymmetric numeral systems", arXiv:1311.2540 (2014), the range variant.
"""

import numpy as np

from forebay_core._bits cimport BitWriter, bit_length, end_bits, get_bits, get_varint, put_bits, put_varint
from libc.math cimport log2
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

cdef extern from *:
    """
    #include <stdint.h>
    static inline uint64_t fb_mul_high(uint64_t a, uint64_t b) {
        return (uint64_t)(((unsigned __int128)a * b) >> 64);
    }
    """
    int __builtin_clzll(unsigned long long) noexcept nogil
    uint64_t fb_mul_high(uint64_t a, uint64_t b) noexcept nogil

cdef enum:
    ZERO = 0
    PACKED = 1
    RANS = 2
    FRAME = 128       # residuals a packed frame
    SCALE_BITS = 12   # frequencies sum to 4096
    SCALE = 1 << 12
    TOKENS = 256
    MIN_RANS = 16     # below this many residuals a table cannot pay

# Lower bound of the coder's state: renormalised by 16-bit words.
cdef uint32_t STATE_LOW = 1 << 16

# Weight of each table level, about 2^(0.8 (level - 1)), and the least share (of 2352) that takes it.
cdef int[16] WEIGHTS = [0, 1, 2, 3, 5, 9, 16, 28, 49, 84, 147, 256, 446, 776, 1351, 2352]
cdef int[16] SHARES = [0, 0, 2, 3, 4, 7, 12, 21, 37, 64, 111, 194, 338, 588, 1024, 1783]

# 256 * log2(1 + i / 256), rounded: the estimator works in 1/256 bit and in integers, alike everywhere.
cdef int[256] LOG2_FRACTION


cdef void _fill_log2() noexcept:
    cdef int i
    for i in range(256):
        LOG2_FRACTION[i] = <int>(256.0 * log2(1.0 + i / 256.0) + 0.5)


_fill_log2()

cdef struct Table:
    uint32_t[256] frequency
    uint32_t[256] start    # cumulative frequency below the token


cdef struct Step:  # what coding a token takes, side by side in memory
    uint64_t limit       # a state from here on gives a word away first
    uint64_t inverse     # of the frequency, for a quotient without a division
    uint32_t bias
    uint32_t complement  # SCALE - frequency


cdef inline int64_t log2_256(uint64_t value) noexcept nogil:
    """Return 256 * log2(value) for value >= 1, to 8 bits of mantissa."""
    cdef int lead = __builtin_clzll(value)
    return ((63 - lead) << 8) + LOG2_FRACTION[((value << lead) >> 55) & 255]


cdef inline int token_of(uint64_t u) noexcept nogil:
    # Both are computed and one is taken: noise around 16 would be guessed wrong as often as right.
    cdef int exponent = 63 - __builtin_clzll(u | 16)
    cdef int wide = (exponent << 2) + <int>((u >> (exponent - 2)) & 3)
    return wide if u >= 16 else <int>u


cdef inline int extra_bits(int token) noexcept nogil:
    return 0 if token < 16 else 2 + ((token - 16) >> 2)


cdef int64_t residuals_bound(int64_t n) noexcept nogil:
    return 8 * n + n // FRAME + 16


cdef int64_t scratch_bound(int64_t n) noexcept nogil:
    # table, words of at most 12 bits a residual, extra bits of at most 61
    return 160 + 2 * n + 8 * n + 32


cdef int64_t packed_size(const uint64_t* u, int64_t n) noexcept nogil:
    cdef int64_t first, i, stop, size = 0
    cdef uint64_t bits
    for first in range(0, n, 128):  # FRAME; Cython wants a literal step
        stop = min(first + FRAME, n)
        bits = 0
        for i in range(first, stop):
            bits |= u[i]
        size += 1 + (((stop - first) * bit_length(bits) + 7) >> 3)
    return size


cdef int64_t put_packed(const uint64_t* u, int64_t n, uint8_t* out, int64_t at) noexcept nogil:
    cdef int64_t first, i, stop
    cdef uint64_t bits
    cdef int width
    cdef BitWriter w
    for first in range(0, n, 128):  # FRAME; Cython wants a literal step
        stop = min(first + FRAME, n)
        bits = 0
        for i in range(first, stop):
            bits |= u[i]
        width = bit_length(bits)
        out[at] = <uint8_t>width
        w.out, w.at, w.held, w.count = out, at + 1, 0, 0
        for i in range(first, stop):
            put_bits(&w, u[i], width)
        at = end_bits(&w)
    return at


cdef int64_t get_packed(const uint8_t* data, int64_t at, int64_t size, uint64_t* u, int64_t n) noexcept nogil:
    cdef int64_t first, i, count, length
    cdef int width
    for first in range(0, n, 128):  # FRAME; Cython wants a literal step
        if at >= size or data[at] > 64:
            return -1
        width = data[at]
        at += 1
        count = min(<int64_t>FRAME, n - first)
        length = (count * width + 7) >> 3
        if length > size - at:
            return -1
        for i in range(count):
            u[first + i] = get_bits(data, size, (at << 3) + i * width, width)
        at += length
    return at


cdef int64_t residuals_cost(const uint64_t* u, int64_t n, int64_t total, bint entropy) noexcept nogil:
    cdef uint32_t[256] counts
    cdef int64_t packed, extra = 0, spread = 0, i, table
    cdef int token, last = 0
    if n == 0 or total == 0:
        return 0
    packed = 8 * packed_size(u, n) * total // n
    if not entropy or total < MIN_RANS:
        return packed
    memset(counts, 0, sizeof(counts))
    for i in range(n):
        counts[token_of(u[i])] += 1
    for token in range(TOKENS):
        if counts[token]:
            last = token
            extra += <int64_t>counts[token] * extra_bits(token)
            spread += counts[token] * (log2_256(n) - log2_256(counts[token]))
    table = 4 * (last + 1) + 56
    return min(((spread >> 8) + extra) * total // n + table, packed)


cdef void build_table(Table* table, const uint8_t* levels, int tokens) noexcept nogil:
    """Turn levels into frequencies that sum to SCALE: one each, the rest by weight, remainder to the top."""
    cdef int token, present = 0, top = 0
    cdef uint32_t weight = 0, total = 0
    for token in range(tokens):
        if levels[token]:
            present += 1
            weight += WEIGHTS[levels[token]]
            if levels[token] > levels[top]:
                top = token
    for token in range(tokens):
        table.frequency[token] = 0
        if levels[token]:
            table.frequency[token] = 1 + <uint32_t>WEIGHTS[levels[token]] * (SCALE - present) // weight
            total += table.frequency[token]
    table.frequency[top] += SCALE - total
    total = 0
    for token in range(tokens):
        table.start[token] = total
        total += table.frequency[token]


cdef void build_steps(const Table* table, int tokens, Step* steps) noexcept nogil:
    """Prepare the encoder's steps for the tokens present.

    state // frequency is the high word of state * inverse, the inverse rounded up: what that adds, over a
    state below 2^32, stays far below the 1 / frequency that would reach the next integer. The inverse of 1
    is 2^64 and fits no word; with 2^64 - 1 the quotient is too small by one, which the bias makes up for.
    """
    cdef int token
    cdef uint32_t frequency
    for token in range(tokens):
        frequency = table.frequency[token]
        if frequency == 0:
            continue
        steps[token].limit = <uint64_t>frequency << 20
        steps[token].inverse = (<uint64_t>0 - 1) // frequency + (frequency > 1)
        steps[token].bias = table.start[token] + (SCALE - 1 if frequency == 1 else 0)
        steps[token].complement = SCALE - frequency


cdef int choose_levels(const uint64_t* u, int64_t n, uint8_t* tokens, uint8_t* levels) noexcept nogil:
    """Set the tokens, and the levels of those up to the last one present; return how many these are."""
    cdef uint32_t[256] counts, odd  # of every other one: a count that was just stored is slow to load again
    cdef int64_t i, most = 0, share
    cdef int token, level, count = TOKENS
    memset(counts, 0, sizeof(counts))
    memset(odd, 0, sizeof(odd))
    for i in range(0, n - 1, 2):
        token = token_of(u[i])
        tokens[i] = <uint8_t>token
        counts[token] += 1
        token = token_of(u[i + 1])
        tokens[i + 1] = <uint8_t>token
        odd[token] += 1
    if n & 1:
        token = token_of(u[n - 1])
        tokens[n - 1] = <uint8_t>token
        counts[token] += 1
    while counts[count - 1] == 0 and odd[count - 1] == 0:
        count -= 1
    for token in range(count):
        counts[token] += odd[token]
        most = max(most, <int64_t>counts[token])
    for token in range(count):
        levels[token] = 0
        if counts[token]:
            share = <int64_t>counts[token] * WEIGHTS[15] // most
            level = 15
            while level > 1 and share < SHARES[level]:
                level -= 1
            levels[token] = level
    return count


cdef int64_t put_levels(const uint8_t* levels, int count, uint8_t* out, int64_t at) noexcept nogil:
    cdef int token = 0, run
    cdef BitWriter w
    out[at] = <uint8_t>(count - 1)
    w.out, w.at, w.held, w.count = out, at + 1, 0, 0
    while token < count:
        put_bits(&w, levels[token], 4)
        token += 1
        if levels[token - 1] == 0:
            run = 0
            while run < 15 and levels[token] == 0:
                run += 1
                token += 1
            put_bits(&w, run, 4)
    return end_bits(&w)


cdef int64_t get_levels(const uint8_t* data, int64_t at, int64_t size, uint8_t* levels) noexcept nogil:
    cdef int token = 0, last, level
    cdef int64_t bit, end = size << 3
    cdef bint some = False
    if at >= size:
        return -1
    last = data[at]
    bit = (at + 1) << 3
    memset(levels, 0, TOKENS)
    while token <= last:
        if bit + 4 > end:
            return -1
        level = <int>get_bits(data, size, bit, 4)
        bit += 4
        levels[token] = level
        token += 1
        if level:
            some = True
            continue
        if bit + 4 > end:
            return -1
        token += <int>get_bits(data, size, bit, 4)
        bit += 4
    return (bit + 7) >> 3 if some else -1


cdef int64_t put_rans(const uint64_t* u, int64_t n, uint8_t* out) noexcept nogil:
    """Write from out[0] on and return the size. `out` holds scratch_bound(n) bytes."""
    cdef uint8_t[256] levels
    cdef Table table
    cdef Step[256] steps
    cdef const Step* step
    cdef int64_t at, i, words = 0, place
    cdef uint32_t state = STATE_LOW, cut
    cdef int token, due, count
    cdef BitWriter w
    cdef uint16_t* stack = <uint16_t*>malloc(3 * n + 2)
    cdef uint8_t* tokens = <uint8_t*>(stack + n)
    if stack is NULL:
        return -1
    count = choose_levels(u, n, tokens, levels)
    build_table(&table, levels, count)
    build_steps(&table, count, steps)
    for i in range(n - 1, -1, -1):
        step = &steps[tokens[i]]
        # Whether a word is due is a coin's toss, so it is no branch: what is not due is overwritten.
        due = <uint64_t>state >= step.limit
        stack[words] = <uint16_t>state
        words += due
        cut = state >> 16
        state = cut if due else state
        state += <uint32_t>fb_mul_high(state, step.inverse) * step.complement + step.bias
    at = put_varint(out, put_levels(levels, count, out, 0), words)
    for i in range(4):
        out[at + i] = <uint8_t>(state >> (8 * i))
    at += 4
    for place in range(words - 1, -1, -1):
        out[at] = <uint8_t>stack[place]
        out[at + 1] = <uint8_t>(stack[place] >> 8)
        at += 2
    w.out, w.at, w.held, w.count = out, at, 0, 0
    for i in range(n):
        if tokens[i] >= 16:
            token = extra_bits(tokens[i])
            put_bits(&w, u[i] & ((<uint64_t>1 << token) - 1), token)
    free(stack)
    return end_bits(&w)


cdef int64_t get_rans(const uint8_t* data, int64_t at, int64_t size, uint64_t* u, int64_t n) noexcept nogil:
    cdef uint8_t[256] levels
    cdef uint8_t[4096] token_at
    cdef Table table
    cdef uint64_t words
    cdef int64_t i, bit, end, words_end
    cdef uint32_t state = 0, slot, place
    cdef int token, width
    at = get_levels(data, at, size, levels)
    if at >= 0:
        at = get_varint(data, at, size, &words)
    if at < 0 or size - at < 4 or words > <uint64_t>((size - at - 4) >> 1):
        return -1
    build_table(&table, levels, TOKENS)
    for token in range(TOKENS):
        for place in range(table.frequency[token]):
            token_at[table.start[token] + place] = <uint8_t>token
    for i in range(4):
        state |= <uint32_t>data[at + i] << (8 * i)
    at += 4
    words_end = at + 2 * <int64_t>words
    bit, end = words_end << 3, size << 3
    for i in range(n):
        slot = state & (SCALE - 1)
        token = token_at[slot]
        state = table.frequency[token] * (state >> SCALE_BITS) + slot - table.start[token]
        if state < STATE_LOW:
            if at >= words_end:
                return -1
            state = (state << 16) | data[at] | (<uint32_t>data[at + 1] << 8)
            at += 2
        if token < 16:
            u[i] = token
            continue
        width = extra_bits(token)
        if bit + width > end:
            return -1
        u[i] = (<uint64_t>(4 | ((token - 16) & 3)) << width) | get_bits(data, size, bit, width)
        bit += width
    if at != words_end or state != STATE_LOW:
        return -1
    return (bit + 7) >> 3


cdef int64_t put_residuals(
    const uint64_t* u, int64_t n, bint entropy, uint8_t* out, int64_t at, uint8_t* scratch, int* coder
) noexcept nogil:
    cdef int64_t i, size, packed
    cdef uint64_t bits = 0
    for i in range(n):
        bits |= u[i]
    coder[0] = ZERO
    if bits == 0:
        return at
    packed = packed_size(u, n)
    if entropy and n >= MIN_RANS:
        size = put_rans(u, n, scratch)
        if 0 <= size < packed:
            coder[0] = RANS
            for i in range(size):
                out[at + i] = scratch[i]
            return at + size
    coder[0] = PACKED
    return put_packed(u, n, out, at)


cdef int64_t get_residuals(
    const uint8_t* data, int64_t at, int64_t size, int coder, uint64_t* u, int64_t n
) noexcept nogil:
    if coder == ZERO:
        memset(u, 0, n * sizeof(uint64_t))
        return at
    if coder == PACKED:
        return get_packed(data, at, size, u, n)
    if coder == RANS:
        return get_rans(data, at, size, u, n)
    return -1


def encode_residuals(const uint64_t[::1] residuals not None, bint entropy=True):
    """Code unsigned integers the cheapest way.

    Parameters
    ----------
    residuals : uint64 (n,)  IN
    entropy : whether rANS may be used; else bit packing only

    Returns
    -------
    (coder, data) : 0 ZERO, 1 PACKED or 2 RANS, and the bytes
    """
    cdef int64_t n = residuals.shape[0], size = 0
    cdef int coder = ZERO
    cdef uint8_t[::1] out = np.empty(residuals_bound(n), dtype=np.uint8)
    cdef uint8_t[::1] scratch = np.empty(scratch_bound(n), dtype=np.uint8)
    if n:
        with nogil:
            size = put_residuals(&residuals[0], n, entropy, &out[0], 0, &scratch[0], &coder)
    return coder, bytes(out[:size])


def decode_residuals(
    const uint8_t[::1] data not None, int64_t start, int coder, uint64_t[::1] out not None
):
    """Read len(out) residuals from data[start:].

    Parameters
    ----------
    data : uint8 (size,), untrusted  IN
    start : position of the first byte
    coder : as encode_residuals returned it
    out : uint64 (n,), caller-allocated  OUT

    Returns
    -------
    int : the position after the last byte read, -1 if the bytes are not valid
    """
    cdef int64_t size = data.shape[0], end
    cdef const uint8_t* first = &data[0] if size else NULL
    if start < 0 or start > size:
        return -1
    if out.shape[0] == 0:
        return start
    with nogil:
        end = get_residuals(first, start, size, coder, &out[0], out.shape[0])
    return end
