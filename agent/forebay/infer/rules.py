"""What objects do: rules over what was seen in one picture after the other. No blocks, no IO.

A rule has the state of one camera. `update` takes a picture's time and the objects in it, `dump` and `load` carry
the state over a restart. Places are shares of the picture's width and height.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from forebay.config import detections as config
from forebay.config.zones import time_zone

Place = tuple[float, float]

ON_LINE = 0.005  # closer to a line than this, as a share of the picture, an object is on neither side


@dataclass(slots=True, frozen=True)
class Seen:
    """An object in a picture: what a detector says of it, its number, and the place that stands for it."""

    label: str
    score: float
    box: tuple[float, float, float, float]
    track: int
    place: Place


@dataclass(slots=True, frozen=True)
class Event:
    """What happened: to whom, as last seen (None: to nobody), for how long it had lasted, how many there are now."""

    event: str
    seen: Seen | None = None
    seconds: float = 0.0
    count: int = 0


class Rule(ABC):
    """The state of one rule at one camera."""

    @abstractmethod
    def update(self, time_ns: int, seen: list[Seen]) -> list[Event]:
        """Return what happened with this picture."""

    @abstractmethod
    def dump(self) -> Any:
        """Return the state as msgpack takes it."""

    @abstractmethod
    def load(self, saved: Any) -> None:
        """Take over a saved state. Raises KeyError, TypeError, ValueError."""


def inside(place: Place, polygon: list[Place]) -> bool:
    """Whether a place lies in a polygon, by crossings of a ray to the right (even-odd rule)."""
    x, y = place
    found = False
    for (x1, y1), (x2, y2) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
            found = not found
    return found


@dataclass(slots=True)
class _Stay:
    is_in: bool
    streak: int
    since: int
    last: int
    seen: Seen
    told: bool = False


class ZoneRule(Rule):
    """Who enters and leaves a polygon; with `for_ns`, who stays in it that long."""

    def __init__(
        self,
        polygon: list[Place],
        confirm: int,
        lost_ns: int,
        events: tuple[str, ...],
        for_ns: int | None = None,
    ) -> None:
        self._polygon, self._confirm, self._lost = polygon, confirm, lost_ns
        self._events, self._for = events, for_ns
        self._stays: dict[int, _Stay] = {}

    def update(self, time_ns: int, seen: list[Seen]) -> list[Event]:
        """See Rule."""
        out: list[Event] = []
        for one in seen:
            stay = self._stays.setdefault(one.track, _Stay(False, 0, time_ns, time_ns, one))
            stay.last, stay.seen = time_ns, one
            stay.streak = 0 if inside(one.place, self._polygon) == stay.is_in else stay.streak + 1
            if stay.streak >= self._confirm:
                out += self._turned(stay, time_ns)
            if self._for is not None and stay.is_in and not stay.told and time_ns - stay.since >= self._for:
                stay.told = True
                out.append(Event("dwell", one, (time_ns - stay.since) / 1e9, self._count()))
        for track in [t for t, s in self._stays.items() if not 0 <= time_ns - s.last <= self._lost]:
            stay = self._stays[track]
            if stay.is_in:
                out += self._turned(stay, stay.last)
            del self._stays[track]
        return out

    def _turned(self, stay: _Stay, time_ns: int) -> list[Event]:
        seconds = (time_ns - stay.since) / 1e9 if stay.is_in else 0.0
        stay.is_in, stay.streak, stay.since = not stay.is_in, 0, time_ns
        name = "enter" if stay.is_in else "leave"
        told = stay.told if self._for is not None else name in self._events
        stay.told = False
        return [Event(name, stay.seen, seconds, self._count())] if told else []

    def _count(self) -> int:
        return sum(s.is_in for s in self._stays.values())

    def dump(self) -> Any:
        """See Rule."""
        return [
            [t, s.is_in, s.streak, s.since, s.last, s.told, list(astuple(s.seen))]
            for t, s in self._stays.items()
        ]

    def load(self, saved: Any) -> None:
        """See Rule."""
        self._stays = {}
        for track, is_in, streak, since, last, told, seen in saved:
            label, score, box, number, place = seen
            known = Seen(str(label), float(score), tuple(box), int(number), tuple(place))
            self._stays[int(track)] = _Stay(
                bool(is_in), int(streak), int(since), int(last), known, bool(told)
            )


class LineRule(Rule):
    """Who crosses a line between two points, and in which direction."""

    def __init__(self, start: Place, end: Place, lost_ns: int, confirm: int, events: tuple[str, ...]) -> None:
        self._start, self._end, self._lost, self._events = start, end, lost_ns, events
        self._confirm = confirm
        self._tracks: dict[
            int, list[Any]
        ] = {}  # last sure place, its side, pictures on the other side, last time
        self._counts = {"in": 0, "out": 0}

    def update(self, time_ns: int, seen: list[Seen]) -> list[Event]:
        """See Rule."""
        out = []
        for one in seen:
            side = self._side(one.place)
            known = self._tracks.get(one.track)
            if known is None:
                if side:
                    self._tracks[one.track] = [one.place, side, 0, time_ns]
                continue
            known[3] = time_ns
            if side in (0, known[1]):
                known[2] = 0
                known[0] = one.place if side else known[0]
                continue
            known[2] += 1
            if known[2] < self._confirm:
                continue
            if self._through(known[0], one.place):
                name = "in" if side < 0 else "out"
                self._counts[name] += 1
                if name in self._events:
                    out.append(Event(name, one, 0.0, self._counts[name]))
            known[:3] = [one.place, side, 0]
        for track in [t for t, k in self._tracks.items() if not 0 <= time_ns - k[3] <= self._lost]:
            del self._tracks[track]
        return out

    def _side(self, place: Place) -> int:
        """Return 1 on the left of the line, -1 on its right, 0 on it. Pictures have y downwards."""
        (x1, y1), (x2, y2) = self._start, self._end
        length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
        distance = ((x2 - x1) * (place[1] - y1) - (y2 - y1) * (place[0] - x1)) / length
        return 0 if abs(distance) < ON_LINE else (1 if distance < 0 else -1)

    def _through(self, old: Place, new: Place) -> bool:
        """Whether the way from old to new meets the line between its ends."""

        def turn(a: Place, b: Place, c: Place) -> float:
            return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])

        return turn(old, new, self._start) * turn(old, new, self._end) <= 0

    def dump(self) -> Any:
        """See Rule."""
        return [self._counts, [[t, *k] for t, k in self._tracks.items()]]

    def load(self, saved: Any) -> None:
        """See Rule."""
        counts, tracks = saved
        self._counts = {"in": int(counts["in"]), "out": int(counts["out"])}
        self._tracks = {
            int(t): [(float(p[0]), float(p[1])), int(side), int(n), int(last)]
            for t, p, side, n, last in tracks
        }


class PresenceRule(Rule):
    """Whether somebody is there: told once it has lasted, `empty` or not, and again when it ends.

    Time is judged at pictures only; where none came for longer than `for_ns`, nothing is known and the time
    begins anew.
    """

    def __init__(self, polygon: list[Place] | None, for_ns: int, lost_ns: int, *, empty: bool) -> None:
        self._polygon, self._for, self._lost, self._empty = polygon, for_ns, lost_ns, empty
        self._since: int | None = None
        self._somebody: int | None = None  # when somebody was last seen
        self._last: int | None = None
        self._raised = False

    def update(self, time_ns: int, seen: list[Seen]) -> list[Event]:
        """See Rule."""
        if self._last is not None and not 0 <= time_ns - self._last <= max(self._for, self._lost):
            self._since = self._somebody = None
        self._last = time_ns
        there = [s for s in seen if self._polygon is None or inside(s.place, self._polygon)]
        if there:
            self._somebody = time_ns
        # a detection missed now and then does not end somebody's presence
        recently = self._somebody is not None and time_ns - self._somebody <= self._lost
        holds = not there if self._empty else recently
        best = max(there, key=lambda s: s.score, default=None)
        if not holds:
            ended = self._raised
            seconds = 0.0 if self._since is None else (time_ns - self._since) / 1e9
            self._since, self._raised = None, False
            name = "back" if self._empty else "gone"
            return [Event(name, best, seconds, len(there))] if ended else []
        if self._since is None:
            self._since = time_ns
        if self._raised or time_ns - self._since < self._for:
            return []
        self._raised = True
        name = "left" if self._empty else "present"
        return [Event(name, best, (time_ns - self._since) / 1e9, len(there))]

    def dump(self) -> Any:
        """See Rule."""
        return [self._since, self._somebody, self._last, self._raised]

    def load(self, saved: Any) -> None:
        """See Rule."""
        self._since, self._somebody, self._last, raised = saved
        self._raised = bool(raised)


class Hours:
    """When a rule counts: times of day and days of the week in a zone."""

    def __init__(self, options: config.EventOptions) -> None:
        self._span = None if options.between is None else config.parse_between(options.between)
        self._days = {config.DAYS.index(d) for d in options.days}
        self._zone = time_zone(options.time_zone)

    def contain(self, time_ns: int) -> bool:
        """Whether a time lies within. A span over midnight belongs to the day on which it begins."""
        if self._span is None and not self._days:
            return True
        moment = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).astimezone(self._zone)
        minute = moment.hour * 60 + moment.minute
        first, last = self._span or (0, 24 * 60)
        if first > last and minute < last:
            moment -= timedelta(days=1)
        elif not (first <= minute and (minute < last or first > last)):
            return False
        return not self._days or moment.weekday() in self._days


def make(options: config.EventOptions) -> Rule:
    """Return the rule of a step for one camera, without a state yet."""
    match options:
        case config.ZoneOptions():
            return ZoneRule(options.polygon, options.confirm, options.lost, tuple(options.events))
        case config.DwellOptions():
            return ZoneRule(options.polygon, options.confirm, options.lost, (), options.for_)
        case config.LineOptions():
            return LineRule(options.start, options.end, options.lost, options.confirm, tuple(options.events))
        case config.PostOptions():
            empty = not isinstance(options, config.PresentOptions)
            return PresenceRule(options.polygon, options.for_, options.lost, empty=empty)
    raise TypeError(f"no rule for {type(options).__name__}")
