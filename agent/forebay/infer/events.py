"""The steps that tell events of objects: `zone`, `line`, `dwell`, `left_post`, `present`; and pictures around them.

State survives a restart; the pictures kept for stills do not, because nothing unmasked goes to disk.
"""

from __future__ import annotations

from typing import Any

from forebay.blocks import Block, Field, Grade, Type
from forebay.config import detections as config
from forebay.infer import rules
from forebay.infer.stills import Stills
from forebay.infer.track import Tracker
from forebay.infer.watch import BOX, DetectionStep, Look, block_of, place_of, track_rows


class _Watched:
    """A rule and, for detections without numbers, a tracker, at one camera."""

    def __init__(self, options: config.EventOptions) -> None:
        self.rule = rules.make(options)
        self.tracker = Tracker(options.lost)

    def dump(self) -> Any:
        return [self.rule.dump(), self.tracker.dump()]

    def load(self, saved: Any) -> None:
        rule, tracker = saved
        self.rule.load(rule)
        self.tracker.load(tracker)


class EventStep(DetectionStep):
    """Tells events of a rule as rows of `{stream}_events`, and the pictures around them as `..._stills`."""

    _options: config.EventOptions

    def __init__(self, name: str, options: config.EventOptions, key: str) -> None:
        super().__init__(name, options, key)
        self._hours = rules.Hours(options)
        still = options.still
        self._stills = None if still is None else Stills(still.before, still.after, options.max_keys)

    def _new(self) -> _Watched:
        return _Watched(self._options)

    def _images(self, block: Block, looks: list[Look]) -> list[Block]:
        told: list[tuple[Look, rules.Event]] = []
        for look in looks:
            events = self._events(look)
            told += [(look, event) for event in events]
            if self._stills is not None:
                names = [e.event for e in events]
                self._stills.add(look.camera, look.time, look.frame, block, look.row, names)
        out = [self._rows(block, told)] if told else []
        pictures = self._stills.take() if self._stills is not None else []
        if pictures:
            out.append(self._pictures(block, pictures))
        return out

    def _events(self, look: Look) -> list[rules.Event]:
        state = self._camera(look.camera)
        if state is None:
            return []
        numbers: list[Any] = [r.get("track") for r in look.objects]
        if any(n is None for n in numbers):
            numbers[:] = track_rows(state.tracker, look.time, look.objects)
        point = getattr(self._options, "point", "bottom")
        seen = [
            rules.Seen(r["label"], r["score"], tuple(r[n] for n in BOX), n, place_of(r, point))
            for r, n in zip(look.objects, numbers, strict=True)
        ]
        if not self._hours.contain(look.time):
            # outside its hours a rule knows nothing: what is inside when they begin has just come
            self._cameras[look.camera] = self._new()
            return []
        events: list[rules.Event] = state.rule.update(look.time, seen)
        self.counts.update(e.event for e in events)
        return events

    def _rows(self, block: Block, told: list[tuple[Look, rules.Event]]) -> Block:
        g, rule = Grade.GENERAL, self._options.name or self.name
        seen = [e.seen for _, e in told]
        table: list[tuple[Field, list[Any]]] = [
            (
                Field("frame", Type.I64, grade=g, description="number of the image"),
                [k.frame for k, _ in told],
            ),
            (Field("rule", Type.STR, grade=g), [rule] * len(told)),
            (Field("event", Type.STR, grade=g), [e.event for _, e in told]),
            (Field("label", Type.STR, grade=g, model=self._model), [s and s.label for s in seen]),
            (Field("track", Type.I64, grade=g, description="the object"), [s and s.track for s in seen]),
            (Field("score", Type.F64, grade=g, model=self._model), [s and s.score for s in seen]),
            (Field("seconds", Type.F64, "s", g, "how long it had lasted"), [e.seconds for _, e in told]),
            (Field("count", Type.I64, grade=g, description="objects concerned"), [e.count for _, e in told]),
        ]
        for place, name in enumerate(BOX):
            table.append((Field(name, Type.F64, "px", g), [s and s.box[place] for s in seen]))
        return self._made(
            block, self._stream(block), table, [k.camera for k, _ in told], [k.time for k, _ in told]
        )

    def _pictures(self, block: Block, made: list[Any]) -> Block:
        g, rule = Grade.GENERAL, self._options.name or self.name
        image = next(f for f in block.schema.fields if f.media == "image")
        table: list[tuple[Field, list[Any]]] = [
            (Field("frame", Type.I64, grade=g, description="number of the image"), [p.frame for p in made]),
            (Field("rule", Type.STR, grade=g), [rule] * len(made)),
            (Field("event", Type.STR, grade=g), [p.event for p in made]),
            (image, [p.data for p in made]),
        ]
        out = self._made(
            block, f"{self._stream(block)}_stills", table, [p.camera for p in made], [p.time for p in made]
        )
        out.columns[-1].frames = [p.pixels for p in made]
        return out

    def _stream(self, block: Block) -> str:
        return self._options.output or f"{block.stream}_events"

    def _made(
        self,
        block: Block,
        stream: str,
        table: list[tuple[Field, list[Any]]],
        cameras: list[Any],
        times: list[int],
    ) -> Block:
        key = block.schema.index(self._key) if self._key else -1
        if key >= 0:
            table = [(block.schema.fields[key], cameras), *table]
        made = block_of(stream, table, times, self._key, block.schema.stamped_by)
        made.lane = self._options.lane
        return made
