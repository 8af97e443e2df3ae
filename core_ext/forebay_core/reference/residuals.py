"""Reference twin of _residuals.pyx: the same bytes, in plain Python."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

ZERO, PACKED, RANS = 0, 1, 2
FRAME = 128
SCALE_BITS, SCALE = 12, 4096
TOKENS = 256
MIN_RANS = 16
STATE_LOW = 1 << 16
WEIGHTS = (0, 1, 2, 3, 5, 9, 16, 28, 49, 84, 147, 256, 446, 776, 1351, 2352)
SHARES = (0, 0, 2, 3, 4, 7, 12, 21, 37, 64, 111, 194, 338, 588, 1024, 1783)
LOG2_FRACTION = tuple(int(256.0 * math.log2(1.0 + i / 256.0) + 0.5) for i in range(256))

Buffer = npt.NDArray[np.uint8] | memoryview | bytes


class Invalid(Exception):
    """The bytes are not valid. Stays within the twins: their public functions return -1."""


class BitWriter:
    """Bits, least significant first."""

    def __init__(self) -> None:
        self.held = 0
        self.count = 0

    def put(self, value: int, width: int) -> None:
        """Append `width` bits."""
        self.held |= value << self.count
        self.count += width

    def bytes(self) -> bytes:
        """Return all bits, the last byte filled with zeros."""
        return self.held.to_bytes((self.count + 7) >> 3, "little")


class BitReader:
    """Bits of data[at:], least significant first."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.bit = at << 3

    def get(self, width: int) -> int:
        """Take `width` bits; raise Invalid where there are fewer."""
        if self.bit + width > len(self.data) << 3:
            raise Invalid
        first, shift = self.bit >> 3, self.bit & 7
        self.bit += width
        word = int.from_bytes(self.data[first : (self.bit + 7) >> 3], "little")
        return (word >> shift) & ((1 << width) - 1)

    def end(self) -> int:
        """Return the position of the first byte not begun."""
        return (self.bit + 7) >> 3


def put_varint(value: int) -> bytes:
    """Return LEB128 of a number below 2^64."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def get_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return (value, position after it)."""
    value = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        if shift == 63 and byte > 1:
            raise Invalid
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise Invalid


def log2_256(value: int) -> int:
    """Return 256 * log2(value), to 8 bits of mantissa."""
    exponent = value.bit_length() - 1
    mantissa = (value << 8 >> exponent) & 255
    return (exponent << 8) + LOG2_FRACTION[mantissa]


def token_of(u: int) -> int:
    """Return the token of a residual."""
    if u < 16:
        return u
    exponent = u.bit_length() - 1
    return 16 + ((exponent - 4) << 2) + ((u >> (exponent - 2)) & 3)


def extra_bits(token: int) -> int:
    """Return how many bits beside the token a residual has."""
    return 0 if token < 16 else 2 + ((token - 16) >> 2)


def _frames(u: list[int]) -> list[tuple[int, list[int]]]:
    frames = [u[first : first + FRAME] for first in range(0, len(u), FRAME)]
    return [(max(frame).bit_length(), frame) for frame in frames]


def packed_size(u: list[int]) -> int:
    """Return the size of the packed form in bytes."""
    return sum(1 + ((len(frame) * width + 7) >> 3) for width, frame in _frames(u))


