"""Laplace noise with a budget: numbers of a field that nobody can take at their word, for as long as agreed.

The noise is discrete: a multiple of a power of two close to the scale times 2^-20, drawn from the system's
random source, added to the value rounded to that same grid. Noise from doubles alone gives values away by
their last bits.

The budget belongs to a field and a period of the rows' own time: what is spent is part of the pipeline's state
and is stored in the transaction that stores the rows, so neither a restart nor a clock that was set makes a
field pay twice or not at all. Of at most 400 periods the spending is known; rows of older ones become null.

References
----------
Mironov, "On significance of the least significant bits for differential privacy", CCS 2012.
Google differential privacy team, "Secure noise generation", 2020.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from forebay.config.operators import Noise
from forebay.errors import MaskError

_PERIODS = 400
_FINENESS = 20  # bits between the noise's scale and its grid


class Budgets:
    """What each field has spent, by period. Used by one thread."""

    def __init__(self) -> None:
        self._spent: dict[str, dict[int, float]] = {}
        self._closed: dict[str, int] = {}  # periods up to this one are no longer known

    def take(self, field: str, rule: Noise, periods: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return which of the values, given the period of each, may be shown; their cost is booked."""
        spent = self._spent.setdefault(field, {})
        allowed = np.zeros(len(periods), dtype=np.bool_)
        for period in np.unique(periods):
            if period <= self._closed.get(field, -(2**63)):
                continue
            used = spent.get(int(period), 0.0)
            rows = np.flatnonzero(periods == period)
            # a hair of slack: ten times 0.1 is not quite 1
            most = int((rule.budget - used) / rule.epsilon + 1e-9)
            rows = rows[: max(0, most)]
            allowed[rows] = True
            spent[int(period)] = used + len(rows) * rule.epsilon
        for old in sorted(spent)[:-_PERIODS]:
            del spent[old]
            self._closed[field] = max(old, self._closed.get(field, old))
        return allowed

    def state(self) -> bytes | None:
        """Return what `restore` needs, None if nothing was spent."""
        if not self._spent:
            return None
        body = {"spent": {f: list(p.items()) for f, p in self._spent.items()}, "closed": self._closed}
        return json.dumps(body, separators=(",", ":")).encode()

    def restore(self, state: bytes) -> None:
        """Take over what was spent. Raises MaskError for anything else: the budget is then unknown."""
        try:
            body = json.loads(state)
            self._spent = {str(f): {int(p): float(s) for p, s in pairs} for f, pairs in body["spent"].items()}
            self._closed = {str(f): int(p) for f, p in body["closed"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise MaskError("the noise budget kept in the spool cannot be read") from None


def add_noise(rule: Noise, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return numbers, clipped to the rule's range, with Laplace noise, in their own dtype."""
    low, high = rule.range
    scale = (high - low) / rule.epsilon
    grid = 2.0 ** (math.ceil(math.log2(scale)) - _FINENESS)
    clipped = np.clip(np.nan_to_num(values.astype(np.float64), nan=low), low, high)
    noise = _two_sided_geometric(scale / grid, len(values))
    out = (np.round(clipped / grid) + noise) * grid
    return (
        out if values.dtype.kind == "f" else np.clip(np.round(out), -(2.0**62), 2.0**62).astype(values.dtype)
    )


def _two_sided_geometric(scale: float, count: int) -> npt.NDArray[np.float64]:
    # The difference of two geometric variables of the parameter 1 - exp(-1/scale) has Laplace's shape on whole
    # numbers. Each is the floor of an exponential variable; 64 random bits give its uniform one.
    bits = np.frombuffer(os.urandom(16 * count), dtype=np.uint64).reshape(2, count)
    uniform = (bits.astype(np.float64) + 1.0) / 2.0**64
    one, other = np.floor(-np.log(np.minimum(uniform, 1.0)) * scale)
    return np.asarray(one - other, dtype=np.float64)
