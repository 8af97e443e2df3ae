"""The steps over detections: what they share, `track` and `count`. Those that tell events are in events.py.

Meaning
-------
- The block of detections comes before that of its images (see DetectStep). A step keeps it until the images come,
  whose field `objects` says in which of them somebody looked; an image in which nothing was found counts too.
- State is kept per key (camera) and survives a restart.
- Objects are told apart by the field `track` where a `track` step made one, else by a tracker of the step's own.
- What a step makes has the time of the image that it comes from.
"""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt

from forebay.blocks import Block, Column, Field, Grade, Schema, Type
from forebay.config import detections as config
from forebay.errors import ConfigError, ForebayError, InputError
from forebay.infer import rules
from forebay.infer.track import Tracker

_log = logging.getLogger(__name__)

_STATE_VERSION = 1
BOX = ("x1", "y1", "x2", "y2")
_DAMAGE = (ValueError, TypeError, KeyError, IndexError, AttributeError, msgpack.UnpackException)


@dataclass(slots=True)
class Look:
    """One image in which somebody looked: its camera, time, number, and the rows of its detections."""

    camera: Any
    time: int
    frame: int | None
    row: int
    objects: list[dict[str, Any]] = field(default_factory=list)


class DetectionStep(ABC):
    """What the steps share: which blocks concern them, state per camera, restarts."""

    all_streams = True  # the worker hands on blocks of other streams too: detections are one

    def __init__(self, name: str, options: config.DetectionOptions, key: str) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self._options, self._key = options, key
        self._cameras: dict[Any, Any] = {}
        self._waiting: Block | None = None
        self._model = ""
        told = f"{name}\n{key}\n{options.model_dump_json()}".encode()
        self._fingerprint = hashlib.sha256(told).digest()[:16]

    def process(self, block: Block) -> list[Block]:
        """See stages.Step."""
        if _are_detections(block, self._options.detections):
            block = self._detections(block)
            self._waiting = block
            return [block]
        objects = block.schema.index(
            f"{self._options.detections}_objects" if self._options.detections else "objects"
        )
        if objects < 0:
            return [block]
        self._model = block.schema.fields[objects].model
        waiting, self._waiting = self._waiting, None
        return [*self._images(block, self._looks(block, objects, waiting)), block]

    def _detections(self, block: Block) -> Block:
        """Return the block of detections as it goes on."""
        return block

    @abstractmethod
    def _images(self, block: Block, looks: list[Look]) -> list[Block]:
        """Return the blocks that the images of a block give rise to."""

    def _looks(self, block: Block, objects: int, waiting: Block | None) -> list[Look]:
        """Return the images in which somebody looked, each with its detections."""
        cameras = _cells(block, self._key) if self._key else [None] * block.rows
        frames = _cells(block, "frame")
        found: dict[tuple[Any, int, Any], list[dict[str, Any]]] = {}
        if waiting is not None:
            places = _cells(waiting, self._key) if self._key else [None] * waiting.rows
            rows = _rows(waiting)
            for camera, time, row in zip(places, waiting.time.tolist(), rows, strict=True):
                found.setdefault((camera, time, row["frame"]), []).append(row)
        looked = ~block.columns[objects].is_null()
        times = block.time.tolist()
        return [
            Look(
                cameras[r],
                times[r],
                frames[r],
                r,
                self._wanted(found.get((cameras[r], times[r], frames[r]), [])),
            )
            for r in np.flatnonzero(looked).tolist()
        ]

    def _wanted(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [r for r in rows if not self._options.classes or r["label"] in self._options.classes]

    def _camera(self, camera: Any) -> Any:
        """Return the state of a camera, None if there are more than may have one."""
        if camera not in self._cameras:
            if len(self._cameras) >= self._options.max_keys:
                self.counts["bypassed"] += 1
                return None
            self._cameras[camera] = self._new()
        return self._cameras[camera]

    @abstractmethod
    def _new(self) -> Any:
        """Return the state of a new camera; it has `dump` and `load`."""

    def flush(self) -> list[Block]:
        """See stages.Step."""
        return []

    def state(self) -> bytes | None:
        """See stages.Step."""
        kept = [[camera, state.dump()] for camera, state in self._cameras.items()]
        body = {"version": _STATE_VERSION, "options": self._fingerprint, "cameras": kept}
        packed: bytes = msgpack.packb(body)
        return packed

    def restore(self, state: bytes) -> None:
        """See stages.Step. Raises ConfigError for another configuration, InputError for a damaged state."""
        try:
            body = msgpack.unpackb(state, strict_map_key=False)
            if (body["version"], body["options"]) != (_STATE_VERSION, self._fingerprint):
                raise ConfigError(
                    f"the saved state of step {self.name} is of another configuration or version"
                )
            cameras = {}
            for camera, saved in body["cameras"]:
                cameras[camera] = self._new()
                cameras[camera].load(saved)
        except ForebayError:
            raise
        except _DAMAGE as error:
            raise InputError(
                f"the saved state of step {self.name} is damaged: {type(error).__name__}"
            ) from None
        self._cameras = cameras


class TrackStep(DetectionStep):
    """Adds the field `track` to the detections: the number that an object keeps from image to image."""

    def _new(self) -> Tracker:
        return Tracker(self._options.lost)

    def _detections(self, block: Block) -> Block:
        cameras = _cells(block, self._key) if self._key else [None] * block.rows
        rows, times = _rows(block), block.time.tolist()
        groups: dict[tuple[Any, int, Any], list[int]] = {}
        for row in range(block.rows):
            if not self._options.classes or rows[row]["label"] in self._options.classes:
                groups.setdefault((cameras[row], times[row], rows[row]["frame"]), []).append(row)
        numbers: list[int | None] = [None] * block.rows
        for (camera, time, _), members in groups.items():
            tracker = self._camera(camera)
            if tracker is None:
                continue
            ids = track_rows(tracker, time, [rows[r] for r in members])
            for row, number in zip(members, ids, strict=True):
                numbers[row] = number
        if "track" in block.schema.names():
            return block
        grade = block.schema.fields[block.schema.index("label")].grade
        told = Field("track", Type.I64, grade=grade, description="the object, as long as it is followed")
        return block.with_columns({}, [(told, Column.of(Type.I64, numbers))])

    def _images(self, block: Block, looks: list[Look]) -> list[Block]:
        return []


@dataclass(slots=True)
class _Period:
    """What was counted at one camera since the last row."""

    start: int | None = None
    frames: int = 0
    total: int = 0
    most: int = 0
    last: int = 0
    time: int = 0

    def add(self, start: int, time: int, count: int) -> None:
        """Take an image with so many objects."""
        self.start, self.time, self.last = start, time, count
        self.frames, self.total, self.most = self.frames + 1, self.total + count, max(self.most, count)

    def closed(self) -> _Period:
        """Return what was counted and begin anew."""
        done = _Period(*self.dump())
        self.load(_Period().dump())
        return done

    def dump(self) -> Any:
        return [self.start, self.frames, self.total, self.most, self.last, self.time]

    def load(self, saved: Any) -> None:
        self.start, self.frames, self.total, self.most, self.last, self.time = saved


class CountStep(DetectionStep):
    """Counts objects per image; a row each `every`, stamped with the last image of that time."""

    _options: config.CountOptions

    def __init__(self, name: str, options: config.CountOptions, key: str) -> None:
        super().__init__(name, options, key)
        self._shape: tuple[str, Field | None, str] | None = None  # what rows at the end need of the images

    def _new(self) -> _Period:
        return _Period()

    def _images(self, block: Block, looks: list[Look]) -> list[Block]:
        key = block.schema.index(self._key) if self._key else -1
        self._shape = (block.stream, block.schema.fields[key] if key >= 0 else None, block.schema.stamped_by)
        every, polygon = self._options.every, self._options.polygon
        out: list[tuple[Any, _Period]] = []
        for look in looks:
            period = self._camera(look.camera)
            if period is None:
                continue
            start = look.time // every if every else look.time
            if period.frames and period.start != start:
                out.append((look.camera, period.closed()))
            inside = sum(polygon is None or _within(r, polygon, self._options.point) for r in look.objects)
            period.add(start, look.time, inside)
            if not every:
                out.append((look.camera, period.closed()))
        return [self._counted(out)] if out else []

    def _counted(self, made: list[tuple[Any, _Period]]) -> Block:
        assert self._shape is not None
        stream, key, stamped_by = self._shape
        g = Grade.GENERAL
        rule, model = self._options.name or self.name, self._model
        table: list[tuple[Field, list[Any]]] = [
            (Field("rule", Type.STR, grade=g), [rule] * len(made)),
            (
                Field("count", Type.I64, grade=g, description="in the last image", model=model),
                [p.last for _, p in made],
            ),
            (
                Field("count_max", Type.I64, grade=g, description="most in an image", model=model),
                [p.most for _, p in made],
            ),
            (Field("count_mean", Type.F64, grade=g, model=model), [p.total / p.frames for _, p in made]),
            (Field("frames", Type.I64, grade=g, description="images counted"), [p.frames for _, p in made]),
        ]
        if key is not None:
            table.insert(0, (key, [camera for camera, _ in made]))
        times = [p.time for _, p in made]
        return block_of(self._options.output or f"{stream}_counts", table, times, self._key, stamped_by)

    def flush(self) -> list[Block]:
        """Return the rows of the time that is not over."""
        if self._shape is None:
            return []
        made = [(camera, period.closed()) for camera, period in self._cameras.items() if period.frames]
        return [self._counted(made)] if made else []


def block_of(
    stream: str, table: list[tuple[Field, list[Any]]], times: list[int], key: str, stamped_by: str
) -> Block:
    """Return a block of fields and their cells; `key` is its key if it is among the fields."""
    fields = tuple(f for f, _ in table)
    columns = tuple(Column.of(f.type, cells) for f, cells in table)
    known = key if any(f.name == key for f in fields) else ""
    return Block(Schema(stream, fields, known, stamped_by), np.array(times, dtype=np.int64), columns)


def _are_detections(block: Block, named: str) -> bool:
    names = block.schema.names()
    if not {"frame", "label", "score", "width", "height", *BOX} <= set(names):
        return False
    return block.stream == named if named else block.stream.endswith("_detections")


def _cells(block: Block, name: str) -> list[Any]:
    index = block.schema.index(name)
    if index < 0:
        return [None] * block.rows
    return block.columns[index].to_list(block.schema.fields[index].type)


def _rows(block: Block) -> list[dict[str, Any]]:
    """Return the detections as dicts of their own fields."""
    names = [
        n for n in ("frame", "label", "score", *BOX, "width", "height", "track") if block.schema.index(n) >= 0
    ]
    cells = [_cells(block, n) for n in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*cells, strict=True)]


def track_rows(tracker: Tracker, time: int, rows: list[dict[str, Any]]) -> list[int]:
    """Return the number of each detection of an image."""
    boxes: npt.NDArray[np.float64] = np.array([[r[n] for n in BOX] for r in rows], dtype=np.float64)
    return tracker.update(time, boxes.reshape(-1, 4), [r["label"] for r in rows])


def place_of(row: dict[str, Any], point: str) -> tuple[float, float]:
    """Return what stands for an object, as shares of the image; a hair above the lower edge."""
    y = row["y2"] - 0.5 if point == "bottom" else (row["y1"] + row["y2"]) / 2
    return (row["x1"] + row["x2"]) / 2 / max(row["width"], 1), y / max(row["height"], 1)


def _within(row: dict[str, Any], polygon: list[tuple[float, float]], point: str) -> bool:
    return rules.inside(place_of(row, point), polygon)
