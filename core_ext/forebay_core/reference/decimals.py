"""Reference twin of _decimals.pyx."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

PLACES = 16
SAMPLES = 32
_LIMIT = 2.0**51
_ROUNDER = 1.5 * 2.0**52
_POWERS = [10.0**k for k in range(PLACES)]


def _as_decimal(
    values: npt.NDArray[np.float64], k: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return m and whether m / 10^k is the value in every bit."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = values * _POWERS[k]
        inside = (scaled > -_LIMIT) & (scaled < _LIMIT)
        m = np.where(inside, (np.where(inside, scaled, 0.0) + _ROUNDER) - _ROUNDER, 0.0).astype(np.int64)
        same = (m.astype(np.float64) / _POWERS[k]).view(np.uint64) == values.view(np.uint64)
    return m, inside & same


def to_decimal(
    values: npt.NDArray[np.float64],
    mantissas: npt.NDArray[np.int64],
    exceptions: npt.NDArray[np.int64],
) -> tuple[int, int]:
    """Find the least k of 0..15 for which (nearly) all values are m / 10^k, bit for bit."""
    n, limit = len(values), len(exceptions)
    if len(mantissas) < n:
        raise ValueError(f"expected room for {n} mantissas, found {len(mantissas)}")
    if n == 0:
        return 0, 0
    values = np.ascontiguousarray(values)
    samples = min(n, SAMPLES)
    sample = np.ascontiguousarray(values[np.arange(samples) * n // samples])
    for k in range(PLACES):
        missed = samples - int(np.count_nonzero(_as_decimal(sample, k)[1]))
        if missed * n > 2 * limit * samples + n:
            continue
        m, exact = _as_decimal(values, k)
        rows = np.flatnonzero(~exact)
        if len(rows) <= limit:
            mantissas[: n - len(rows)] = m[exact]
            exceptions[: len(rows)] = rows
            return k, len(rows)
    return -1, 0


def from_decimal(mantissas: npt.NDArray[np.int64], k: int, out: npt.NDArray[np.float64]) -> None:
    """Compute out = mantissas / 10^k."""
    if not 0 <= k < PLACES or len(out) != len(mantissas):
        raise ValueError("expected k from 0 to 15 and an output of the same length")
    out[:] = mantissas.astype(np.float64) / _POWERS[k]


def _turn(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Turn sign and magnitude into two's complement and back; -0.0 stays."""
    sign = np.uint64(2**63)
    return np.where(bits > sign, sign - bits, bits)


def to_ordered(values: npt.NDArray[np.float64], out: npt.NDArray[np.int64]) -> None:
    """Map doubles to int64 in order; -0.0 is -2^63."""
    if len(out) != len(values):
        raise ValueError("expected an output of the same length")
    out[:] = _turn(values.view(np.uint64)).view(np.int64)


def from_ordered(values: npt.NDArray[np.int64], out: npt.NDArray[np.float64]) -> None:
    """Undo to_ordered."""
    if len(out) != len(values):
        raise ValueError("expected an output of the same length")
    out[:] = _turn(values.view(np.uint64)).view(np.float64)
