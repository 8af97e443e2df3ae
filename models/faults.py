"""Faults injected into recordings, seeded: what sensors do when they fail.

Amplitudes are in standard deviations of the series. Every use of these labels must be called "injected".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

KINDS = ("spike", "drift", "stuck", "noise", "shift")


@dataclass(frozen=True)
class Series:
    """One field of one device: name, ns, values."""

    name: str
    time: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


def _fault(kind: str, v: npt.NDArray[np.float64], sd: float, rng: np.random.Generator, wild: bool) -> int:
    """Put one fault at the start of `v`, return its length."""
    sign = rng.choice([-1.0, 1.0])
    # Training sees faults of any size, log-uniform; the test only moderate ones, the hard part.
    size = sign * sd * (np.exp(rng.uniform(np.log(0.7), np.log(30.0))) if wild else rng.uniform(1.0, 4.0))
    if kind == "spike":
        v[0] += size
        return 1
    if kind == "drift":
        v[:48] += np.arange(1, 49) / 48 * size
        return 48
    if kind == "stuck":
        length = int(rng.integers(24, 73))
        v[:length] = v[0]
        return length
    if kind == "noise":
        length = int(rng.integers(12, 48))
        v[:length] += rng.normal(0.0, abs(size) / 4.0, length)
        return length
    v[:48] += size
    return 48


def inject(
    series: list[Series],
    seed: int,
    *,
    start: int = 1500,
    gap: tuple[int, int] = (600, 1800),
    kinds: tuple[str, ...] = KINDS,
    wild: bool = False,
) -> tuple[list[Series], list[npt.NDArray[np.uint8]]]:
    """Return copies with faults after `start` values, `gap` apart, and labels: 0 or 1 + place in KINDS."""
    rng = np.random.default_rng(seed)
    out, labels = [], []
    for one in series:
        values, label = one.values.copy(), np.zeros(len(one.values), dtype=np.uint8)
        sd, at = float(one.values.std()), start
        while (at := at + int(rng.integers(*gap))) + 100 < len(values):
            kind = kinds[int(rng.integers(len(kinds)))]
            length = _fault(kind, values[at:], sd, rng, wild)
            label[at : at + length] = 1 + KINDS.index(kind)
            at += length
        out.append(Series(one.name, one.time, np.round(values, 2)))
        labels.append(label)
    return out, labels


def families(seed: int, count: int, length: int) -> list[Series]:
    """Return synthetic series of the kinds that gateways see, so that the model is not only of wind farms."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(count):
        t = np.arange(length)
        kind = ("walk", "noise", "cycle", "lognormal", "steps", "ar")[i % 6]
        scale = 10.0 ** rng.uniform(-1, 3)
        if kind == "walk":
            # pulled back gently, as levels and temperatures are
            v = _ar(rng.normal(0, 1, length), 1 - 10.0 ** rng.uniform(-4, -2))
        elif kind == "noise":
            v = rng.normal(0, 1, length)
        elif kind == "cycle":
            v = np.sin(2 * np.pi * t / rng.uniform(60, 2000)) + rng.normal(0, rng.uniform(0.01, 0.3), length)
        elif kind == "lognormal":
            v = np.exp(rng.normal(0, rng.uniform(0.05, 0.5), length))
        elif kind == "steps":
            changes = rng.random(length) < 10.0 ** rng.uniform(-2.5, -0.5)
            v = np.cumsum(changes * rng.normal(0, 1, length))
            v = v - np.linspace(0, v[-1], length)
        else:
            v = _ar(rng.normal(0, 1, length), rng.uniform(0.3, 0.98))
        sd = v.std() or 1.0
        decimals = rng.uniform(0.5, 3.0)  # how fine the sensor's resolution is beside its deviation
        step = 10.0**-decimals
        values = np.round(v / sd / step) * step * scale + rng.uniform(-3, 30) * scale
        out.append(Series(f"{kind}{i}", t.astype(np.int64) * 1_000_000_000, values))
    return out


def _ar(noise: npt.NDArray[np.float64], keep: float) -> npt.NDArray[np.float64]:
    out, x = np.empty(len(noise)), 0.0
    for i, e in enumerate(noise.tolist()):
        x = keep * x + e
        out[i] = x
    return out
