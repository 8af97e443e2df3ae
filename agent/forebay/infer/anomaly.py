"""The step `infer` with `inputs`: one score a row for how unusual its fields are for their device."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any, ClassVar

import msgpack
import numpy as np
import numpy.typing as npt

from forebay import quality as q
from forebay.blocks import Block, Column, Field, Grade, Type
from forebay.errors import ForebayError, ModelError
from forebay.infer.bundle import Bundle
from forebay.infer.fit import one_a_row
from forebay.infer.manifest import SeriesPreprocessing, Task
from forebay.infer.notes import FAILED, GAVE, Results
from forebay.infer.session import Session
from forebay_core import series as kernel

_log = logging.getLogger(__name__)

_NUMERIC = (Type.F64, Type.I64, Type.BOOL)
_LAST, _COUNT, _SCORED = 1, 0, 8  # columns of `track`, see _series.pyx
_STATE_VERSION = 1
_MAX_ERROR = np.float32(3e38)


class AnomalyStep:
    """Adds the field `anomaly`, 0..1: above 0.9 a row is far outside what its series are used to.

    Each (device, field) is a series of its own. All windows of a block are one batch; a row's score is the
    largest of its fields'. Until a series has its calibration behind it, it gives no score; a row without
    any is null(missing), so that no alarm fires. Cells blanked by a deadband count as the value that holds.

    Parameters
    ----------
    name : of the step
    bundle, session : a model of task `anomaly`
    inputs : fields to watch; one that a block lacks is passed over
    key : field that tells devices apart, "" for none
    output : name of the new field
    calibration, memory, max_keys : see config.models.InferOptions

    Attributes
    ----------
    model : `name@version#hash`, as the score's field carries it
    counts : rows without a score by reason: `calibrating`, `max_keys`, `model_error`
    results : rows with a score, and rows on which the model failed, see infer.notes
    """

    TASK: ClassVar[Task] = Task.ANOMALY

    def __init__(
        self,
        name: str,
        bundle: Bundle,
        session: Session,
        *,
        inputs: tuple[str, ...],
        key: str = "",
        output: str = "anomaly",
        calibration: int = 256,
        memory: int = 2000,
        max_keys: int = 10_000,
    ) -> None:
        manifest = bundle.manifest
        if manifest.task is not self.TASK or not isinstance(manifest.preprocessing, SeriesPreprocessing):
            raise ModelError(
                f"expected a{'n' * (self.TASK is Task.ANOMALY)} {self.TASK} model, found task {manifest.task}",
                place=bundle.place,
                hint="a detection model looks at an image: give `field`, not `inputs`",
            )
        self.name = name
        self.counts: Counter[str] = Counter()
        self.results: Results = Counter()
        self.failures = 0  # blocks on which the model failed
        self._failed = False  # whether the model failed in the last block
        self._window = manifest.preprocessing.window
        self.model, self._session = bundle.model, session
        self._input, self._output_name = manifest.inputs[0].name, manifest.outputs[0].name
        self._inputs, self._key, self._output = inputs, key, output
        self._calibration, self._memory, self._max_keys = float(calibration), float(memory), max_keys
        self._rows: dict[Any, int] = {}  # device -> place of its first series, in devices
        self._warned: set[str] = set()
        self._ring: npt.NDArray[np.float32]
        self._stamp: npt.NDArray[np.int64]
        self._track: npt.NDArray[np.float64]
        self._allot(1)

    def _allot(self, devices: int) -> None:
        """Make room for the state of so many devices, keeping what is there."""
        count = devices * len(self._inputs)
        ring, stamp = np.zeros((count, self._window), np.float32), np.zeros(count, np.int64)
        track = np.zeros((count, kernel.TRACK_WIDTH), np.float64)
        if self._rows:
            used = len(self._rows) * len(self._inputs)
            ring[:used], stamp[:used], track[:used] = (
                self._ring[:used],
                self._stamp[:used],
                self._track[:used],
            )
        self._ring, self._stamp, self._track = ring, stamp, track

    def process(self, block: Block) -> list[Block]:
        """Return the block with the score's column."""
        if not block.rows:
            return [self._with_score(block, np.zeros(0), np.zeros(0, dtype=bool))]
        device = self._devices(block)
        known = np.flatnonzero(device >= 0)
        values = self._values(block, device)[known]
        count = len(self._inputs)
        series = (device[known, None] * count + np.arange(count)).astype(np.int32).reshape(-1)
        time = np.repeat(block.time[known], count)
        score = np.full((block.rows, count), -1.0)
        self._known = known
        score[known] = self._score(values.reshape(-1), time, series).reshape(-1, count)
        best = score.max(axis=1)
        return [self._with_score(block, best, best >= 0.0)]

    def _devices(self, block: Block) -> npt.NDArray[np.int64]:
        """Return the state's place of each row's device, -1 where there are too many."""
        index = block.schema.index(self._key) if self._key else -1
        if index < 0:
            self._rows.setdefault(None, 0)
            return np.full(block.rows, self._rows[None], dtype=np.int64)
        places = self._rows
        keys = block.columns[index].to_list(block.schema.fields[index].type)
        for key in dict.fromkeys(keys):
            if key not in places and len(places) < self._max_keys:
                if (len(places) + 1) * len(self._inputs) > len(self._stamp):
                    self._allot(2 * (len(places) + 1))
                places[key] = len(places)
        out = np.array([places.get(key, -1) for key in keys], dtype=np.int64)
        self.counts["max_keys"] += int(np.count_nonzero(out < 0))
        return out

    def _values(self, block: Block, device: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return (rows, inputs), NaN where there is no value."""
        out = np.full((block.rows, len(self._inputs)), np.nan)
        for k, name in enumerate(self._inputs):
            index = block.schema.index(name)
            if index < 0 or block.schema.fields[index].type not in _NUMERIC:
                kind = "missing" if index < 0 else block.schema.fields[index].type.value
                self._warn(f"{block.stream}: {self.model}: expected field {name} with numbers, found {kind}")
                continue
            column = block.columns[index]
            cells = column.values.astype(np.float64)
            if column.quality is not None:
                cells[column.quality >= q.NULL_FROM] = np.nan
                held = column.quality == q.UNCHANGED
                if held.any():
                    self._hold(cells, held, device, k)
            out[:, k] = cells
        return out

    def _hold(
        self,
        cells: npt.NDArray[np.float64],
        held: npt.NDArray[np.bool_],
        device: npt.NDArray[np.int64],
        field: int,
    ) -> None:
        """Fill cells that a deadband blanked with their device's last value, here or before the block."""
        order = np.argsort(device, kind="stable")
        sorted_device = device[order]
        first = np.searchsorted(sorted_device, sorted_device, side="left")
        given = np.where(np.isnan(cells[order]), -1, np.arange(len(order)))
        last = np.maximum.accumulate(given)
        source = np.full(len(order), -1, dtype=np.int64)
        inside = last >= first
        source[order[inside]] = order[last[inside]]
        for row in np.flatnonzero(held).tolist():
            if source[row] >= 0:
                cells[row] = cells[source[row]]
            elif device[row] >= 0:
                state = self._track[device[row] * len(self._inputs) + field]
                if state[_COUNT] > 0:
                    cells[row] = state[_LAST]

    def _score(
        self,
        values: npt.NDArray[np.float64],
        time: npt.NDArray[np.int64],
        series: npt.NDArray[np.int32],
    ) -> npt.NDArray[np.float64]:
        """Return a score for each cell, -1 for none, and learn from it."""
        n = len(values)
        windows, ready = np.empty((n, self._window + 2), np.float32), np.empty(n, np.uint8)
        kernel.windows(
            values, time, series, self._ring, self._stamp, self._track, self._memory, windows, ready
        )
        error = np.full(n, np.nan, dtype=np.float32)
        rows = np.flatnonzero(ready)
        self._failed = False
        if len(rows):
            try:
                (answer,) = self._session.run({self._input: windows[rows]}, (self._output_name,))
                found = one_a_row(answer, len(rows), self.model)
            except ModelError as failure:
                self._fail(rows, str(failure))
            else:
                own = self._errors(windows[rows], found, rows, n)
                error[rows] = np.clip(own, -_MAX_ERROR, _MAX_ERROR)
                if (wrong := np.isnan(own)).any():  # else it would seem to calibrate for ever
                    self._fail(rows[wrong], f"{self.model}: the model answered with NaN")
        score = np.empty(n)
        kernel.surprise(error, series, self._track, self._memory, self._calibration, score)
        return score

    def _fail(self, cells: npt.NDArray[np.int64], text: str) -> None:
        """Count and say that the model gave nothing of these cells."""
        self.counts["model_error"] += len(cells)
        self._failed = True
        self.failures += 1
        self.results[FAILED, self.model] += len(np.unique(cells // len(self._inputs)))
        self._warn(text)

    def _errors(
        self,
        windows: npt.NDArray[np.float32],
        found: npt.NDArray[np.float32],
        rows: npt.NDArray[np.int64],
        cells: int,
    ) -> npt.NDArray[np.float32]:
        """Return what is scored of each window: the model's answer. `rows`: their places among `cells`."""
        return found

    def _with_score(self, block: Block, score: npt.NDArray[np.float64], has: npt.NDArray[np.bool_]) -> Block:
        given = int(np.count_nonzero(has))
        self.results[GAVE, self.model] += given
        self.counts["calibrating"] += len(has) - given
        # No score yet is as it should be; no score because the model failed is not.
        none = q.MISSING if self._failed else q.WARMING_UP
        codes = None if bool(has.all()) else np.where(has, q.GOOD, none).astype(np.uint8)
        taken = {name.casefold() for name in block.schema.names()}
        name, suffix = self._output, 2
        while name.casefold() in taken:
            name, suffix = f"{self._output}_{suffix}", suffix + 1
        # Four decimals say all that a score can say, and pack far better.
        column = Column(np.where(has, np.round(score, 4), 0.0), None, codes)
        text = f"how unusual {', '.join(self._inputs)} are here, 0 to 1"
        field = Field(name, Type.F64, grade=self._grade(block), description=text, model=self.model)
        return block.with_columns({}, [(field, column)])

    def _grade(self, block: Block) -> Grade | None:
        """Return the highest grade among the inputs: what is derived from a field tells about it."""
        grades = {f.grade for f in block.schema.fields if f.name in self._inputs and f.grade is not None}
        return max(grades, key=list(Grade).index) if grades else None

    def _warn(self, text: str) -> None:
        """Say a thing once, not once a block."""
        if text not in self._warned and len(self._warned) < 100:
            self._warned.add(text)
            _log.warning("%s", text)

    def report(self) -> dict[str, Any]:
        """Return the model, what runs it, and how many rows or windows had no score, by reason."""
        providers = list(self._session.providers)
        return {"model": self.model, "providers": providers, "without_score": dict(self.counts)}

    def flush(self) -> list[Block]:
        """Nothing is held."""
        return []

    def state(self) -> bytes:
        """Return all that the series have learned, about 200 bytes a series."""
        used = len(self._rows) * len(self._inputs)
        packed: bytes = msgpack.packb(
            {
                "version": _STATE_VERSION,
                "model": self.model,
                "inputs": list(self._inputs),
                "key": self._key,
                "devices": list(self._rows),
                "ring": self._ring[:used].astype("<f4").tobytes(),
                "stamp": self._stamp[:used].astype("<i8").tobytes(),
                "track": self._track[:used].astype("<f8").tobytes(),
            }
        )
        return packed

    def restore(self, state: bytes) -> None:
        """Take over a saved state; after a change of the model the thresholds are learned anew.

        Raises
        ------
        ForebayError
            If it is damaged or of other inputs; this step is then as it was.
        """
        try:
            saved = msgpack.unpackb(state, strict_map_key=False)
            version, inputs, devices = saved["version"], tuple(saved["inputs"]), saved["devices"]
            count = len(devices) * len(inputs)
            ring = np.frombuffer(saved["ring"], "<f4").reshape(count, -1)
            stamp = np.frombuffer(saved["stamp"], "<i8").reshape(count)
            track = np.frombuffer(saved["track"], "<f8").reshape(count, kernel.TRACK_WIDTH)
            model, key = saved["model"], saved["key"]
        except (ValueError, KeyError, TypeError, msgpack.UnpackException) as error:
            raise ForebayError(
                f"the saved state is damaged: {type(error).__name__}", place=self.name
            ) from None
        if (version, inputs, key) != (_STATE_VERSION, self._inputs, self._key) or (
            count and ring.shape[1] != self._window
        ):
            raise ForebayError(
                "the saved state is of another configuration",
                place=self.name,
                hint="the model calibrates anew",
            )
        self._rows = {}
        self._allot(max(1, len(devices)))
        self._ring[:count], self._stamp[:count], self._track[:count] = ring, stamp, track
        self._rows = {device: place for place, device in enumerate(devices)}
        if model != self.model:
            self._track[:, _SCORED:] = 0.0  # another model's errors have another scale
