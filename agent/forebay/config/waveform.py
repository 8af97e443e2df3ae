"""Options of `window` for waveforms: level crossings, bands, tones and the envelope."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from forebay.config.base import Options

CROSSING_STATS = ("zero_crossings", "crossing_rate")
MOST_FREQUENCIES = 64  # bands or tones: each is a column of every window

_HERTZ = {"mHz": Decimal("0.001"), "Hz": Decimal(1), "kHz": Decimal(1000), "MHz": Decimal(1_000_000)}


def parse_frequency(text: Any) -> float:
    """Return the hertz of e.g. `50Hz`, `25.6kHz`. Raises ValueError."""
    if text == 0 and not isinstance(text, bool | str):
        return 0.0
    match = (
        re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([kmM]?Hz)\s*", text)
        if isinstance(text, str)
        else None
    )
    if match is None:
        raise ValueError("expected a frequency with its unit such as `50Hz` or `25.6kHz`")
    return float(Decimal(match[1]) * _HERTZ[match[2]])


def format_hertz(hertz: float) -> str:
    """Return a frequency without its unit as it stands in the names of columns, e.g. `1000`, `24.7`."""
    text = format(Decimal(repr(hertz)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


Frequency = Annotated[
    float,
    BeforeValidator(parse_frequency),
    PlainSerializer(lambda hertz: f"{format_hertz(hertz)}Hz", return_type=str),
    WithJsonSchema(
        {
            "type": ["string", "integer"],
            "minimum": 0,
            "maximum": 0,
            "pattern": r"^\s*[0-9]{1,15}(\.[0-9]{1,15})?\s*[kmM]?Hz\s*$",
            "examples": ["25.6kHz"],
        }
    ),
]
"""Hertz; written `25.6kHz` in YAML."""

Band = tuple[Frequency, Frequency]
Tones = Annotated[tuple[Frequency, ...], Field(max_length=MOST_FREQUENCIES)]


def _check_band(band: Band, what: str) -> None:
    if band[0] >= band[1]:
        raise ValueError(f"{what} must be [lowest, highest] with lowest < highest")


def _check_tones(tones: tuple[float, ...]) -> None:
    if len(set(tones)) != len(tones) or 0.0 in tones:
        raise ValueError("`tones` must differ and be above 0Hz")


class EnvelopeOptions(Options):
    """The envelope of a band: how strong its vibration is from moment to moment. Shows impacts of bearings."""

    band: Band
    """The band that is looked at, e.g. `[2kHz, 10kHz]`: where the machine rings when it is struck."""

    tones: Tones = ()
    """Frequencies of the envelope whose amplitudes are given, e.g. those at which a bearing's faults strike:
    `{field}_envelope_{frequency}`."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        _check_band(self.band, "`band`")
        _check_tones(self.tones)
        return self


class WaveformOptions(Options):
    """What a window may say about a waveform: evenly sampled rows."""

    rate: Frequency | None = None
    """Samples per second, e.g. `25.6kHz`. Left out: from the times of each window's rows."""

    bands: Annotated[tuple[Band, ...], Field(max_length=MOST_FREQUENCIES)] = ()
    """Bands such as `[10Hz, 1kHz]`, the lowest frequency included: the RMS of what vibrates within, as
    `{field}_band_{low}_{high}` (in Hz)."""

    tones: Tones = ()
    """Single frequencies, e.g. of rotation or gear mesh: their amplitudes, as `{field}_tone_{frequency}`."""

    envelope: EnvelopeOptions | None = None
    """The envelope of a band: `{field}_envelope_rms`, `_envelope_kurtosis`, `_envelope_peak_frequency`."""

    zero: float | Literal["mean"] = 0.0
    """The level whose crossings `zero_crossings` and `crossing_rate` count; `mean`: that of the window."""

    hysteresis: Annotated[float, Field(ge=0)] = 0.0
    """A crossing counts only once the signal is further than this beyond the level, in the field's unit."""

    @model_validator(mode="after")
    def _waveform_is_sensible(self) -> Self:
        for band in self.bands:
            _check_band(band, "a band")
        if len(set(self.bands)) != len(self.bands):
            raise ValueError("a band is named twice")
        _check_tones(self.tones)
        if self.rate == 0.0:
            raise ValueError("`rate` must be above 0Hz")
        highest = self.highest
        if self.rate is not None and highest > self.rate / 2:
            raise ValueError(
                f"{format_hertz(highest)}Hz is beyond half of `rate`, the highest frequency that samples can show"
            )
        return self

    @property
    def highest(self) -> float:
        """The highest frequency asked for, 0 if none is."""
        asked = [band[1] for band in self.bands] + list(self.tones)
        if self.envelope is not None:
            asked += [self.envelope.band[1], *self.envelope.tones]
        return max(asked, default=0.0)

    @property
    def has_spectrum(self) -> bool:
        """Whether anything is asked for that needs a spectrum."""
        return bool(self.bands or self.tones or self.envelope)
