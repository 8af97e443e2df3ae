"""The step `infer` with a forecast model: how far each reading is from what was expected, and how unusual that is."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from forebay import quality as q
from forebay.blocks import Block, Column, Field, Type
from forebay.infer.anomaly import AnomalyStep
from forebay.infer.manifest import Task


class ForecastStep(AnomalyStep):
    """Adds for each input X the field `X_residual`, and one score 0..1 for all of them.

    The residual is the newest step minus the expected one, in mean steps of the series, so that it means the same
    for every series. The score is that of AnomalyStep, of the residual's size: it has the same calibration and
    memory, a threshold of its own for each device and field.
    """

    TASK: ClassVar[Task] = Task.FORECAST

    def _errors(
        self,
        windows: npt.NDArray[np.float32],
        found: npt.NDArray[np.float32],
        rows: npt.NDArray[np.int64],
        cells: int,
    ) -> npt.NDArray[np.float32]:
        residual: npt.NDArray[np.float32] = windows[:, self._window - 1] - found
        self._residual = np.full(cells, np.nan)
        self._residual[rows] = residual
        size: npt.NDArray[np.float32] = np.abs(residual)
        return size

    def _score(
        self,
        values: npt.NDArray[np.float64],
        time: npt.NDArray[np.int64],
        series: npt.NDArray[np.int32],
    ) -> npt.NDArray[np.float64]:
        self._residual = np.full(len(values), np.nan)  # stays so when nothing is ready or the model failed
        return super()._score(values, time, series)

    def _with_score(self, block: Block, score: npt.NDArray[np.float64], has: npt.NDArray[np.bool_]) -> Block:
        count = len(self._inputs)
        cells = np.full((block.rows, count), np.nan)
        if block.rows:
            cells[self._known] = self._residual.reshape(-1, count)
        none = q.MISSING if self._failed else q.WARMING_UP
        extra = []
        for k, name in enumerate(self._inputs):
            given = np.isfinite(cells[:, k])
            codes = None if bool(given.all()) else np.where(given, q.GOOD, none).astype(np.uint8)
            column = Column(np.where(given, np.round(cells[:, k], 4), 0.0), None, codes)
            grade = next((f.grade for f in block.schema.fields if f.name == name), None)
            text = f"newest step of {name} minus the expected one, in its mean steps"
            taken = {n.casefold() for n in block.schema.names()}
            own = f"{name}_residual"
            while own.casefold() in taken:
                own += "_2"
            extra.append((Field(own, Type.F64, grade=grade, description=text, model=self.model), column))
        return super()._with_score(block.with_columns({}, extra), score, has)
