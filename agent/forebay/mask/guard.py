"""The last line before sealing: what no rule covers or what still holds an identifier becomes null.

The guard trusts nothing that masking says about text: it searches again, with a scan of its own over
everything that is about to be stored, and leaves out only the spans that masking itself wrote.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from forebay import quality as q
from forebay.blocks import Block, Column, Field, I64Array, Schema, Type, null_out
from forebay.mask.encoded import hold_pictures
from forebay.mask.escapes import hidden
from forebay.mask.masker import long_integers
from forebay.mask.names import named_hits
from forebay.mask.policy import Action, Plan, Policy
from forebay.mask.search import Clean, count_codes, search
from forebay.redact import SURE_CLASSES
from forebay.stages import Tally
from forebay_core import text_tables as tables
from forebay_core.text import decimal_text, scan

log = logging.getLogger("forebay.mask")

LEAK_CLASSES = SURE_CLASSES
"""What the second line searches for."""

_MIN_CONFIDENCE = 80  # leaves out the 15-digit resident number, which any order number may look like
_MAX_PLANS = 1024
_ROW = 2**32  # a cell is shorter than 4 GiB, so row * _ROW + byte orders places of a column


class Guard:
    """Stands at the spool's door. Used by one thread."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._plans: dict[Schema, tuple[tuple[Plan, ...], dict[int, str]]] = {}
        self._stream: str | None = None  # of the last block, to which the next two belong
        self._classes = self._digits = 0
        self._clean = Clean()
        self.tally: Tally = Counter()
        self._alarmed: set[tuple[str, str, str]] = set()

    def take_tally(self) -> Tally:
        """Return what was stopped since the last call."""
        tally, self.tally = self.tally, Counter()
        return tally

    def check(self, block: Block) -> Block:
        """Return the block with every cell null that must not be stored. Never raises for data.

        `hits` counts `guard:no_rule`, `guard:unmasked`, `guard:failed`, `guard:name` and `leak:class`.
        A column whose name is an identifier is left out whole.
        """
        hits: Counter[str] = Counter(block.hits)
        columns = []
        if block.stream != self._stream:
            self._stream, view = block.stream, self.policy.for_stream(block.stream)
            self._classes = sum(1 << tables.CODES[c] for c in LEAK_CLASSES if c in view.scanned_classes)
            self._digits = view.options.undeclared.integer_digits
        plans, bad_names = self._plan(block.schema)
        found: Counter[str] = Counter()
        for place, (field, plan, column) in enumerate(
            zip(block.schema.fields, plans, block.columns, strict=True)
        ):
            if place in bad_names:
                new = self._close(column, q.LEAK, "guard:name", found)
            else:
                new = self._checked(field, plan, column, found)
            columns.append(new)
            if found:
                hits.update(found)
                name = "(name)" if place in bad_names else field.name
                self.tally.update({(block.stream, name, rule): n for rule, n in found.items()})
                self._alarm(block.stream, name, found)
                found = Counter()
        checked = Block(block.schema, block.time, tuple(columns), block.lane, hits)
        return _without(checked, bad_names)

    def _alarm(self, stream: str, name: str, found: Counter[str]) -> None:
        """Say once for each field and class that masking let something through; hits count every time."""
        for rule in found:
            if rule.startswith("leak:") and (stream, name, rule) not in self._alarmed:
                if len(self._alarmed) < _MAX_PLANS:
                    self._alarmed.add((stream, name, rule))
                log.error(
                    "an identifier got past masking and was stopped stream=%s field=%s class=%s: declare the"
                    " field's class, or `unguarded` if it must leave readable",
                    *(stream, name, rule.removeprefix("leak:")),
                )

    def _checked(self, field: Field, plan: Plan, column: Column, found: Counter[str]) -> Column:
        try:
            return self._column(field, plan, column, found)
        except Exception:  # noqa: BLE001 - fails closed: what could not be checked is not stored
            present = ~column.is_null()
            found.clear()
            found["guard:failed"] = int(present.sum())
            return null_out(replace(column, spans=None), present, q.DETECTOR_FAILED)

    def _plan(self, schema: Schema) -> tuple[tuple[Plan, ...], dict[int, str]]:
        known = self._plans.get(schema)
        if known is None:
            plans = tuple(self.policy.plan(f, schema.stream) for f in schema.fields)
            known = plans, named_hits(schema, self._classes, _MIN_CONFIDENCE)
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            self._plans[schema] = known
        return known

    def _column(self, field: Field, plan: Plan, column: Column, hits: Counter[str]) -> Column:
        if plan.action is Action.NULL:
            return self._close(column, plan.code, "guard:no_rule", hits)
        if column.masked != self.policy.hash:
            # a step behind masking, or a wiring that left it out; a column of nulls has nothing to hide
            return self._close(column, q.GUARDED, "guard:unmasked", hits)
        if plan.unguarded or plan.action is Action.IMAGE:
            return column
        if field.type in (Type.STR, Type.BYTES):
            return self._search(field, column, plan, hits) if field.media != "image" else column
        # a unit says that a long number is a measurement: a meter's reading, a flow
        if field.type in (Type.I64, Type.F64) and not field.unit:
            return self._search_digits(column, plan, hits)
        return column

    def _close(self, column: Column, code: int, label: str, hits: Counter[str]) -> Column:
        present = ~column.is_null()
        if not present.any():
            return column
        hits[label] += int(present.sum())
        return null_out(replace(column, spans=None), present, code)

    def _search(self, field: Field, column: Column, plan: Plan, hits: Counter[str]) -> Column:
        known_by = field.name, column, self._classes, plan.context
        if self._clean.knows(*known_by):
            return column
        pictures = None
        if self.policy.covers_pictures:
            pictures = hold_pictures(column, raw=field.type is Type.BYTES)
        if pictures is not None:
            hits["leak:image"] += int(pictures.sum())
            column = null_out(column, pictures, q.LEAK)
        spans, codes, confidence = search(column, self._classes, plan.context)
        # What masking has made stands in cells whose escapes it wrote out: none of it is behind escapes.
        behind = hidden(column, lambda cells: search(cells, self._classes, plan.context))
        if not len(codes) and behind is None:
            if pictures is None:
                self._clean.remember(*known_by)
            return column
        sure = confidence >= _MIN_CONFIDENCE
        if column.spans is not None and len(codes):
            sure &= ~_within(spans, column.spans)
        rows, codes = spans[sure, 0], codes[sure]
        if behind is not None:
            sure = behind.found[2] >= _MIN_CONFIDENCE
            rows = np.concatenate([rows, behind.rows[behind.found[0][sure, 0]]])
            codes = np.concatenate([codes, behind.found[1][sure]])
        return _null_leaks(column, rows, codes, hits)

    def _search_digits(self, column: Column, plan: Plan, hits: Counter[str]) -> Column:
        wide, numbers = long_integers(column, self._digits)
        if not len(wide):
            return column
        data, offsets = decimal_text(numbers)
        spans, codes, confidence = scan(data, offsets, self._classes, plan.context)
        sure = confidence >= _MIN_CONFIDENCE
        return _null_leaks(column, wide[spans[sure, 0]], codes[sure], hits)


