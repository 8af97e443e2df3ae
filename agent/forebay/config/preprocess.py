"""Options of the preprocessing steps. `STEP_OPTIONS` maps a step's name in YAML to its class."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, field_validator, model_validator

from forebay.blocks import Lane
from forebay.config import expression
from forebay.config.base import Duration, Options, Rate, format_duration, parse_duration
from forebay.config.waveform import CROSSING_STATS, WaveformOptions
from forebay.nearest import nearest

MOMENT_STATS = (
    "count", "sum", "mean", "std", "min", "max", "range", "rms", "peak", "crest", "skewness", "kurtosis",
    "first", "last",
)  # fmt: skip
DEFAULT_STATS = ("mean", "std", "min", "max", "rms", "peak", "crest", "kurtosis", "count")
MAX_WINDOW_ROWS = 1_048_576  # rows a key may hold in one window; a time window is closed early beyond
MAX_PANES = 1_000  # of a time window: every / slide
MAX_GRID = 1_000  # of resample: max_gap / every, the points that one pair of samples can make

_PERCENTILE = re.compile(r"p(100|[0-9]{1,2}(?:\.[0-9]{1,3})?)")


def parse_percent(text: Any) -> float:
    """Return the fraction of e.g. `2%` or `0.5 %`. Raises ValueError."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*", text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("expected a percentage with its sign such as `2%`")
    return float(match[1]) / 100.0


