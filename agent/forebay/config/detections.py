"""Options of the steps over detections: tracking, counting, zones, lines, dwell, posts, presence."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from forebay.blocks import Lane
from forebay.config.base import Duration, Options
from forebay.config.zones import known_zone

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Share = Annotated[float, Field(ge=0, le=1)]
Point = Annotated[
    tuple[Share, Share], Field(description="x and y as shares of the picture's width and height.")
]
Polygon = Annotated[list[Point], Field(min_length=3, max_length=64)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class StillOptions(Options):
    """Pictures around an event, in a stream of their own; masking covers them like all others."""

    before: Annotated[int, Field(ge=0, le=10)] = 0
    """Pictures before the one of the event."""

    after: Annotated[int, Field(ge=0, le=10)] = 0
    """Pictures after it."""


class DetectionOptions(Options):
    """What all steps over detections share."""

    name: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Name in the column `rule`. Left out: the step's own."""

    detections: str = ""
    """Stream of the detections: the `output` of the `infer` step that they come from, if it has one."""

    classes: list[str] = Field(default_factory=list)
    """Labels that count; empty: all."""

    lost: Duration = 2_000_000_000
    """An object not seen for so long is gone."""

    max_keys: Annotated[int, Field(ge=1, le=10_000)] = 256
    """Cameras with a state of their own; those beyond are passed over, counted."""


class TrackOptions(DetectionOptions):
    """Give each object a number that it keeps from picture to picture: field `track` of the detections."""


class EventOptions(DetectionOptions):
    """What the steps share that tell events."""

    output: str = ""
    """Stream of the events; default `{stream}_events`. Stills go to `{output}_stills`."""

    between: str | None = None
    """Local time of day in which events are told, `22:00-06:00`. Left out: always."""

    days: list[Day] = Field(default_factory=list)
    """Days on which `between` begins; empty: every day."""

    time_zone: str = "UTC"
    """Zone of `between` and `days`, e.g. `Asia/Shanghai` or `+08:00`."""

    lane: Lane = Lane.NORMAL
    """Lane of the events."""

    still: StillOptions | None = None
    """Send the pictures around an event. With a `drop` of the picture's field behind this step, only these."""

    @field_validator("between")
    @classmethod
    def _two_times(cls, text: str | None) -> str | None:
        if text is not None:
            parse_between(text)
        return text

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        known_zone(zone)
        return zone

    @model_validator(mode="after")
    def _zone_is_said(self) -> Self:
        if (self.between is not None or self.days) and "time_zone" not in self.model_fields_set:
            raise ValueError("`between` and `days` need `time_zone`, e.g. `Asia/Shanghai`")
        return self


class MovingOptions(EventOptions):
    """What the steps share that follow single objects."""

    point: Literal["bottom", "centre"] = "bottom"
    """Which point of a box stands for the object: the middle of its lower edge (feet, wheels), or its centre."""

    confirm: Annotated[int, Field(ge=1, le=100)] = 2
    """Pictures in a row that must agree before an object counts as inside or outside."""


class ZoneOptions(MovingOptions):
    """Tell when an object enters or leaves a part of the picture."""

    polygon: Polygon
    """Corners `[x, y]` as shares of the picture's width and height from its upper left."""

    events: tuple[Literal["enter", "leave"], ...] = Field(default=("enter", "leave"), min_length=1)
    """Which events are told."""


class LineOptions(MovingOptions):
    """Tell when an object crosses a line: `in` from its left to its right, as seen from `start` to `end`, or `out`."""

    start: Point
    """First end `[x, y]`."""

    end: Point
    """Other end `[x, y]`."""

    events: tuple[Literal["in", "out"], ...] = Field(default=("in", "out"), min_length=1)
    """Which crossings are told."""

    @model_validator(mode="after")
    def _has_length(self) -> Self:
        if self.start == self.end:
            raise ValueError("`start` and `end` are the same point")
        return self


class DwellOptions(MovingOptions):
    """Tell when an object stays in a part of the picture for long (`dwell`), and when it then leaves (`leave`)."""

    polygon: Polygon
    """Corners `[x, y]` as shares of the picture's width and height."""

    for_: Annotated[Duration, Field(alias="for", gt=0)]
    """How long."""


class PostOptions(EventOptions):
    """Tell when nobody is in a part of the picture for long (`left`), and when somebody is back (`back`)."""

    polygon: Polygon | None = None
    """Corners `[x, y]` as shares of the picture's width and height; left out: the whole picture."""

    point: Literal["bottom", "centre"] = "centre"
    """Which point of a box stands for the object."""

    for_: Annotated[Duration, Field(alias="for", gt=0)]
    """How long."""


class PresentOptions(PostOptions):
    """Tell when somebody is in a part of the picture for long (`present`), and when nobody is any more (`gone`)."""


class CountOptions(DetectionOptions):
    """Count the objects in each picture: `count`, `count_max`, `count_mean` and `frames` of `{stream}_counts`."""

    polygon: Polygon | None = None
    """Only objects within these corners, as shares of the picture's width and height."""

    point: Literal["bottom", "centre"] = "centre"
    """Which point of a box stands for the object."""

    every: Duration = 60_000_000_000
    """A row each so long, by the pictures' own stamps; 0: a row each picture."""

    output: str = ""
    """Stream of the counts; default `{stream}_counts`."""


def parse_between(text: str) -> tuple[int, int]:
    """Return the minutes of the day of e.g. `22:00-06:00`. Raises ValueError."""
    match = re.fullmatch(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])", text)
    if match is None:
        raise ValueError("expected two times of day such as `22:00-06:00`")
    first, last = int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])
    if first == last:
        raise ValueError("the two times are the same; leave `between` out for the whole day")
    return first, last


STEP_OPTIONS: dict[str, type[Options]] = {
    "track": TrackOptions,
    "count": CountOptions,
    "zone": ZoneOptions,
    "line": LineOptions,
    "dwell": DwellOptions,
    "left_post": PostOptions,
    "present": PresentOptions,
}
"""Options class by the step's name."""