def _without(block: Block, places: dict[int, str]) -> Block:
    if not places:
        return block
    kept = [p for p in range(len(block.columns)) if p not in places]
    key = block.schema.key if block.schema.index(block.schema.key) not in places else ""
    fields = tuple(block.schema.fields[p] for p in kept)
    schema = replace(block.schema, fields=fields, key=key)
    return replace(block, schema=schema, columns=tuple(block.columns[p] for p in kept))


def _null_leaks(column: Column, rows: I64Array, codes: npt.NDArray[np.uint8], hits: Counter[str]) -> Column:
    if not len(rows):
        return column
    for code, count in count_codes(codes):
        hits[f"leak:{tables.CLASSES[code]}"] += count
    gone = np.zeros(column.rows, dtype=np.bool_)
    gone[rows] = True
    return null_out(column, gone, q.LEAK)


def _within(spans: I64Array, made: I64Array) -> npt.NDArray[np.bool_]:
    # Is each span wholly inside one that masking wrote? One that reaches beyond holds text of the source.
    starts = made[:, 0] * _ROW + made[:, 1]
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], (made[:, 0] * _ROW + made[:, 2])[order]
    place = np.searchsorted(starts, spans[:, 0] * _ROW + spans[:, 1], side="right") - 1
    covered = ends[np.maximum(place, 0)] >= spans[:, 0] * _ROW + spans[:, 2]
    return np.asarray((place >= 0) & covered, dtype=np.bool_)