Percent = Annotated[
    float,
    BeforeValidator(parse_percent),
    PlainSerializer(lambda fraction: f"{fraction * 100:g}%", return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*%\s*$", "examples": ["2%"]}),
]
"""A fraction; written `2%` in YAML."""

FieldName = Annotated[str, Field(min_length=1, max_length=256)]


def _no_repeats(names: tuple[str, ...]) -> tuple[str, ...]:
    if len({name.casefold() for name in names}) != len(names):
        raise ValueError("a field is named twice")
    return names


class FieldOptions(Options):
    """Base of the steps that work on some fields."""

    field: FieldName | None = None
    """The field to work on. With neither `field` nor `fields`: all numeric fields but the key."""

    fields: tuple[FieldName, ...] = ()
    """The fields to work on, where they are several."""

    _check_fields = field_validator("fields")(_no_repeats)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.field is not None and self.fields:
            raise ValueError("give `field` or `fields`, not both")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The fields named, empty for all numeric ones."""
        return self.fields if self.field is None else (self.field,)


class ValidateOptions(FieldOptions):
    """Mark values that cannot be right. Nothing is changed or removed: cells get a quality code."""

    range: tuple[float, float] | None = None
    """Lowest and highest possible value, both inclusive. Outside: bad(range)."""

    max_rate: Rate | None = None
    """Fastest possible change, e.g. `5/s`. Faster: uncertain(rate)."""

    stuck: Duration | None = None
    """A value exactly unchanged for at least this long is uncertain(stuck), e.g. `10min`."""

    required: bool = False
    """Count and log rows in which the field is missing. Needs `field` or `fields`."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.range is None and self.max_rate is None and self.stuck is None and not self.required:
            raise ValueError("give at least one of `range`, `max_rate`, `stuck`, `required`")
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError("`range` must be [lowest, highest] with lowest < highest")
        if self.max_rate == 0.0:
            raise ValueError("`max_rate` must be above 0; use `deadband` to drop what changes little")
        if self.stuck == 0:
            raise ValueError("`stuck` must be longer than 0s")
        if self.required and not self.names:
            raise ValueError("`required` needs `field` or `fields`: which field must be there?")
        return self


class ScaleOptions(FieldOptions):
    """Convert units: value * factor + offset, or a straight line through two points."""

    factor: float | None = None
    """Multiplied first, 1 if only `offset` is given."""

    offset: float | None = None
    """Added then, in the new unit."""

    raw: tuple[float, float] | None = None
    """Two raw values, e.g. `[4, 20]` (mA), that `to` is the meaning of."""

    to: tuple[float, float] | None = None
    """What the two raw values mean, e.g. `[0, 100]`. Values beyond go on along the line."""

    unit: Annotated[str, Field(max_length=64)] | None = None
    """Unit after scaling. Left out: as before."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        line, points = (self.factor, self.offset) != (None, None), (self.raw, self.to) != (None, None)
        if line == points:
            raise ValueError("give either `factor` and/or `offset`, or `raw` and `to`")
        if points and (self.raw is None or self.to is None):
            raise ValueError("`raw` and `to` belong together, e.g. raw: [4, 20], to: [0, 100]")
        if self.raw is not None and self.raw[0] == self.raw[1]:
            raise ValueError("the two values of `raw` must differ")
        if self.factor == 0.0:
            raise ValueError("`factor` must not be 0: every value would become the same")
        return self


class DeadbandOptions(FieldOptions):
    """Pass a value only when it has changed, per key. Rows in which nothing is left are dropped."""

    absolute: Annotated[float, Field(ge=0)] | None = None
    """A change must be larger than this, in the field's unit; 0 passes every change."""

    relative: Percent | None = None
    """A change must be larger than this share of the last value that passed, e.g. `1%`. With `absolute`
    the larger of both counts."""

    max_silence: Duration | None = None
    """Pass the value, changed or not, when none has passed for this long (data time)."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.absolute is None and self.relative is None:
            raise ValueError("give `absolute` and/or `relative`; `absolute: 0` passes every change")
        if self.max_silence == 0:
            raise ValueError("`max_silence` must be longer than 0s; leave it out for no limit")
        return self


class HampelOptions(FieldOptions):
    """Find spikes: samples far from the median of the last few, per key, without delay."""

    window: Annotated[int, Field(ge=3, le=255)] = 7
    """Samples in the window, odd, the judged one (the newest) included."""

    sigmas: Annotated[float, Field(gt=0)] = 3.0
    """Limit in standard deviations, estimated as 1.4826 MAD."""

    min_deviation: Annotated[float, Field(ge=0)] = 0.0
    """Nearer to the median than this is no spike, however quiet the window (in the field's unit). Give a
    few steps of the sensor's resolution where values are coarse."""

    action: Literal["mark", "replace"] = "mark"
    """`mark`: uncertain(spike), value kept. `replace`: the median instead of the value, marked as well."""

    @field_validator("window")
    @classmethod
    def _odd(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError("`window` must be odd, so that there is a middle sample")
        return window


class SmoothOptions(FieldOptions):
    """Smooth values exponentially, per key. Works by time, so that samples may come as they like."""

    tau: Duration
    """Time constant: after it a step of the value has been followed to 63 %, after three of them to 95 %."""

    decimals: Annotated[int, Field(ge=0, le=15)] | None = None
    """Round the smoothed values to so many decimals: what the sensor cannot resolve only costs bytes."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.tau == 0:
            raise ValueError("`tau` must be longer than 0s")
        return self


class GapsOptions(Options):
    """Show where a device's rows are missing, per key: with null rows, and the gap's length in a field."""

    every: Duration
    """Expected distance of a key's rows."""

    factor: Annotated[float, Field(ge=1, le=1_000_000)] = 3.0
    """Rows further apart than so many times `every` have a gap between them."""

    fill: Annotated[int, Field(ge=0, le=100)] = 1
    """Rows to insert at most in a gap, at the times at which rows should have come, from the first on. Their
    values are null(gap). 1 is enough to break the line of a chart."""

    length: FieldName | None = None
    """Name of a field to add: length of the gap in seconds in the first row after it, 0 elsewhere."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.every == 0:
            raise ValueError("`every` must be longer than 0s")
        if not self.fill and self.length is None:
            raise ValueError("give `fill` and/or `length`: else a gap would not show")
        return self

    @property
    def longest_ns(self) -> int:
        """The longest distance of rows that is no gap."""
        return min(int(self.every * self.factor), 2**63 - 1)


class WindowOptions(WaveformOptions, FieldOptions):
    """Statistics of windows of rows or time, per key: fields `{field}_{stat}`."""

    size: Annotated[int, Field(ge=1, le=MAX_WINDOW_ROWS)] | None = None
    """Rows in a window."""

    every: Duration | None = None
    """Length of a time window, by data time, aligned to 1970-01-01 UTC."""

    slide: int | str | None = None
    """Step from one window to the next where they overlap: rows with `size`, a duration that divides
    `every` with `every`. Left out: windows follow each other."""

    stats: Annotated[tuple[str, ...], Field(min_length=1)] = DEFAULT_STATS
    """count, sum, mean, std, min, max, range, rms, peak (largest magnitude), crest (peak / rms), skewness,
    kurtosis (3 for a normal distribution), first, last, percentiles such as p50 or p99.9, zero_crossings, and
    crossing_rate (crossings per second: twice the frequency of a sine)."""

    keep: bool = False
    """Pass the rows themselves on as well; the windows then go to the stream `{stream}_window`."""

    @field_validator("stats")
    @classmethod
    def _known(cls, stats: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(stats)) != len(stats):
            raise ValueError("a statistic is named twice")
        known = MOMENT_STATS + CROSSING_STATS
        for stat in stats:
            if stat not in known and not _PERCENTILE.fullmatch(stat):
                near = nearest(stat, known)
                hint = f"did you mean `{near}`?" if near else f"there are {', '.join(known)}, pNN"
                raise ValueError(f"no statistic `{stat[:40]}` ({hint})")
        return stats

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if (self.size is None) == (self.every is None):
            raise ValueError("give either `size` (rows) or `every` (a duration)")
        if self.every == 0:
            raise ValueError("`every` must be longer than 0s")
        if self.size is not None and not 1 <= self.slide_rows <= self.size:
            raise ValueError("`slide` must be from 1 to `size` rows")
        if self.every is not None:
            if self.slide_ns <= 0 or self.every % self.slide_ns:
                raise ValueError(f"`slide` must divide `every`, which is {format_duration(self.every)}")
            if self.every // self.slide_ns > MAX_PANES:
                raise ValueError(f"`every` may be at most {MAX_PANES} times `slide`")
        return self

    @property
    def slide_rows(self) -> int:
        """Step in rows. Raises ValueError if `slide` is a duration."""
        if self.slide is None:
            return self.size or 0
        if isinstance(self.slide, str):
            raise ValueError("with `size`, `slide` is a number of rows")
        return self.slide

    @property
    def slide_ns(self) -> int:
        """Step in ns. Raises ValueError if `slide` is no duration."""
        return (self.every or 0) if self.slide is None else parse_duration(self.slide)

    @property
    def percents(self) -> dict[str, float]:
        """The percentiles among the statistics, name to percent."""
        return {s: float(m[1]) for s in self.stats if (m := _PERCENTILE.fullmatch(s))}


class ResampleOptions(FieldOptions):
    """Put fields on a regular grid of time (aligned to 1970-01-01 UTC), per key. Other fields do not pass."""

    every: Duration
    """Distance of the grid's points."""

    method: Literal["linear", "last", "mean"] = "linear"
    """`linear` between the neighbours, `last` value at or before the point, `mean` of the interval that
    ends at the point."""

    max_gap: Duration | None = None
    """linear: samples further apart are not joined; last: a value holds no longer. Default: 10 x `every`."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.every == 0:
            raise ValueError("`every` must be longer than 0s")
        if self.max_gap is not None and self.method == "mean":
            raise ValueError("`max_gap` is for `linear` and `last`; a mean needs samples in its interval")
        if not self.every <= self.gap_ns <= MAX_GRID * self.every:
            raise ValueError(f"`max_gap` must be from 1 to {MAX_GRID} times `every`")
        return self

    @property
    def gap_ns(self) -> int:
        """Largest gap in ns."""
        return 10 * self.every if self.max_gap is None else self.max_gap


class AlarmOptions(Options):
    """Raise an alarm while a condition holds, per key: rows of the stream `{stream}_alarms`."""

    when: Annotated[str, Field(min_length=1)]
    """Condition, e.g. `anomaly > 0.9 for 5s` or `abs(flow) > 3 and state == "run"`."""

    clear: Annotated[str, Field(min_length=1)] | None = None
    """Condition that ends the alarm, e.g. `anomaly < 0.7 for 30s`. Left out: when `when` does not hold."""

    lane: Lane = Lane.URGENT
    """Lane of the alarm's rows."""

    name: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Name in the column `alarm`. Left out: the text of `when`."""

    message: Annotated[str, Field(max_length=1024)] | None = None
    """A fixed text for the column `message`, e.g. what to do."""

    @field_validator("when", "clear")
    @classmethod
    def _parses(cls, text: str | None) -> str | None:
        if text is not None:
            expression.parse(text)
        return text


class SelectOptions(Options):
    """Pass only some fields (and the key)."""

    fields: Annotated[tuple[FieldName, ...], Field(min_length=1)]
    """The fields that pass."""

    _check_fields = field_validator("fields")(_no_repeats)


class DropOptions(Options):
    """Take some fields away (never the key)."""

    fields: Annotated[tuple[FieldName, ...], Field(min_length=1)]
    """The fields to take away."""

    _check_fields = field_validator("fields")(_no_repeats)


class RenameOptions(Options):
    """Give fields other names."""

    fields: Annotated[dict[FieldName, FieldName], Field(min_length=1)]
    """Old name: new name."""

    @field_validator("fields")
    @classmethod
    def _distinct(cls, fields: dict[str, str]) -> dict[str, str]:
        if len({new.casefold() for new in fields.values()}) != len(fields):
            raise ValueError("two fields would get the same name")
        return fields


STEP_OPTIONS: dict[str, type[Options]] = {
    "validate": ValidateOptions,
    "scale": ScaleOptions,
    "deadband": DeadbandOptions,
    "hampel": HampelOptions,
    "smooth": SmoothOptions,
    "gaps": GapsOptions,
    "window": WindowOptions,
    "resample": ResampleOptions,
    "alarm": AlarmOptions,
    "select": SelectOptions,
    "drop": DropOptions,
    "rename": RenameOptions,
}
