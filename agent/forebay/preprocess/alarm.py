"""The step `alarm`: rows of `{stream}_alarms` when a condition comes to hold and when it ends.

Meaning
-------
- State is kept per key. The alarm is raised at the row at which `when` has held for its `for` by data
  time, and cleared at the row at which `clear` has (left out: `when` does not hold). Rows at which a
  condition is unknown change nothing. See forebay.preprocess.conditions for the value of a field.
- Time is judged at rows only: put the step before `deadband`, which drops rows, or give that a
  `max_silence` shorter than `for`.
- An alarm's row has the time of the row that raised or cleared it, its key, the fields that the
  conditions name with the values that were judged, and `message` if there is one. A field called alarm,
  state or message appears as `{field}_value`.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from forebay import quality as q
from forebay.blocks import Block, Column, Field, Grade, Schema, Type, take
from forebay.config.expression import Rule, parse
from forebay.config.preprocess import AlarmOptions
from forebay.preprocess.arrays import I64, find, or_none
from forebay.preprocess.base import ALARM_FIELDS, ALARM_SUFFIX, KeyedWorker
from forebay.preprocess.conditions import Leaf, Value, evaluate, leaves, read
from forebay.preprocess.state import Table
from forebay_core.alarm import carry, latch

log = logging.getLogger(__name__)

_RESERVED = (*ALARM_FIELDS, "message")
_LATCH = "latch"  # name of the table beside those of the leaves, which begin with an ask and a space


class AlarmWorker(KeyedWorker):
    """Evaluates the conditions and tells of their changes; the data passes untouched."""

    def __init__(self, options: AlarmOptions, key: str, max_keys: int) -> None:
        super().__init__(key, max_keys)
        self._options = options
        self._when = parse(options.when)
        self._clear: Rule | None = None if options.clear is None else parse(options.clear)
        rules = [self._when] + ([self._clear] if self._clear else [])
        self._leaves = list(dict.fromkeys(leaf for rule in rules for leaf in leaves(rule.node)))
        self._fields = list(dict.fromkeys(field for rule in rules for field in rule.fields))
        self._unfit: set[Leaf] = set()

    def new_table(self) -> Table:
        """See KeyedWorker. One kind of table serves leaves (last, known) and the latch (the others)."""
        return Table(
            last=(np.float64, 0.0, ()),
            known=(np.uint8, 0, ()),
            raised=(np.uint8, 0, ()),
            timing=(np.uint8, 0, ()),
            since=(np.int64, 0, ()),
        )

    def process(self, block: Block) -> list[Block]:
        """See stages.Step."""
        groups = self.slots.groups(block)
        found = {leaf: self._carried(leaf, block, groups.slots) for leaf in self._leaves}
        when = _condition(self._when, found, block.rows)
        if self._clear is None:
            clear, clear_ns = np.where(when < 0, when, 1 - when).astype(np.int8), 0
        else:
            clear, clear_ns = _condition(self._clear, found, block.rows), self._clear.hold_ns
        table, events = self.table(_LATCH), np.empty(block.rows, dtype=np.int8)
        count = latch(
            when, clear, block.time, groups.slots, self._when.hold_ns, clear_ns,
            table["raised"], table["timing"], table["since"], events,
        )  # fmt: skip
        return [self._alarms(block, found, events), block] if count else [block]

    def _carried(self, leaf: Leaf, block: Block, slots: npt.NDArray[np.int32]) -> Value:
        """Return a leaf's value at every row, with the last one where a row has none."""
        values, codes, fits = read(leaf, block)
        if not fits and leaf not in self._unfit:
            self._unfit.add(leaf)
            log.warning("step alarm: field `%s` is not of the type that `when` compares with", leaf.field)
        table = self.table(f"{leaf.ask} {leaf.field} {leaf.text}")
        out, known = np.empty(block.rows), np.empty(block.rows, dtype=np.uint8)
        carry(values, codes, slots, table["last"], table["known"], out, known)
        return out, known.view(np.bool_)

    def _alarms(self, block: Block, found: dict[Leaf, Value], events: npt.NDArray[np.int8]) -> Block:
        rows = np.flatnonzero(events)
        states = ["raised" if event > 0 else "cleared" for event in events[rows].tolist()]
        self.counts.update(states)
        name = self._options.name or self._when.text
        fields = [_text_field("alarm"), _text_field("state")]
        columns = [Column.of(Type.STR, [name] * len(rows)), Column.of(Type.STR, states)]
        key, key_name = self.slots.key or block.schema.key, ""
        for at in dict.fromkeys(i for n in (key, *self._fields) if n and (i := find(block.schema, n)) >= 0):
            field = _shown(block.schema.fields[at])
            if key and at == find(block.schema, key):
                key_name = field.name
            fields.append(field)
            columns.append(_judged(field.type, block.columns[at], found, self._asked(block, at), rows))
        if self._options.message is not None:
            fields.append(_text_field("message"))
            columns.append(Column.of(Type.STR, [self._options.message] * len(rows)))
        schema = Schema(block.stream + ALARM_SUFFIX, tuple(fields), key_name, block.schema.stamped_by)
        return Block(schema, block.time[rows], tuple(columns), self._options.lane)

    def _asked(self, block: Block, index: int) -> Leaf | None:
        """Return the leaf that asks for the value of a column."""
        asked = (leaf for leaf in self._leaves if leaf.ask == "value")
        return next((leaf for leaf in asked if find(block.schema, leaf.field) == index), None)


def _condition(rule: Rule, found: dict[Leaf, Value], rows: int) -> npt.NDArray[np.int8]:
    """Return 1 where the condition holds, 0 where not, -1 where it is unknown."""
    values, known = evaluate(rule.node, found, rows)
    return np.where(known, values != 0.0, -1).astype(np.int8)


def _text_field(name: str) -> Field:
    """A column whose text comes from the configuration, not from data."""
    return Field(name, Type.STR, grade=Grade.GENERAL)


def _shown(field: Field) -> Field:
    """Return a data field as it appears beside the alarm's own."""
    if field.name.casefold() not in _RESERVED:
        return field
    return replace(field, name=f"{field.name}_value", given=field.given or field.name)


def _judged(type_: Type, column: Column, found: dict[Leaf, Value], leaf: Leaf | None, rows: I64) -> Column:
    """Return the cells of the alarm's rows, with the last value where it was that which was judged."""
    cells = take(column, rows)
    if leaf is None or cells.quality is None or cells.offsets is not None:
        return cells
    values, known = found[leaf]
    filled = q.SILENT[cells.quality] & known[rows]
    shown = np.where(filled, values[rows].astype(cells.values.dtype), cells.values)
    return Column(shown, None, or_none(np.where(filled, q.GOOD, cells.quality).astype(np.uint8)))
