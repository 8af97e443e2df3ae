"""Reference twin of forebay_core._spectra; see there for the rules."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


def goertzel(windows: F64, turns: F64, out: F64) -> None:
    """Compute single bins of the Fourier transform of windows, at any frequency."""
    rows, asked = turns.shape
    if len(windows) != rows or out.shape != (rows, asked):
        raise ValueError("windows, turns and out differ in shape")
    places = np.arange(windows.shape[1], dtype=np.float64)
    with np.errstate(all="ignore"):
        for window in range(rows):
            for column in range(asked):
                angle = 2.0 * np.pi * np.mod(turns[window, column] * places, 1.0)
                out[window, column] = np.hypot(
                    np.sum(windows[window] * np.cos(angle)), np.sum(windows[window] * np.sin(angle))
                )


def band_energies(spectra: F64, n: int, firsts: I64, lasts: I64, out: F64) -> None:
    """Sum the squared magnitudes of one-sided spectra over bands."""
    bins = n // 2 + 1
    if n < 1 or spectra.shape[1] != 2 * bins or firsts.shape != lasts.shape or firsts.shape != out.shape:
        raise ValueError("spectra, firsts, lasts and out differ in shape")
    if len(firsts) != len(spectra):
        raise ValueError("spectra, firsts, lasts and out differ in shape")
    if np.any(firsts < 0) or np.any(lasts < firsts) or np.any(lasts > bins):
        raise ValueError("a band lies outside the spectrum")
    sides = np.full(bins, 2.0)
    sides[0] = 1.0
    if n % 2 == 0:
        sides[-1] = 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        power = (spectra[:, 0::2] ** 2 + spectra[:, 1::2] ** 2) * sides
        for window, band in np.ndindex(*firsts.shape):
            out[window, band] = power[window, firsts[window, band] : lasts[window, band]].sum()
