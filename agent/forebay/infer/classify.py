"""The step `infer` with a classification model: a label for each full window of one field's readings."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt

from forebay import quality as q
from forebay.blocks import Block, Column, Field, Type
from forebay.errors import ForebayError, ModelError
from forebay.infer.bundle import Bundle
from forebay.infer.fit import one_a_label
from forebay.infer.manifest import Task, WaveformPreprocessing
from forebay.infer.notes import FAILED, GAVE, Results
from forebay.infer.session import Session

_log = logging.getLogger(__name__)

_NUMERIC = (Type.F64, Type.I64, Type.BOOL)
_STATE_VERSION = 1
_MOST = 64  # windows in one run
UNSURE = "unsure"


class _Open:
    """The window of one device that is not full yet."""

    __slots__ = ("first_ns", "said", "values")

    def __init__(self, first_ns: int = 0, values: list[float] | None = None, said: bool = False) -> None:
        self.first_ns, self.values, self.said = first_ns, values or [], said


class ClassifyStep:
    """Adds two fields: the label, and the probability that the model gives it.

    Both stand at the last reading of each full window; in between they are null(unchanged), before the first null
    (warming_up). A reading without a value, time that goes back, or another rate than the model's ends the window
    without a label. Below the manifest's threshold the label is `unsure`.

    Parameters
    ----------
    name : of the step
    bundle, session : a model of task `classification`
    field : its readings make the window
    key : field that tells devices apart, "" for none
    output : name of the label's field; the probability is `{output}_score`
    max_keys : devices with a window of their own

    Attributes
    ----------
    model : `name@version#hash`
    counts : windows or readings without a label by reason: `gap`, `rate`, `max_keys`, `model_error`
    failures : blocks on which the model failed
    results : windows with a label, and those on which the model failed, see infer.notes
    """

    def __init__(
        self,
        name: str,
        bundle: Bundle,
        session: Session,
        *,
        field: str,
        key: str = "",
        output: str = "label",
        max_keys: int = 10_000,
    ) -> None:
        manifest = bundle.manifest
        if manifest.task is not Task.CLASSIFICATION or not isinstance(
            manifest.preprocessing, WaveformPreprocessing
        ):
            raise ModelError(
                f"expected a classification model, found task {manifest.task}", place=bundle.place
            )
        self.name, self.model, self._session = name, bundle.model, session
        self._about = manifest.preprocessing
        self._labels, self._threshold = manifest.labels, manifest.thresholds.score
        self._names = (manifest.inputs[0].name, manifest.outputs[0].name)
        self._field, self._key, self._output, self._max_keys = field, key, output, max_keys
        self._open: dict[Any, _Open] = {}
        self._warned: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.failures = 0
        self.results: Results = Counter()

    def process(self, block: Block) -> list[Block]:
        """Return the block with label and probability."""
        labels: list[str | None] = [None] * block.rows
        scores = np.zeros(block.rows)
        codes = np.full(block.rows, q.WARMING_UP, np.uint8)
        full: list[tuple[int, npt.NDArray[np.float32]]] = []
        values, keys = self._values(block), self._devices(block)
        for device in dict.fromkeys(keys):
            rows = [i for i, k in enumerate(keys) if k == device] if self._key else list(range(block.rows))
            self._fill(device, rows, values, block.time, codes, full)
        for start in range(0, len(full), _MOST):
            self._label(full[start : start + _MOST], labels, scores, codes)
        return [self._with_labels(block, labels, scores, codes)]

    def _devices(self, block: Block) -> list[Any]:
        index = block.schema.index(self._key) if self._key else -1
        if index < 0:
            return [None] * block.rows
        return block.columns[index].to_list(block.schema.fields[index].type)

    def _values(self, block: Block) -> npt.NDArray[np.float64]:
        """Return the readings, NaN where there is none."""
        index = block.schema.index(self._field)
        if index < 0 or block.schema.fields[index].type not in _NUMERIC:
            self._warn(f"{block.stream}: {self.model}: expected a field {self._field} with numbers")
            return np.full(block.rows, np.nan)
        cells: npt.NDArray[np.float64] = block.columns[index].values.astype(np.float64)
        cells[block.columns[index].is_null()] = np.nan
        return cells

    def _fill(
        self,
        device: Any,
        rows: list[int],
        values: npt.NDArray[np.float64],
        time: npt.NDArray[np.int64],
        codes: npt.NDArray[np.uint8],
        full: list[tuple[int, npt.NDArray[np.float32]]],
    ) -> None:
        """Take a device's readings into its window; note each window that becomes full, with its last row."""
        if device not in self._open and len(self._open) >= self._max_keys:
            self.counts["max_keys"] += len(rows)
            return
        window = self._open.setdefault(device, _Open())
        for row in rows:
            value = float(values[row])
            if not abs(value) < 3e38:  # false for NaN too
                self.counts["gap"] += bool(window.values)
                window.values = []
            else:
                if not window.values:
                    window.first_ns = int(time[row])
                window.values.append(value)
                if len(window.values) == self._about.window:
                    if self._has_rate(int(time[row]) - window.first_ns):
                        full.append((row, np.array(window.values, np.float32)))
                        window.said = True
                    window.values = []
            codes[row] = q.UNCHANGED if window.said else q.WARMING_UP

    def _has_rate(self, span_ns: int) -> bool:
        expected = (self._about.window - 1) / self._about.rate_hz * 1e9
        if abs(span_ns - expected) <= self._about.tolerance * expected:
            return True
        self.counts["rate"] += 1
        self._warn(f"{self.model}: a window's readings do not come at {self._about.rate_hz:g} Hz: no label")
        return False

    def _label(
        self,
        full: list[tuple[int, npt.NDArray[np.float32]]],
        labels: list[str | None],
        scores: npt.NDArray[np.float64],
        codes: npt.NDArray[np.uint8],
    ) -> None:
        given, wanted = self._names
        try:
            (answer,) = self._session.run({given: np.stack([w for _, w in full])}, (wanted,))
            found = one_a_label(answer, len(full), len(self._labels), self.model)
        except ModelError as failure:
            self.counts["model_error"] += len(full)
            self.failures += 1
            self.results[FAILED, self.model] += len(full)
            self._warn(str(failure))
            for row, _ in full:
                codes[row] = q.MISSING
            return
        wrong = 0
        for (row, _), chances in zip(full, found, strict=True):
            best = int(np.argmax(chances))
            score = float(chances[best])
            if not 0.0 <= score <= 1.0:  # NaN too: a graph without softmax, or broken numbers
                codes[row] = q.NAN
                wrong += 1
                continue
            self.results[GAVE, self.model] += 1
            labels[row] = self._labels[best] if score >= self._threshold else UNSURE
            scores[row], codes[row] = round(score, 4), q.GOOD
        if wrong:
            self.counts["model_error"] += wrong
            self.failures += 1
            self.results[FAILED, self.model] += wrong
            self._warn(f"{self.model}: the model answered with no probability")

    def _with_labels(
        self,
        block: Block,
        labels: list[str | None],
        scores: npt.NDArray[np.float64],
        codes: npt.NDArray[np.uint8],
    ) -> Block:
        taken = {name.casefold() for name in block.schema.names()}
        name, suffix = self._output, 2
        while name.casefold() in taken or f"{name}_score".casefold() in taken:
            name, suffix = f"{self._output}_{suffix}", suffix + 1
        grade = next((f.grade for f in block.schema.fields if f.name == self._field), None)
        text = f"what {self._field} is classified as"
        extra = (
            (
                Field(name, Type.STR, grade=grade, description=text, model=self.model),
                Column.of(Type.STR, labels, codes),
            ),
            (
                Field(
                    f"{name}_score",
                    Type.F64,
                    grade=grade,
                    description=f"probability of {name}",
                    model=self.model,
                ),
                Column(scores, None, codes.copy()),
            ),
        )
        return block.with_columns({}, extra)

    def _warn(self, text: str) -> None:
        if text not in self._warned and len(self._warned) < 100:
            self._warned.add(text)
            _log.warning("%s", text)

    def report(self) -> dict[str, Any]:
        """Return the model, what runs it, and what had no label, by reason."""
        providers = list(self._session.providers)
        return {"model": self.model, "providers": providers, "without_label": dict(self.counts)}

    def flush(self) -> list[Block]:
        """Nothing is held: readings went on when they came."""
        return []

    def state(self) -> bytes:
        """Return the windows that are not full yet, four bytes a reading."""
        windows = [
            (device, w.first_ns, np.array(w.values, "<f4").tobytes(), w.said)
            for device, w in self._open.items()
        ]
        facts = {"version": _STATE_VERSION, "model": self.model, "field": self._field, "key": self._key}
        packed: bytes = msgpack.packb({**facts, "windows": windows})
        return packed

    def restore(self, state: bytes) -> None:
        """Take over a saved state. Raises ForebayError if it is damaged or of another configuration."""
        try:
            saved = msgpack.unpackb(state, strict_map_key=False)
            facts = (saved["version"], saved["field"], saved["key"])
            windows = {
                device: _Open(int(first), np.frombuffer(values, "<f4").tolist(), bool(said))
                for device, first, values, said in saved["windows"]
            }
        except (ValueError, KeyError, TypeError, msgpack.UnpackException) as error:
            raise ForebayError(
                f"the saved state is damaged: {type(error).__name__}", place=self.name
            ) from None
        longest = max((len(w.values) for w in windows.values()), default=0)
        if facts != (_STATE_VERSION, self._field, self._key) or longest >= self._about.window:
            raise ForebayError("the saved state is of another configuration", place=self.name)
        self._open = windows