def residuals_cost(u: list[int], total: int, entropy: bool) -> int:
    """Return the estimated bits of `total` residuals of which u is a sample."""
    n = len(u)
    if n == 0 or total == 0:
        return 0
    packed = 8 * packed_size(u) * total // n
    if not entropy or total < MIN_RANS:
        return packed
    counts: dict[int, int] = {}
    for value in u:
        token = token_of(value)
        counts[token] = counts.get(token, 0) + 1
    extra = sum(count * extra_bits(token) for token, count in counts.items())
    spread = sum(count * (log2_256(n) - log2_256(count)) for count in counts.values())
    table = 4 * (max(counts) + 1) + 56
    return min(((spread >> 8) + extra) * total // n + table, packed)


def _choose_levels(tokens: list[int]) -> list[int]:
    counts = [0] * TOKENS
    for token in tokens:
        counts[token] += 1
    levels = [0] * TOKENS
    for token, count in enumerate(counts):
        if count:
            share = count * WEIGHTS[15] // max(counts)
            levels[token] = max([1] + [level for level in range(2, 16) if share >= SHARES[level]])
    return levels


def build_table(levels: list[int]) -> tuple[list[int], list[int]]:
    """Return frequency and cumulative frequency of each token."""
    present = sum(level > 0 for level in levels)
    weight = sum(WEIGHTS[level] for level in levels)
    frequency = [1 + WEIGHTS[level] * (SCALE - present) // weight if level else 0 for level in levels]
    frequency[levels.index(max(levels))] += SCALE - sum(frequency)
    start = [0] * TOKENS
    for token in range(1, TOKENS):
        start[token] = start[token - 1] + frequency[token - 1]
    return frequency, start


def _put_levels(levels: list[int]) -> bytes:
    last = max(token for token, level in enumerate(levels) if level)
    writer, token = BitWriter(), 0
    while token <= last:
        writer.put(levels[token], 4)
        token += 1
        if levels[token - 1] == 0:
            run = 0
            while run < 15 and levels[token] == 0:
                run += 1
                token += 1
            writer.put(run, 4)
    return bytes((last,)) + writer.bytes()


def _get_levels(data: bytes, at: int) -> tuple[list[int], int]:
    if at >= len(data):
        raise Invalid
    last, reader, token = data[at], BitReader(data, at + 1), 0
    levels = [0] * TOKENS
    while token <= last:
        levels[token] = reader.get(4)
        token += 1
        if levels[token - 1] == 0:
            token += reader.get(4)
    if not any(levels):
        raise Invalid
    return levels, reader.end()


def _put_rans(u: list[int]) -> bytes:
    tokens = [token_of(value) for value in u]
    levels = _choose_levels(tokens)
    frequency, start = build_table(levels)
    state, words = STATE_LOW, []
    for token in reversed(tokens):
        if state >= frequency[token] << 20:
            words.append(state & 0xFFFF)
            state >>= 16
        state = (state // frequency[token] << SCALE_BITS) + state % frequency[token] + start[token]
    writer = BitWriter()
    for value, token in zip(u, tokens, strict=True):
        width = extra_bits(token)
        writer.put(value & ((1 << width) - 1), width)
    body = b"".join(word.to_bytes(2, "little") for word in reversed(words))
    return _put_levels(levels) + put_varint(len(words)) + state.to_bytes(4, "little") + body + writer.bytes()


def _get_rans(data: bytes, at: int, n: int) -> tuple[list[int], int]:
    levels, at = _get_levels(data, at)
    words, at = get_varint(data, at)
    if len(data) - at < 4 or words > (len(data) - at - 4) >> 1:
        raise Invalid
    frequency, start = build_table(levels)
    token_at = [token for token in range(TOKENS) for _ in range(frequency[token])]
    state = int.from_bytes(data[at : at + 4], "little")
    at += 4
    words_end = at + 2 * words
    reader, out = BitReader(data, words_end), []
    for _ in range(n):
        slot = state & (SCALE - 1)
        token = token_at[slot]
        state = frequency[token] * (state >> SCALE_BITS) + slot - start[token]
        if state < STATE_LOW:
            if at >= words_end:
                raise Invalid
            state = state << 16 | data[at] | data[at + 1] << 8
            at += 2
        width = extra_bits(token)
        out.append(token if token < 16 else (4 | (token - 16) & 3) << width | reader.get(width))
    if at != words_end or state != STATE_LOW:
        raise Invalid
    return out, reader.end()


def put_residuals(u: list[int], entropy: bool) -> tuple[int, bytes]:
    """Return (coder, bytes)."""
    if not any(u):
        return ZERO, b""
    if entropy and len(u) >= MIN_RANS:
        coded = _put_rans(u)
        if len(coded) < packed_size(u):
            return RANS, coded
    out = bytearray()
    for width, frame in _frames(u):
        writer = BitWriter()
        for value in frame:
            writer.put(value, width)
        out += bytes((width,)) + writer.bytes()
    return PACKED, bytes(out)


def get_residuals(data: bytes, at: int, coder: int, n: int) -> tuple[list[int], int]:
    """Return (residuals, position after them)."""
    if coder == ZERO:
        return [0] * n, at
    if coder == RANS:
        return _get_rans(data, at, n)
    if coder != PACKED:
        raise Invalid
    out: list[int] = []
    while len(out) < n:
        if at >= len(data) or data[at] > 64:
            raise Invalid
        reader, width = BitReader(data, at + 1), data[at]
        out += [reader.get(width) for _ in range(min(FRAME, n - len(out)))]
        at = reader.end()
    return out, at


def encode_residuals(residuals: npt.NDArray[np.uint64], entropy: bool = True) -> tuple[int, bytes]:
    """Code unsigned integers the cheapest way; see the compiled twin."""
    return put_residuals(residuals.tolist(), entropy)


def decode_residuals(data: Buffer, start: int, coder: int, out: npt.NDArray[np.uint64]) -> int:
    """Read len(out) residuals from data[start:]; return the position after them or -1."""
    raw = bytes(data)
    if start < 0 or start > len(raw):
        return -1
    if len(out) == 0:
        return start
    try:
        values, end = get_residuals(raw, start, coder, len(out))
    except Invalid:
        return -1
    out[:] = values
    return end
