"""What a window of a waveform says: bands, tones, and the envelope of a band.

Meaning
-------
- The samples of a window are evenly spaced in time, `rate` a second; without `rate` in the options it is that of
  the window's times, and no two neighbours may be further than 1.5 or nearer than 0.5 of their mean distance
  apart. A window that is not even, has fewer than 16 rows, or lacks more than 1 in 20 samples (null or bad;
  fewer are bridged by straight lines) has no value: null(nan), counted as `uneven`, `short`, `incomplete`. A frequency
  beyond half the rate has none either, counted as `beyond_half_rate`.
- The mean is taken away first: frequency 0 is in no band.
- `bands`: RMS of the vibration within, the lowest frequency included, the highest not. Hann window, made good
  for its energy, so that bands next to each other add up (as squares) to the whole.
- `tones`: amplitude (zero to peak) of the vibration at exactly this frequency, in the field's unit. Hann window,
  made good for its amplitude; its width is 4 x rate / rows.
- `envelope`: the band's part alone (the rest of the spectrum is cut off), and its magnitude as an analytic signal
  (Hilbert). The first and last 1/16 of the window, faded in and out so that its ends do not ring, are left out.
  `rms` and `kurtosis` are those of the envelope; `peak_frequency` is where its spectrum is highest, between bins
  by a parabola; `tones` are amplitudes of the envelope at given frequencies.

References
----------
R. B. Randall, J. Antoni, "Rolling element bearing diagnostics: a tutorial", MSSP 25 (2011): the envelope.
F. J. Harris, "On the use of windows for harmonic analysis with the DFT", Proc. IEEE 66 (1978): the Hann window.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from forebay import quality as q
from forebay.config.waveform import EnvelopeOptions, WaveformOptions, format_hertz
from forebay.preprocess.arrays import F64, I64, U8
from forebay_core.spectra import band_energies, goertzel
from forebay_core.windows import MOMENTS, moments

FEWEST = 16  # rows of a window that has a spectrum
_AT_ONCE = 1 << 20  # samples transformed at once: bounds the memory
_FADE = 16  # the envelope's fades are 1/16 of the window each
_MOST_BRIDGED = 0.05
_NEAREST, _FURTHEST = 0.5, 1.5  # of the mean distance of samples
_NO_PEAK = 1e-9  # of the envelope's mean: below it a spectrum is rounding
_ON_EDGE = 1e-6  # bins: an edge so near to a bin is on it
_MEAN, _RMS, _KURTOSIS = (MOMENTS.index(name) for name in ("mean", "rms", "kurtosis"))


@dataclass(slots=True)
class Windows:
    """Where windows lie in joined rows, and how fast each was sampled.

    Attributes
    ----------
    starts, ends : int64 (n_windows,)
    rates : float64 (n_windows,), samples per second, NaN where samples are not even
    """

    starts: I64
    ends: I64
    rates: F64


class Spectrum:
    """Computes the spectral features that a window's options ask for.

    Attributes
    ----------
    names : what follows the field's name in each column, and the unit; None: the field's own
    """

    def __init__(self, options: WaveformOptions, counts: Counter[str]) -> None:
        self._options = options
        self._counts = counts
        self._bands = np.array(options.bands, dtype=np.float64).reshape(-1, 2)
        self._tones = np.array(options.tones, dtype=np.float64)
        self.names = self._names()

    def _names(self) -> dict[str, str | None]:
        """Return what follows the field's name in each column, and the unit; None: the field's own."""
        asked: dict[str, str | None] = {
            f"band_{format_hertz(low)}_{format_hertz(high)}": None for low, high in self._options.bands
        }
        asked.update({f"tone_{format_hertz(tone)}": None for tone in self._options.tones})
        if self._options.envelope is not None:
            asked.update({"envelope_rms": None, "envelope_kurtosis": "", "envelope_peak_frequency": "Hz"})
            asked.update({f"envelope_{format_hertz(t)}": None for t in self._options.envelope.tones})
        return asked

    def windows(self, time: I64, starts: I64, ends: I64) -> Windows:
        """Find out how fast windows were sampled."""
        lengths = ends - starts
        rates = np.full(len(starts), np.nan if self._options.rate is None else self._options.rate)
        long = lengths >= FEWEST
        if self._options.rate is None and long.any():
            # differences modulo 2**64 are the true ones where time rises; where it falls they are huge
            steps = np.append(np.diff(time.view(np.uint64)).astype(np.float64), 0.0)
            pairs = np.stack([starts[long], ends[long] - 1], axis=1).ravel()
            nearest, furthest = np.minimum.reduceat(steps, pairs)[::2], np.maximum.reduceat(steps, pairs)[::2]
            span = (time[ends[long] - 1].view(np.uint64) - time[starts[long]].view(np.uint64)).astype(
                np.float64
            )
            mean = span / (lengths[long] - 1)
            even = (nearest > _NEAREST * mean) & (furthest < _FURTHEST * mean)
            with np.errstate(divide="ignore"):
                rates[long] = np.where(even, 1e9 / mean, np.nan)
            self._counts["uneven"] += int(np.count_nonzero(~even))
        rates[~long] = np.nan
        self._counts["short"] += int(np.count_nonzero(~long))
        self._counts["beyond_half_rate"] += int(np.count_nonzero(self._options.highest > rates / 2))
        return Windows(starts, ends, rates)

    def of(self, values: F64, codes: U8, windows: Windows) -> dict[str, F64]:
        """Return each feature of a field by name, (n_windows,), NaN where it has no value."""
        out = np.full((len(windows.starts), len(self.names)), np.nan)
        usable = (codes < q.BAD_DEVICE) & np.isfinite(values)
        whole = bool(usable.all())
        judged = ~np.isnan(windows.rates)
        if not whole:
            before = np.zeros(len(usable) + 1, dtype=np.int64)
            np.cumsum(~usable, out=before[1:])
            lacking = before[windows.ends] - before[windows.starts]
            complete = lacking <= _MOST_BRIDGED * (windows.ends - windows.starts)
            self._counts["incomplete"] += int(np.count_nonzero(judged & ~complete))
            judged &= complete
        with np.errstate(all="ignore"):
            for index, rows in _batches(windows, np.flatnonzero(judged)):
                rates, samples = windows.rates[index], values[rows]
                if not whole:
                    _bridge(samples, usable[rows])
                samples -= samples.mean(axis=1, keepdims=True)
                parts = [self._of_bands(samples, rates)] if self._options.bands or self._options.tones else []
                if self._options.envelope is not None:
                    parts.append(_of_envelope(samples, rates, self._options.envelope))
                out[index] = np.concatenate(parts, axis=1)
        return {name: out[:, at] for at, name in enumerate(self.names)}

    def _of_bands(self, samples: F64, rates: F64) -> F64:
        """Return bands and tones, (n_windows, bands + tones)."""
        rows, n = samples.shape
        taper = _hann(n)
        tapered = samples * taper
        energies = np.empty((rows, len(self._bands)))
        if len(self._bands):
            spectra = np.fft.rfft(tapered).view(np.float64)
            firsts, lasts = _bins(self._bands, rates, n)
            band_energies(spectra, n, firsts, np.maximum(firsts, lasts), energies)
            energies = np.sqrt(energies / (n * np.dot(taper, taper)))
            energies[(lasts <= firsts) | _beyond(self._bands[:, 1], rates)] = np.nan
        return np.concatenate([energies, _amplitudes(tapered, taper, self._tones, rates)], axis=1)


def _batches(windows: Windows, judged: npt.NDArray[np.intp]) -> Iterator[tuple[I64, I64]]:
    """Yield windows of one length, as many as may be transformed at once, and their rows (n_windows, n)."""
    lengths = (windows.ends - windows.starts)[judged]
    for n in np.unique(lengths).tolist():
        same = judged[lengths == n]
        step = max(1, _AT_ONCE // n)
        for at in range(0, len(same), step):
            index = same[at : at + step]
            yield index, windows.starts[index][:, None] + np.arange(n)


def _bridge(samples: F64, usable: npt.NDArray[np.bool_]) -> None:
    """Put samples that cannot be used on the lines between their neighbours in the window."""
    for row in np.flatnonzero(~usable.all(axis=1)).tolist():
        good, gone = np.flatnonzero(usable[row]), np.flatnonzero(~usable[row])
        samples[row, gone] = np.interp(gone, good, samples[row, good])


@lru_cache(maxsize=8)
def _hann(n: int) -> F64:
    """Return the periodic Hann window."""
    taper: F64 = 0.5 - 0.5 * np.cos(2.0 * np.pi / n * np.arange(n))
    taper.flags.writeable = False
    return taper


@lru_cache(maxsize=8)
def _faded(n: int) -> F64:
    """Return a window of ones that is faded in and out by a cosine over 1/16 of it."""
    fade = n // _FADE
    taper = np.ones(n)
    taper[:fade] = 0.5 - 0.5 * np.cos(np.pi / fade * (np.arange(fade) + 0.5))
    taper[n - fade :] = taper[:fade][::-1]
    taper.flags.writeable = False
    return taper


def _bins(bands: F64, rates: F64, n: int) -> tuple[I64, I64]:
    """Return the first bin of each band and the one behind its last, (n_windows, bands) each."""
    edges = np.ceil(bands[None, :, :] * n / rates[:, None, None] - _ON_EDGE)
    edges[..., 1][bands[None, :, 1] >= rates[:, None] / 2 * (1 - 1e-9)] = n // 2 + 1  # half the rate included
    found = np.clip(edges, 0, n // 2 + 1).astype(np.int64)
    return np.ascontiguousarray(found[..., 0]), np.ascontiguousarray(found[..., 1])


def _beyond(frequencies: F64, rates: F64) -> npt.NDArray[np.bool_]:
    """Return which frequencies are beyond half the rate, (n_windows, frequencies)."""
    found: npt.NDArray[np.bool_] = frequencies[None, :] > rates[:, None] / 2 * (1 + 1e-6)
    return found


def _amplitudes(tapered: F64, taper: F64, tones: F64, rates: F64) -> F64:
    """Return the amplitudes at single frequencies, (n_windows, tones)."""
    out = np.empty((len(tapered), len(tones)))
    if len(tones):
        turns = tones[None, :] / rates[:, None]
        goertzel(tapered, turns, out)
        out *= 2.0 / taper.sum()
        out[_beyond(tones, rates)] = np.nan
    return out


def _of_envelope(samples: F64, rates: F64, options: EnvelopeOptions) -> F64:
    """Return rms, kurtosis, peak frequency and tones of the envelope, (n_windows, 3 + tones)."""
    rows, n = samples.shape
    tones = np.array(options.tones, dtype=np.float64)
    out = np.full((rows, 3 + len(tones)), np.nan)
    spectra = np.fft.rfft(samples * _faded(n))
    band = np.array([options.band], dtype=np.float64)
    firsts, lasts = (edges[:, 0] for edges in _bins(band, rates, n))
    usable = (lasts > firsts) & ~_beyond(band[:, 1], rates)[:, 0]
    for first, last in {*zip(firsts[usable].tolist(), lasts[usable].tolist(), strict=True)}:
        same = np.flatnonzero(usable & (firsts == first) & (lasts == last))
        # The magnitude does not change when the band is moved down to 0, and then fewer points show it; twice
        # the bins are needed, for the square of the magnitude is as wide again.
        points = _convenient(max(2 * (last - first), 2 * _FADE))
        moved = np.fft.ifft(spectra[same, first:last], points)
        cut = -(-points // _FADE)
        envelope = np.abs(moved[:, cut : points - cut]) * (2.0 * points / n)
        out[same] = _of_magnitude(np.ascontiguousarray(envelope), rates[same] * (points / n), tones)
    return out


def _of_magnitude(envelope: F64, rates: F64, tones: F64) -> F64:
    """Return rms, kurtosis, peak frequency and tones of envelopes sampled `rates` a second."""
    rows, n = envelope.shape
    found = np.empty((rows, len(MOMENTS)))
    ends = np.arange(1, rows + 1, dtype=np.int64) * n
    moments(envelope.ravel(), ends - n, ends, found)
    tapered = (envelope - found[:, _MEAN, None]) * _hann(n)
    peaks = _peak(np.abs(np.fft.rfft(tapered)), found[:, _MEAN] * n) * rates / n
    return np.concatenate(
        [found[:, [_RMS, _KURTOSIS]], peaks[:, None], _amplitudes(tapered, _hann(n), tones, rates)], axis=1
    )


def _peak(magnitudes: F64, floor: F64) -> F64:
    """Return the place of the highest bin above 0 in bins, moved to the top of the parabola through it."""
    rows = np.arange(len(magnitudes))
    top = np.argmax(magnitudes[:, 1:-1], axis=1) + 1
    before, height, after = (magnitudes[rows, top + step] for step in (-1, 0, 1))
    bend = before - 2.0 * height + after
    moved = np.where(bend < 0.0, 0.5 * (before - after) / bend, 0.0)
    found: F64 = np.where(height > _NO_PEAK * floor, top + np.clip(moved, -0.5, 0.5), np.nan)
    return found


@lru_cache(maxsize=64)
def _convenient(n: int) -> int:
    """Return the next number that has no prime factor beyond 5: transforms of such lengths are fast."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1
