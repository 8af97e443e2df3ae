"""Mask a block after a policy: text, numbers, whole cells, images.

Invariants
----------
- What comes out holds nothing that the policy says must be masked; what could not be looked at is null.
- The input block and its arrays are left as they were.
- Every column that comes out carries the policy's hash in `masked`; the guard stops those that do not.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from forebay import quality as q
from forebay.blocks import Block, Column, I64Array, Schema, Type, U8Array, null_out
from forebay.config.operators import Generalise, Noise
from forebay.errors import MaskError
from forebay.mask.encoded import hold_pictures
from forebay.mask.escapes import hidden, without_nuls, written_out
from forebay.mask.images import Detector, ImageMasker, Origin
from forebay.mask.loader import Place
from forebay.mask.names import safe_names
from forebay.mask.policy import Action, Plan, Policy
from forebay.mask.search import Clean, count_codes, search
from forebay.mask.spans import WHOLE_CELL, Operators
from forebay.stages import Tally
from forebay_core import text_tables as tables
from forebay_core.text import decimal_text, long_floats, long_ints, scan

_MAX_PLANS = 1024  # schemas remembered; streams with ever new schemas do not grow the process
_PICTURE = Plan(Action.NULL, "a picture that no field declares", label="image", at=("images",))

if TYPE_CHECKING:
    from forebay.mask.noise import Budgets

log = logging.getLogger("forebay.mask")

Trace = Callable[[str, I64Array, list[tuple[str, str, str]]], None]
"""Called with a field's name, spans int64 (k, 3) in the original cells (escapes there written out, where they hid
something; 0 to 0: the value as a whole) and (class, operator, rule) of each hit.
The rule is the key of the policy and where it stands."""


class Masker:
    """Applies one policy. Used by one thread.

    Parameters
    ----------
    policy : what to do
    detectors : by `face`, `plate`, `person`; a class that the policy masks and that has no detector makes
        every image null
    trace : told where hits were found (never what they say)
    drop_rows : leave rows out that the policy drops; else only say in `dropped` which they are
    trial : use a secret that everybody knows: to try a policy, never for data

    Attributes
    ----------
    tally : hits since `take_tally`, for the audit log
    dropped : of the last block, a boolean (n,) array of the rows that the policy drops; None: none

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
        drop_rows: bool = True,
        trial: bool = False,
    ) -> None:
        self.policy = policy
        self._trial, self._drop_rows = trial, drop_rows
        self._views: dict[str, Operators] = {}
        self._operators = self._operators_of(policy)
        self._images = ImageMasker(policy, detectors or {})
        self._plans: dict[Schema, tuple[Schema, tuple[Plan, ...]]] = {}
        self._trace = trace
        self._clean = Clean()
        self._tagger = None
        if policy.tagged_field:
            from forebay.mask import ner  # the model takes a second and 100 MB: only where a field asks

            self._tagger = ner.load()
        self._budgets: Budgets | None = None  # None: unknown, so nothing is left
        if policy.adds_noise:
            from forebay.mask.noise import Budgets

            self._budgets = Budgets()
        self.tally: Tally = Counter()
        self.dropped: npt.NDArray[np.bool_] | None = None
        self._drops: frozenset[str] = frozenset()
        self._time: I64Array = np.zeros(0, dtype=np.int64)
        self._least_digits = 0
        self._stream: str | None = None  # of the last block

    def take_tally(self) -> Tally:
        """Return the hits since the last call."""
        tally, self.tally = self.tally, Counter()
        return tally

    def state(self) -> bytes | None:
        """Return what must be stored with the rows: the noise budgets spent. None: nothing."""
        return self._budgets.state() if self._budgets is not None else None

    def restore(self, state: bytes) -> None:
        """Take over a saved state. One that cannot be read closes the budgets: no noisy number passes."""
        if self._budgets is None:  # a policy that no longer adds noise
            return
        try:
            self._budgets.restore(state)
        except MaskError as error:
            self._budgets = None
            log.error("fields with noise are kept back: %s", error)

    def apply(self, block: Block, *, early: bool = False) -> Block:
        """Return the masked block, its hits counted as `class:operator`. Never raises for data.

        `early` leaves bytes columns (pictures) as they are, for the steps that look at them: it is for the
        entry of a pipeline, so that what steps remember, and the spool stores with them, is masked already.
        A column that this policy has masked is not masked again.
        """
        self.dropped = None
        if all(column.masked == self.policy.hash for column in block.columns):
            return block  # from the entry, and no step has made anything since
        hits: Counter[str] = Counter(block.hits)
        columns = []
        schema, plans = self._plan(block.schema, hits)
        self._time = block.time
        if block.stream != self._stream:
            self._stream, view = block.stream, self.policy.for_stream(block.stream)
            self._operators, self._drops = self._operators_of(view), view.drops
            self._least_digits = view.options.undeclared.integer_digits
        found: Counter[str] = Counter()
        for field, plan, column in zip(schema.fields, plans, block.columns, strict=True):
            if column.masked == self.policy.hash or (early and field.type is Type.BYTES):
                columns.append(column)
                continue
            try:
                if plan.action is Action.IMAGE:
                    new = self._images.apply(column, found, _origin(block))
                else:
                    new = self._column(field.name, field.type, plan, column, found)
            except Exception:  # noqa: BLE001 - whatever broke, the column was not looked at: it must not pass
                present = ~column.is_null()
                new = null_out(column, present, q.DETECTOR_FAILED)
                found = Counter({"detector:failed": int(present.sum())})
            if found:
                hits.update(found)
                self.tally.update({(block.stream, field.name, rule): n for rule, n in found.items() if n})
                found = Counter()
            columns.append(new.marked(self.policy.hash))
        out = Block(schema, block.time, tuple(columns), block.lane, hits)
        return self._without_dropped(out) if self.dropped is not None and self._drop_rows else out

    def _without_dropped(self, block: Block) -> Block:
        assert self.dropped is not None
        count = int(self.dropped.sum())
        block.hits["record:drop"] += count
        self.tally[block.stream, "", "record:drop"] += count
        return block.take(~self.dropped)

    def _operators_of(self, view: Policy) -> Operators:
        if view.stream_pattern not in self._views:
            self._views[view.stream_pattern] = Operators(view, trial=self._trial)
        return self._views[view.stream_pattern]

    def _plan(self, schema: Schema, hits: Counter[str]) -> tuple[Schema, tuple[Plan, ...]]:
        known = self._plans.get(schema)
        if known is None:
            safe, found = safe_names(schema, self._operators_of(self.policy).classes)
            hits.update(found)
            self.tally.update({(schema.stream, "(name)", rule): n for rule, n in found.items()})
            known = safe, tuple(self.policy.plan(f, schema.stream) for f in safe.fields)
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            self._plans[schema] = known
        return known

    def _column(self, name: str, type_: Type, plan: Plan, column: Column, hits: Counter[str]) -> Column:
        if plan.action is Action.PASS:
            return column
        if plan.action is Action.NULL:
            return self._null(name, plan, column, hits)
        if plan.action is Action.NUMBER:
            return self._number(name, plan, column, hits)
        if plan.action is Action.DIGITS:
            return self._digits(name, plan, column, hits)
        if plan.action is Action.CELL:
            return self._cells(name, plan, column, hits)
        if type_ is Type.BYTES:
            return self._bytes(name, plan, column, hits)
        return self._text(name, plan, column, hits)

    def _null(self, name: str, plan: Plan, column: Column, hits: Counter[str]) -> Column:
        present = ~column.is_null()
        count = int(present.sum())
        if count:
            label = f"{plan.label}:suppress" if plan.code == q.SUPPRESSED else "guard:no_rule"
            hits[label] += count
            self._tell_whole(name, plan, present, label.rpartition(":")[2])
        return null_out(replace(column, spans=None), present, plan.code)

    def _text(self, name: str, plan: Plan, column: Column, hits: Counter[str]) -> Column:
        classes, tagger = self._operators.classes, self._tagger if plan.ner else None
        known_by, given = (name, column, classes, plan.context), column
        if tagger is None and self._clean.knows(*known_by):
            return column if column.spans is None else replace(column, spans=None)
        column = self._without_pictures(name, without_nuls(column), hits)
        column = written_out(column, lambda cells: search(cells, classes, plan.context, tagger))
        spans, codes, _ = search(column, classes, plan.context, tagger)
        # spans of an earlier masking no longer fit once this one has moved bytes, so they are not kept
        if not len(codes):
            if tagger is None and column is given:
                self._clean.remember(*known_by)
            return column if column.spans is None else replace(column, spans=None)
        self._tell(name, plan, spans, codes)
        self._mark_drops(column.rows, spans[:, 0], codes)
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
        self._tell(name, plan, spans, codes)
        self._mark_drops(column.rows, rows, codes)
        return self._operators.apply(column, spans, codes, hits)

    def _number(self, name: str, plan: Plan, column: Column, hits: Counter[str]) -> Column:
        assert plan.rule is not None
        present = ~column.is_null()
        count = int(present.sum())
        if plan.label in self._drops and count:
            self.dropped = present if self.dropped is None else self.dropped | present
        if isinstance(plan.rule, Noise):
            return self._noisy(name, plan.rule, column, present, hits)
        from forebay.mask.generalise import numbers

        assert isinstance(plan.rule, Generalise)
        if count:
            hits[f"{plan.label}:{plan.rule.operator}"] += count
            self._tell_whole(name, plan, present, plan.rule.operator)
        values = np.where(present, numbers(plan.rule, column.values), 0)
        return replace(column, values=values.astype(column.values.dtype), spans=None)

    def _noisy(
        self, name: str, rule: Noise, column: Column, present: npt.NDArray[np.bool_], hits: Counter[str]
    ) -> Column:
        rows = np.flatnonzero(present)
        from forebay.mask.noise import add_noise

        shown = np.zeros(column.rows, dtype=np.bool_)
        if self._budgets is not None:
            periods = self._time[rows] // rule.period
            shown[rows] = self._budgets.take(f"{self._stream}.{name}", rule, periods)
        values = np.zeros_like(column.values)
        values[shown] = add_noise(rule, column.values[shown])
        hits["field:noise"] += int(shown.sum())
        hits["field:noise_spent"] += int((present & ~shown).sum())
        return null_out(replace(column, values=values, spans=None), present & ~shown, q.SUPPRESSED)

    def _mark_drops(self, count: int, rows: I64Array, codes: U8Array) -> None:
        """Note the rows that the policy drops because of a hit."""
        if not self._drops or not len(codes):
            return
        names = self._operators.names
        wanted = np.array([names[c] in self._drops for c in codes.tolist()], dtype=np.bool_)
        if wanted.any():
            self.dropped = np.zeros(count, dtype=np.bool_) if self.dropped is None else self.dropped
            self.dropped[rows[wanted]] = True

    def _bytes(self, name: str, plan: Plan, column: Column, hits: Counter[str]) -> Column:
        # Opaque bytes: a hit cannot be cut out without breaking a format that nobody knows here.
        assert column.offsets is not None
        classes = self._operators.classes
        spans, codes, _ = scan(column.values, column.offsets, classes, plan.context)
        behind = hidden(column, lambda cells: search(cells, classes, plan.context))
        if behind is not None and len(behind.found[1]):
            rows = behind.rows[behind.found[0][:, 0]]
            whole = np.zeros((len(rows), 3), dtype=np.int64)  # the cell goes whole: no place in it is told
            whole[:, 0], whole[:, 2] = rows, np.diff(column.offsets)[rows]
            spans, codes = np.concatenate([spans, whole]), np.concatenate([codes, behind.found[1]])
        self._tell(name, plan, spans, codes, "suppress")
        self._mark_drops(column.rows, spans[:, 0], codes)
        column = self._without_pictures(name, column, hits, raw=True)
        return self._null_hits(replace(column, spans=None), spans[:, 0], codes, hits)

    def _without_pictures(
        self, name: str, column: Column, hits: Counter[str], *, raw: bool = False
    ) -> Column:
        """Return a column of no pictures without those that stand in it all the same: nobody looked at them."""
        if not self.policy.covers_pictures:
            return column
        pictures = hold_pictures(column, raw=raw)
        if pictures is None:
            return column
        hits["image:undeclared"] += int(pictures.sum())
        self._tell_whole(name, _PICTURE, pictures, "suppress")
        return null_out(column, pictures, q.GUARDED)

    def _digits(self, name: str, plan: Plan, column: Column, hits: Counter[str]) -> Column:
        wide, numbers = long_integers(column, self._least_digits)
        if not len(wide):
            return column
        data, offsets = decimal_text(numbers)
        spans, codes, _ = scan(data, offsets, self._operators.classes, plan.context)
        spans[:, 0] = wide[spans[:, 0]]
        self._tell(name, plan, spans, codes, "suppress")
        self._mark_drops(column.rows, spans[:, 0], codes)
        return self._null_hits(column, spans[:, 0], codes, hits)

    def _null_hits(self, column: Column, rows: I64Array, codes: U8Array, hits: Counter[str]) -> Column:
        if not len(rows):
            return column
        gone = np.zeros(column.rows, dtype=np.bool_)
        gone[rows] = True
        for code, count in count_codes(codes):
            hits[f"{tables.CLASSES[code]}:suppress"] += count
        return null_out(column, gone, q.SUPPRESSED)

    def _tell(self, name: str, plan: Plan, spans: I64Array, codes: U8Array, done: str = "") -> None:
        if self._trace is None or not len(codes):
            return
        names, operator = self._operators.names, self._operators.operator
        view = self.policy.for_stream(self._stream or "")
        known = []
        for code in codes.tolist():
            at = plan.at if plan.action is Action.CELL else view.class_rule(names[code])
            known.append((names[code], done or operator(code), _rule(view, at)))
        self._trace(name, spans, known)

    def _tell_whole(self, name: str, plan: Plan, present: npt.NDArray[np.bool_], done: str) -> None:
        """Tell of values that were masked as a whole, without a look at what they say."""
        if self._trace is None:
            return
        rows = np.flatnonzero(present)
        spans = np.zeros((len(rows), 3), dtype=np.int64)
        spans[:, 0] = rows
        rule = _rule(self.policy.for_stream(self._stream or ""), plan.at)
        self._trace(name, spans, [(plan.label or "none", done, rule)] * len(rows))


def _rule(view: Policy, at: Place) -> str:
    """Return the key of a policy, and where it stands."""
    place = view.where(at)
    return ".".join(at) + (f" ({place})" if place else "")


def _origin(block: Block) -> Origin:
    index = block.schema.index(block.schema.key) if block.schema.key else -1
    cameras = block.columns[index].to_list(block.schema.fields[index].type) if index >= 0 else []
    return Origin(block.stream, cameras, block.time.tolist())


def long_integers(column: Column, digits: int) -> tuple[I64Array, I64Array]:
    """Return rows and values of whole numbers with at least `digits` digits (0: none)."""
    least, values = 10 ** (digits - 1) if digits else 0, column.values
    kind = values.dtype.kind
    if digits and kind == "f":
        return long_floats(np.ascontiguousarray(values), least)
    if digits and kind == "i":
        return long_ints(np.ascontiguousarray(values), least)
    return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
