"""Reference twin of _int_encoder.pyx and _int_decoder.pyx: the same bytes, in integers modulo 2^64."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .residuals import (
    Buffer,
    Invalid,
    get_residuals,
    get_varint,
    put_residuals,
    put_varint,
    residuals_cost,
)

CONSTANT, FRAME, CENTRED, DELTA, DOD, LINEAR, GROUP_DELTA, GROUP_DOD = range(8)
KINDS = 8
SCALED = 0x40
SAMPLES = 31
MASK = (1 << 64) - 1


def _signed(value: int) -> int:
    """Return the int64 that is `value` modulo 2^64."""
    return ((value + (1 << 63)) & MASK) - (1 << 63)


def _zigzag(value: int) -> int:
    value = _signed(value)
    return (value << 1 ^ value >> 63) & MASK


def _unzigzag(u: int) -> int:
    return u >> 1 ^ -(u & 1)


@dataclass
class _Model:
    """A predictor fitted to values, and what it leaves."""

    kind: int
    residuals: list[int] = field(default_factory=list)
    bias: int = 0
    slope: int = 0
    fraction: int = 0
    firsts: list[int] = field(default_factory=list)
    rough: int = 0

    def spread(self) -> int:
        """Return the bits that hold the distance of the greatest from the least first."""
        return ((max(self.firsts) - min(self.firsts)) & MASK).bit_length() if self.firsts else 0


def _sampled_median(values: list[int]) -> int:
    if not values:
        return 0
    count = min(len(values), SAMPLES)
    return sorted(values[i * len(values) // count] for i in range(count))[count // 2]


def _fit_line(model: _Model, y: list[int]) -> None:
    n = len(y)
    half = n // 2
    if half == 0:
        return
    total = _signed(sum(y[i + half] - y[i] for i in range(n - half)))
    rows = half * (n - half)
    model.slope, rest = divmod(total, rows)
    model.fraction = (rest << 16) // rows
    if model.fraction * n < 131072:
        model.fraction = 0
    elif (65536 - model.fraction) * n < 131072:
        model.fraction = 0
        model.slope += 1


def _predict_groups(model: _Model, y: list[int], groups: list[int], stride: int) -> None:
    last: dict[int, int] = {}
    step: dict[int, int] = {}
    for i, (value, g) in enumerate(zip(y, groups, strict=True)):
        if g not in last:
            step[g] = 0
            model.firsts.append(value)
        else:
            delta = _signed(value - last[g])
            if (i >> 4) % stride == 0:
                model.residuals.append(delta if model.kind == GROUP_DELTA else _signed(delta - step[g]))
            step[g] = delta
        last[g] = value


def _predict_row(model: _Model, y: list[int], i: int) -> int:
    if model.kind == DELTA:
        return y[i] - y[i - 1]
    if model.kind == DOD:
        return y[i] - 2 * y[i - 1] + y[i - 2]
    return y[i] - (model.slope * i + (model.fraction * i >> 16))


def _fit(kind: int, y: list[int], groups: list[int] | None, stride: int) -> _Model:
    model = _Model(kind)
    if kind >= GROUP_DELTA:
        assert groups is not None
        _predict_groups(model, y, groups, stride)
        model.rough = len(model.firsts) * model.spread() // stride
    else:
        if kind == LINEAR:
            _fit_line(model, y)
        skipped = {DELTA: 1, DOD: 2}.get(kind, 0)
        rows = [i for i in range(skipped, len(y)) if (i >> 4) % stride == 0]
        model.residuals = [_signed(_predict_row(model, y, i)) for i in rows]
    if kind == FRAME:
        model.bias = min(model.residuals)
        model.residuals = [r - model.bias for r in model.residuals]
    else:
        if kind not in (DOD, GROUP_DOD):
            model.bias = _sampled_median(model.residuals)
        model.residuals = [_zigzag(r - model.bias) for r in model.residuals]
    model.rough += sum(u.bit_length() for u in model.residuals)
    return model


def _choose(y: list[int], groups: list[int] | None, entropy: bool) -> int:
    n = len(y)
    stride = max(1, n // (256 + n // 32))
    models = []
    for kind in range(FRAME, LINEAR + 1 if groups is None else KINDS):
        models.append(_fit(kind, y, groups, stride))
        if models[-1].rough == 0:
            return kind
    limit = min(model.rough for model in models) + n // stride
    best, found = 0, -1
    for model in models:
        if model.rough > limit:
            continue
        cost = residuals_cost(model.residuals, n - len(model.firsts), entropy)
        if model.firsts:
            cost += 48 + len(model.firsts) * model.spread()
        if model.kind >= DELTA:
            cost += 16
        if found < 0 or cost < best:
            best, found = cost, model.kind
    return found


def _put_ints(x: list[int], groups: list[int] | None, entropy: bool, kind: int = CONSTANT) -> bytes:
    base = x[0]
    distances = [_signed(value - base) for value in x]
    g = math.gcd(*distances)
    if g == 0:
        return bytes((CONSTANT,)) + put_varint(_zigzag(base))
    y = [d // g for d in distances]
    if kind == CONSTANT or (kind >= GROUP_DELTA and groups is None):
        kind = _choose(y, groups, entropy)
    model = _fit(kind, y, groups, 1)
    if model.kind in (FRAME, CENTRED, LINEAR):
        base += model.bias * g
    parts = [put_varint(_zigzag(base))]
    if g > 1:
        parts.append(put_varint(g))
    if model.kind in (DELTA, GROUP_DELTA):
        parts.append(put_varint(_zigzag(model.bias)))
    elif model.kind == DOD:
        parts.append(put_varint(_zigzag(y[1])))
    elif model.kind == LINEAR:
        parts += (put_varint(_zigzag(model.slope)), put_varint(model.fraction))
    if model.kind >= GROUP_DELTA:
        parts.append(_put_ints(model.firsts, None, entropy))
    coder, coded = put_residuals(model.residuals, entropy)
    head = model.kind | coder << 4 | (SCALED if g > 1 else 0)
    return b"".join((bytes((head,)), *parts, coded))


def _undo_groups(
    kind: int, firsts: list[int], residuals: list[int], groups: list[int], bias: int
) -> list[int]:
    last: dict[int, int] = {}
    step: dict[int, int] = {}
    first, residual, y = iter(firsts), iter(residuals), []
    for g in groups:
        if g not in last:
            last[g], step[g] = next(first), 0
        else:
            step[g] = _unzigzag(next(residual)) + (bias if kind == GROUP_DELTA else step[g])
            last[g] += step[g]
        y.append(last[g])
    return y


def _undo_deltas(kind: int, residuals: list[int], n: int, bias: int) -> list[int]:
    y = [0]
    for i in range(1, n):
        if kind == DELTA:
            y.append(y[-1] + _unzigzag(residuals[i - 1]) + bias)
        else:
            bias += _unzigzag(residuals[i - 2]) if i > 1 else 0
            y.append(y[-1] + bias)
    return y


def _get_ints(data: bytes, at: int, n: int, groups: list[int] | None) -> tuple[list[int], int]:
    if at >= len(data):
        raise Invalid
    head = data[at]
    kind, coder, g, bias, fraction = head & 15, head >> 4 & 3, 1, 0, 0
    if head & 0x80 or kind >= KINDS or (kind >= GROUP_DELTA and groups is None):
        raise Invalid
    base, at = get_varint(data, at + 1)
    base = _unzigzag(base)
    if head & SCALED:
        g, at = get_varint(data, at)
    if kind >= DELTA and kind != GROUP_DOD:
        bias, at = get_varint(data, at)
        bias = _unzigzag(bias)
    if kind == LINEAR:
        fraction, at = get_varint(data, at)
        if fraction > 65535:
            raise Invalid
    if kind == CONSTANT:
        return [base] * n, at
    if kind >= GROUP_DELTA:
        assert groups is not None
        count = len(set(groups))
        firsts, at = _get_ints(data, at, count, None)
        residuals, at = get_residuals(data, at, coder, n - count)
        y = _undo_groups(kind, firsts, residuals, groups, bias)
    else:
        skipped = {DELTA: 1, DOD: 2}.get(kind, 0)
        residuals, at = get_residuals(data, at, coder, max(n - skipped, 0))
        if skipped:
            y = _undo_deltas(kind, residuals, n, bias)
        elif kind == FRAME:
            y = residuals
        else:
            y = [_unzigzag(u) + bias * i + (fraction * i >> 16) for i, u in enumerate(residuals)]
    return [_signed(base + g * value) for value in y], at


def _group_list(groups: npt.NDArray[np.int32] | None, n: int, n_groups: int) -> list[int] | None:
    if groups is None:
        return None
    if len(groups) != n:
        raise ValueError(f"expected {n} group numbers, found {len(groups)}")
    if n and (groups.min() < 0 or groups.max() >= n_groups):
        raise ValueError(f"expected group numbers from 0 to {n_groups - 1}")
    numbers: list[int] = groups.tolist()
    return numbers


def encode_ints(
    values: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int32] | None = None,
    n_groups: int = 0,
    entropy: bool = True,
    kind: int = CONSTANT,
) -> bytes:
    """Code an integer column as a self-delimiting stream; see the compiled twin."""
    numbers = _group_list(groups, len(values), n_groups)
    if not 0 <= kind < KINDS:
        raise ValueError(f"expected a predictor from 0 to {KINDS - 1}")
    return _put_ints(values.tolist(), numbers, entropy, kind) if len(values) else b""


def decode_ints(
    data: Buffer,
    start: int,
    out: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int32] | None = None,
    n_groups: int = 0,
) -> int:
    """Read len(out) values from the stream at data[start:]; return the position after it or -1."""
    numbers = _group_list(groups, len(out), n_groups)
    raw = bytes(data)
    if start < 0 or start > len(raw):
        return -1
    if len(out) == 0:
        return start
    try:
        values, end = _get_ints(raw, start, len(out), numbers)
    except Invalid:
        return -1
    out[:] = values
    return end
