"""Mask a block after a policy: text, numbers, whole cells, images.

Invariants
----------
- What comes out holds nothing that the policy says must be masked; what could not be looked at is null.
- The input block and its arrays are left as they were.
- Every column that comes out carries the policy's hash in `masked`; the guard stops those that do not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from forebay import quality as q
from forebay.blocks import Block, Column, I64Array, Schema, Type, U8Array, null_out
from forebay.mask.images import Detector, ImageMasker
from forebay.mask.policy import Action, Plan, Policy
from forebay.mask.search import search
from forebay.mask.spans import WHOLE_CELL, Operators
from forebay_core import text_tables as tables
from forebay_core.text import decimal_text, scan

_MAX_PLANS = 1024  # schemas remembered; streams with ever new schemas do not grow the process
_MAX_EXACT_FLOAT = 2.0**53
# A bytes column that nobody declared as images and that holds one all the same must not pass for data.
_PICTURE_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")

Trace = Callable[[str, I64Array, list[tuple[str, str]]], None]
"""Called with a field's name, spans int64 (k, 3) in the original cells and (class, operator) of each hit."""


class Masker:
    """Applies one policy. Used by one thread.

    Parameters
    ----------
    policy : what to do
    detectors : by `face`, `plate`, `person`; a class that the policy masks and that has no detector makes
        every image null
    trace : told where hits were found (never what they say)

    Raises
    ------
    ConfigError
        The policy makes tokens and its secret cannot be read, or a field asks for the tagger of the extra
        `ner` and it is not installed.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        detectors: Mapping[str, Detector] | None = None,
        trace: Trace | None = None,
    ) -> None:
        self.policy = policy
        self._operators = Operators(policy)
        self._images = ImageMasker(policy, detectors or {})
        self._plans: dict[Schema, tuple[Plan, ...]] = {}
        self._trace = trace
        self._tagger = None
        if policy.uses_tagger:
            from forebay.mask import ner  # the model takes a second and 100 MB: only where a field asks

            self._tagger = ner.load()

    def apply(self, block: Block, *, early: bool = False) -> Block:
        """Return the masked block, its hits counted as `class:operator`. Never raises for data.

        `early` leaves bytes columns (pictures) as they are, for the steps that look at them: it is for the
        entry of a pipeline, so that what steps remember, and the spool stores with them, is masked already.
        A column that this policy has masked is not masked again.
        """
        hits: Counter[str] = Counter(block.hits)
        columns = []
        for name, type_, plan, column in zip(
            block.schema.names(),
            (f.type for f in block.schema.fields),
            self._plan(block.schema),
            block.columns,
            strict=True,
        ):
            if column.masked == self.policy.hash or (early and type_ is Type.BYTES):
                columns.append(column)
                continue
            found: Counter[str] = Counter()
            try:
                new = self._column(name, type_, plan, column, found)
            except Exception:  # noqa: BLE001 - whatever broke, the column was not looked at: it must not pass
                present = ~column.is_null()
                new = null_out(column, present, q.DETECTOR_FAILED)
                found = Counter({"detector:failed": int(present.sum())})
            hits.update(found)
            columns.append(replace(new, masked=self.policy.hash))
        return replace(block, columns=tuple(columns), hits=hits)

    def _plan(self, schema: Schema) -> tuple[Plan, ...]:
        plans = self._plans.get(schema)
        if plans is None:
            plans = tuple(self.policy.plan(f, schema.stream) for f in schema.fields)
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            self._plans[schema] = plans
        return plans

    def _column(self, name: str, type_: Type, plan: Plan, column: Column, hits: Counter[str]) -> Column:
        if plan.action is Action.PASS:
            return column
        if plan.action is Action.NULL:
            return self._null(plan, column, hits)
        if plan.action is Action.IMAGE:
            return self._images.apply(column, hits)
        if plan.action is Action.DIGITS:
            return self._digits(name, plan, column, hits)
        if plan.action is Action.CELL:
            return self._cells(name, plan, column, hits)
        if type_ is Type.BYTES:
            return self._bytes(name, plan, column, hits)
        return self._text(name, plan, column, hits)

    def _null(self, plan: Plan, column: Column, hits: Counter[str]) -> Column:
        present = ~column.is_null()
        count = int(present.sum())
        if count:
            label = f"{plan.label}:suppress" if plan.code == q.SUPPRESSED else "guard:no_rule"
            hits[label] += count
        return null_out(replace(column, spans=None), present, plan.code)

    def _text(self, name: str, plan: Plan, column: Column, hits: Counter[str]) -> Column:
        spans, codes, _ = search(
            column, self._operators.classes, plan.context, self._tagger if plan.ner else None
        )
        self._tell(name, spans, codes)
        # spans of an earlier masking no longer fit once this one has moved bytes, so they are not kept
        if not len(codes):
            return replace(column, spans=None)
        return self._operators.apply(column, spans, codes, hits)

    def _cells(self, name: str, plan: Plan, column: Column, hits: Counter[str]) -> Column:
        assert column.offsets is not None
        assert plan.rule is not None
        lengths = np.diff(column.offsets)
        rows = np.flatnonzero(lengths)
        spans = np.zeros((len(rows), 3), dtype=np.int64)
        spans[:, 0], spans[:, 2] = rows, lengths[rows]
        codes = np.full(len(rows), WHOLE_CELL, dtype=np.uint8)
        self._operators.whole(plan.rule, plan.label)
        self._tell(name, spans, codes)
        return self._operators.apply(column, spans, codes, hits)

    def _bytes(self, name: str, plan: Plan, column: Column, hits: Counter[str]) -> Column:
        # Opaque bytes: a hit cannot be cut out without breaking a format that nobody knows here.
        assert column.offsets is not None
        spans, codes, _ = scan(column.values, column.offsets, self._operators.classes, plan.context)
        self._tell(name, spans, codes, "suppress")
        pictures = np.array([column.cell_bytes(r).startswith(_PICTURE_STARTS) for r in range(column.rows)])
        if pictures.any():
            hits["image:undeclared"] += int(pictures.sum())
            column = null_out(column, pictures, q.GUARDED)
        return self._null_hits(replace(column, spans=None), spans[:, 0], codes, hits)

    def _digits(self, name: str, plan: Plan, column: Column, hits: Counter[str]) -> Column:
        wide, numbers = long_integers(column, self.policy.options.undeclared.integer_digits)
        if not len(wide):
            return column
        data, offsets = decimal_text(numbers)
        spans, codes, _ = scan(data, offsets, self._operators.classes, plan.context)
        spans[:, 0] = wide[spans[:, 0]]
        self._tell(name, spans, codes, "suppress")
        return self._null_hits(column, spans[:, 0], codes, hits)

    def _null_hits(self, column: Column, rows: I64Array, codes: U8Array, hits: Counter[str]) -> Column:
        if not len(rows):
            return column
        gone = np.zeros(column.rows, dtype=np.bool_)
        gone[rows] = True
        for code, count in zip(*np.unique(codes, return_counts=True), strict=True):
            hits[f"{tables.CLASSES[code]}:suppress"] += int(count)
        return null_out(column, gone, q.SUPPRESSED)

    def _tell(self, name: str, spans: I64Array, codes: U8Array, done: str = "") -> None:
        if self._trace is not None and len(codes):
            names, operator = self._operators.names, self._operators.operator
            known = [(names[c], done or operator(c)) for c in codes.tolist()]
            self._trace(name, spans, known)


def long_integers(column: Column, digits: int) -> tuple[I64Array, I64Array]:
    """Return rows and values of whole numbers with at least `digits` digits (0: none)."""
    least = 10 ** (digits - 1) if digits else 0
    values = column.values
    if not digits or not len(values):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    if values.max() < least and values.min() > -least:  # most columns; false where there is a NaN
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    if values.dtype == np.float64:
        magnitude = np.abs(values)  # NaN and inf compare false below
        rows = np.flatnonzero((magnitude >= least) & (magnitude <= _MAX_EXACT_FLOAT))
        rows = rows[values[rows] == np.floor(values[rows])]
        return rows.astype(np.int64), values[rows].astype(np.int64)
    # not abs(): that of the least int64 is negative
    rows = np.flatnonzero((values >= least) | (values <= -least))
    return rows.astype(np.int64), np.ascontiguousarray(values[rows])
