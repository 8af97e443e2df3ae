"""The step `infer` with `field`: what a detection model sees in a column of images."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np
import numpy.typing as npt

from forebay import quality as q
from forebay.blocks import Block, Column, Field, Grade, Schema, Type, take
from forebay.clock import Clock, SystemClock
from forebay.errors import ForebayError, InputError, ModelError
from forebay.infer.notes import FAILED, GAVE, Results
from forebay.infer.shadow_boxes import BoxFinder, ShadowDetector
from forebay.infer.vision import Detection
from forebay.pictures import Frame, decode

if TYPE_CHECKING:
    from forebay.infer.reading import Reader

_log = logging.getLogger(__name__)

MAX_CACHED_BYTES = 64 * 1024 * 1024  # decoded frames kept beside one block for the masking that follows
_STATE_VERSION = 1


class DetectStep:
    """Passes the images on and adds a stream `{stream}_detections`, one row an object.

    Its fields: the key, `frame` (number of the image, also added to the image's own row unless that has such
    a field), `label`, `score`, `x1`, `y1`, `x2`, `y2` in pixels, `width` and `height` of the image; with a reader
    `text` and `text_score`. The time is the image's. The image's row also gets `objects`, how many were found; null
    where nobody looked. The images that go on are still unmasked; decoded frames go with them for the masking to
    use. The block of detections comes before that of its images, so that a step behind knows all of an image when
    it sees it.

    Parameters
    ----------
    name : of the step
    detector : ready to run, or two of them, one in the shadow of the other
    field : bytes field of encoded images
    key : field that tells cameras apart, "" for none
    output : stream of the detections, "" for `{stream}_detections`; `objects` is then `{output}_objects`
    every_ns : least time between two looks at one camera; 0 for every image
    drop_late : images that came while the model was busy are dropped
    clock : tells how long the model was busy
    reader : reads what stands in each box, if there is one
    read_class : personal-data class of what it reads, "" for none

    Attributes
    ----------
    counts : images by what became of them: `looked`, `skipped` (every), `late`, `undecodable`, `model_error`
    results : pictures that were looked at, and those on which the model failed, see infer.notes
    """

    def __init__(
        self,
        name: str,
        detector: BoxFinder,
        *,
        field: str,
        key: str = "",
        output: str = "",
        every_ns: int = 0,
        drop_late: bool = False,
        clock: Clock | None = None,
        reader: Reader | None = None,
        read_class: str = "",
    ) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self.results: Results = Counter()
        self._shadow = detector if isinstance(detector, ShadowDetector) else None
        self.trial = self._shadow.trial if self._shadow else None
        self.models = self.trial.models if self.trial else (detector.model,)
        self._reader, self._read_classes = reader, (read_class,) if read_class else ()
        if reader is not None:
            self.models = (*self.models, reader.model)
        self._detector, self._field, self._key = detector, field, key
        self._output, self._every = output, every_ns
        self._drop_late, self._clock = drop_late, clock or SystemClock()
        self._frames = 0
        self._looked: dict[Any, int] = {}  # camera -> time of the last look
        self._busy_ns: dict[Any, int] = {}  # camera -> what its last look took
        self._due: dict[Any, tuple[int, int]] = {}  # camera -> time of its last look, time of the next
        self._warned = False

    @property
    def model(self) -> str:
        """The model whose detections go out."""
        return self._detector.model

    def report(self) -> dict[str, Any]:
        """Return the model, what runs it, and how its images fared; with a candidate, how its shadow run stands."""
        facts = {"model": self.model, "providers": list(self._detector.providers)}
        return {**facts, **self.counts, **(self.trial.report() if self.trial else {})}

    def process(self, block: Block) -> list[Block]:
        """Return a block of detections, if anything was found, and the block of images."""
        index = block.schema.index(self._field)
        if index < 0 or block.schema.fields[index].type is not Type.BYTES:
            if not self._warned and not any(f.model for f in block.schema.fields):
                self._warned = True
                kind = "missing" if index < 0 else block.schema.fields[index].type.value
                _log.warning(
                    "%s: %s: expected field %s with images, found %s",
                    block.stream, self._detector.model, self._field, kind,
                )  # fmt: skip
            return [block]
        block, numbers = self._numbered(block)
        column = block.columns[index]
        frames: list[Frame | None] = list(column.frames or [None] * block.rows)
        cameras = self._cameras(block)
        wanted = self._wanted(block, cameras) & ~column.is_null()
        found: list[tuple[int, Detection]] = []
        counts: list[int | None] = [None] * block.rows
        sizes: list[tuple[int, int]] = [(0, 0)] * block.rows
        kept = np.ones(block.rows, dtype=bool)
        for row in np.flatnonzero(wanted).tolist():
            time = int(block.time[row])
            if self._is_late(cameras[row], time):
                kept[row] = False
                continue
            began = self._clock.monotonic_ns()
            seen, sizes[row] = self._look(column, row, frames)
            self._was_busy(cameras[row], time, self._clock.monotonic_ns() - began)
            if seen is not None:
                counts[row] = len(seen)
                found += [(row, d) for d in seen]
        cached = Column(column.values, column.offsets, column.quality, column.spans, frames)
        told = [(self._objects_field(block), Column.of(Type.I64, counts, _missing(counts)))]
        passed = block.with_columns(
            {self._field: cached}, told if told[0][0].name not in block.schema.names() else ()
        )
        if not kept.all():
            self.counts["late"] += int(np.count_nonzero(~kept))
            passed = passed.take(kept)
        detections = [self._detections(block, numbers, found, sizes)] if found else []
        if self._shadow is not None:
            self._shadow.settle()  # here, so that a block's detections are all of one model
        return detections + ([passed] if passed.rows else [])

    def _is_late(self, camera: Any, time: int) -> bool:
        """Whether an image came while the model was busy with those before it.

        By the images' own stamps and the time that looking took: no wall clock is asked.
        """
        last, due = self._due.get(camera, (time, time))
        return self._drop_late and last <= time < due

    def _was_busy(self, camera: Any, time: int, busy_ns: int) -> None:
        """Keep what a look took. A camera's turn comes again when each other one has had its own."""
        if self._drop_late:
            self._busy_ns[camera] = busy_ns
            self._due[camera] = (time, time + sum(self._busy_ns.values()))

    def _objects_field(self, block: Block) -> Field:
        name = f"{self._output}_objects" if self._output else "objects"
        text = "objects found in the image"
        return Field(name, Type.I64, grade=self._grade(block), description=text, model=self.model)

    def _grade(self, block: Block) -> Grade:
        # A label and a box tell less than the picture: of its grade, or general where nobody declared one.
        return block.schema.fields[block.schema.index(self._field)].grade or Grade.GENERAL

    def _cameras(self, block: Block) -> list[Any]:
        index = block.schema.index(self._key) if self._key else -1
        if index < 0:
            return [None] * block.rows
        return block.columns[index].to_list(block.schema.fields[index].type)

    def _numbered(self, block: Block) -> tuple[Block, Column]:
        """Return the block with a field `frame` and that column."""
        index = block.schema.index("frame")
        if index >= 0 and block.schema.fields[index].type is Type.I64:
            return block, block.columns[index]
        numbers = Column(np.arange(self._frames, self._frames + block.rows, dtype=np.int64))
        self._frames += block.rows
        if index >= 0:  # somebody else's field of another kind: leave it alone
            return block, numbers
        field = Field("frame", Type.I64, description="number of the image in this stream")
        return block.with_columns({}, [(field, numbers)]), numbers

    def _wanted(self, block: Block, cameras: list[Any]) -> npt.NDArray[np.bool_]:
        """Return the rows that are due by `every`."""
        if not self._every:
            return np.ones(block.rows, dtype=bool)
        out = np.zeros(block.rows, dtype=bool)
        for row, (key, time) in enumerate(zip(cameras, block.time.tolist(), strict=True)):
            last = self._looked.get(key)
            # A clock that went back must not stop the looking until it has caught up.
            if last is None or time - last >= self._every or time < last:
                self._looked[key] = time
                out[row] = True
        self.counts["skipped"] += int(np.count_nonzero(~out))
        return out

    def _look(
        self, column: Column, row: int, frames: list[Frame | None]
    ) -> tuple[list[Detection] | None, tuple[int, int]]:
        """Return what is in an image, None if that cannot be told, and its width and height."""
        frame = frames[row]
        try:
            if frame is None:
                frame = decode(column.cell_bytes(row))
                if sum(f.nbytes for f in frames if f is not None) + frame.nbytes <= MAX_CACHED_BYTES:
                    frames[row] = frame
            found = self._detector.detect_labelled(frame)
            if self._reader is not None:
                found = self._reader.read_boxes(frame, found)
        except (InputError, ModelError) as error:
            # The picture goes on without detections; masking looks for itself and fails closed.
            self.counts["undecodable" if isinstance(error, InputError) else "model_error"] += 1
            self.results[FAILED, self.model] += isinstance(error, ModelError)
            _log.warning("%s: field %s: %s", self._detector.model, self._field, error)
            return None, (0, 0)
        self.counts["looked"] += 1
        self.results[GAVE, self.model] += 1
        return found, (frame.shape[1], frame.shape[0])

    def _detections(
        self, block: Block, numbers: Column, found: list[tuple[int, Detection]], sizes: list[tuple[int, int]]
    ) -> Block:
        rows = np.array([row for row, _ in found], dtype=np.int64)
        grade = self._grade(block)
        key = block.schema.index(self._key) if self._key else -1
        made: list[tuple[str, Type, str, str, list[Any]]] = [
            ("label", Type.STR, "", "class of the object", [d.label for _, d in found]),
            ("score", Type.F64, "", "confidence, 0 to 1", [d.score for _, d in found]),
        ]
        for place, name in enumerate(("x1", "y1", "x2", "y2")):
            made.append((name, Type.F64, "px", "edge of the box", [d.box[place] for _, d in found]))
        for place, name in enumerate(("width", "height")):
            made.append((name, Type.I64, "px", "of the image", [sizes[row][place] for row, _ in found]))
        codes = None if numbers.quality is None else numbers.quality[rows]
        fields = [Field("frame", Type.I64, grade=grade, description="number of the image")]
        columns = [Column(numbers.values[rows], None, codes)]
        if key >= 0:
            fields.insert(0, block.schema.fields[key])
            columns.insert(0, take(block.columns[key], rows))
        for name, kind, unit, text, cells in made:
            fields.append(Field(name, kind, unit, grade, text, model=self._detector.model))
            columns.append(Column.of(kind, cells))
        if self._reader is not None:
            told, model = "what stands in the box", self._reader.model
            fields.append(Field("text", Type.STR, "", grade, told, classes=self._read_classes, model=model))
            columns.append(Column.of(Type.STR, [d.text for _, d in found]))
            fields.append(Field("text_score", Type.F64, "", grade, "confidence, 0 to 1", model=model))
            columns.append(Column.of(Type.F64, [d.text_score for _, d in found]))
        schema = Schema(
            self._output or f"{block.stream}_detections",
            tuple(fields),
            key=self._key if key >= 0 else "",
            stamped_by=block.schema.stamped_by,
        )
        return Block(schema, block.time[rows], tuple(columns), block.lane)

    def flush(self) -> list[Block]:
        """Nothing is held."""
        return []

    def state(self) -> bytes:
        """Return the frame counter, when each camera was last looked at, and how a shadow run stands."""
        saved: dict[str, Any] = {
            "version": _STATE_VERSION,
            "frames": self._frames,
            "looked": list(self._looked.items()),
        }
        if self.trial is not None:
            saved["shadow"] = self.trial.dump()
        packed: bytes = msgpack.packb(saved)
        return packed

    def restore(self, state: bytes) -> None:
        """Take over a saved state. Raises ForebayError if it is damaged."""
        try:
            saved = msgpack.unpackb(state, strict_map_key=False)
            frames, looked = int(saved["frames"]), {key: int(time) for key, time in saved["looked"]}
            if saved["version"] != _STATE_VERSION:
                raise ValueError("version")
            if self._shadow is not None:
                self._shadow.trial.load(saved.get("shadow"))
                self._shadow.let_go()
        except (ValueError, KeyError, TypeError, AttributeError, msgpack.UnpackException) as error:
            raise ForebayError(
                f"the saved state is damaged: {type(error).__name__}", place=self.name
            ) from None
        self._frames, self._looked = frames, looked


def _missing(counts: list[int | None]) -> npt.NDArray[np.uint8]:
    return np.array([q.MISSING if c is None else q.GOOD for c in counts], dtype=np.uint8)
