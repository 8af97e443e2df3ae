"""Vibration of a ball bearing with a fault, from physics: what train_bearing_faults.py learns from. SYNTHETIC.

A rolling element that passes a flaw strikes the structure; each blow lets a resonance ring and die away
(P. D. McFadden, J. D. Smith, Journal of Sound and Vibration 96, 1984). How often it strikes follows from the geometry:

    outer race  BPFO = n/2 (1 - d/D cos a) fr      constant load
    inner race  BPFI = n/2 (1 + d/D cos a) fr      load changes with the shaft
    ball        2 BSF = D/d (1 - (d/D cos a)^2) fr  load changes with the cage

Added: slip (1 % jitter between blows), harmonics of the shaft, white noise, knocks at random in every class.
"""

from __future__ import annotations

from typing import Any

import numpy as np

RATE_HZ, SAMPLES = 12_000, 4096
LABELS = ("normal", "outer_race", "inner_race", "ball")
BALLS, RATIO = 9, 7.94 / 39.04  # a 6205: nine balls of 7.94 mm on a pitch of 39.04 mm
ORDERS = (BALLS / 2 * (1 - RATIO), BALLS / 2 * (1 + RATIO), (1 - RATIO**2) / RATIO)  # per turn of the shaft
CAGE = (1 - RATIO) / 2


def window(rng: Any, label: int, *, rpm: tuple[float, float], snr: tuple[float, float]) -> Any:
    """Return SAMPLES of acceleration, any unit.

    Parameters
    ----------
    label : place in LABELS
    rpm : range of the shaft's speed
    snr : range of the blows' power over the noise's, dB
    """
    t = np.arange(SAMPLES) / RATE_HZ
    fr = rng.uniform(*rpm) / 60
    x = rng.normal(0, 1, SAMPLES)
    for harmonic in (1, 2, 3):
        x += rng.uniform(0, 0.7) * np.sin(2 * np.pi * (harmonic * fr * t + rng.uniform()))
    resonance, damping = rng.uniform(1500, 5000), rng.uniform(300, 900)
    tail = np.arange(int(RATE_HZ * 0.015)) / RATE_HZ
    ring = np.exp(-damping * tail) * np.sin(2 * np.pi * resonance * tail)
    blows = np.zeros(SAMPLES)
    if label:
        period = 1 / (ORDERS[label - 1] * fr)
        gaps = period * (1 + rng.normal(0, 0.01, int(SAMPLES / RATE_HZ / period * 1.3) + 4))
        at = np.cumsum(gaps) - rng.uniform(0, 1) * period
        turn = (0.0, fr, CAGE * fr)[label - 1]  # how the load on the flaw changes
        size = 1 + (0.8 * np.cos(2 * np.pi * (turn * at + rng.uniform())) if turn else 0.0)
        size = size * rng.uniform(0.8, 1.2, len(at))
        place = (at * RATE_HZ).astype(int)
        inside = (place >= 0) & (place < SAMPLES)
        np.add.at(blows, place[inside], size[inside])
        struck = np.convolve(blows, ring)[:SAMPLES]
        power = 10 ** (rng.uniform(*snr) / 10)
        x += struck * np.sqrt(power / (struck**2).mean())
    knocks = np.zeros(SAMPLES)
    knocks[rng.integers(0, SAMPLES, rng.poisson(3))] = rng.uniform(1, 6)
    return (x + np.convolve(knocks, ring)[:SAMPLES]) * rng.uniform(0.1, 10)


def windows(
    seed: int, count: int, *, rpm: tuple[float, float] = (1700, 1800), snr: tuple[float, float] = (-12, 3)
) -> tuple[Any, Any]:
    """Return (count, SAMPLES) float32 and the labels, classes in turn."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(LABELS)
    return np.stack([window(rng, int(k), rpm=rpm, snr=snr) for k in labels]).astype(np.float32), labels
