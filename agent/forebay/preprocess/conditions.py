"""Evaluation of alarm conditions over the rows of a block, in three values: true, false, unknown.

A field's value at a row is the cell, or where the row does not have it or a deadband blanked it, the last
one of its key: messages often carry one field each. After a null of another reason (null, nan, device
error ...) the value is unknown until the next one. Bad values count: a pump at 160 °C is outside its range
and on fire.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forebay import quality as q
from forebay.blocks import Block, Column, Type
from forebay.config.expression import COMPARISONS, QUALITY_FUNCTIONS, Call, Name, Node, Number, Text
from forebay.preprocess.arrays import F64, U8, codes_of, find, numbers
from forebay.preprocess.base import NUMERIC

Bools = npt.NDArray[np.bool_]
Value = tuple[F64, Bools]  # values and where they are known


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a condition asks of a field: its `value`, whether it `equals` a text, or its quality."""

    ask: str
    field: str
    text: str = ""


_BINARY: dict[str, Callable[[F64, F64], npt.NDArray[np.generic]]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
}


def _text_leaf(node: Call) -> Leaf | None:
    """Return the leaf of a comparison of a field with a text."""
    if node.op in COMPARISONS and any(isinstance(arg, Text) for arg in node.args):
        name = next(arg for arg in node.args if isinstance(arg, Name))
        text = next(arg for arg in node.args if isinstance(arg, Text))
        return Leaf("equals", name.field, text.value)
    return None


def leaves(node: Node) -> Iterator[Leaf]:
    """Yield what a condition asks of fields."""
    if isinstance(node, Name):
        yield Leaf("value", node.field)
    elif isinstance(node, Call):
        text = _text_leaf(node)
        if text is not None:
            yield text
        elif node.op in QUALITY_FUNCTIONS and isinstance(node.args[0], Name):
            yield Leaf(node.op, node.args[0].field)
        else:
            for arg in node.args:
                yield from leaves(arg)


def read(leaf: Leaf, block: Block) -> tuple[F64, U8, bool]:
    """Return a leaf's cells as numbers with quality codes, and whether the field is of a fitting type."""
    index = find(block.schema, leaf.field)
    if index < 0:
        return np.zeros(block.rows), np.full(block.rows, q.MISSING, dtype=np.uint8), True
    type_, column = block.schema.fields[index].type, block.columns[index]
    codes = codes_of(column)
    if leaf.ask == "value" and type_ in NUMERIC:
        return numbers(column), codes, True
    if leaf.ask == "equals" and type_ in (Type.STR, Type.BYTES):
        return _equals(column, leaf.text.encode()), codes, True
    if leaf.ask in QUALITY_FUNCTIONS:
        return *_quality(leaf.ask, codes, block.rows), True
    return np.zeros(block.rows), np.full(block.rows, q.TYPE, dtype=np.uint8), False


def _equals(column: Column, text: bytes) -> F64:
    """Return 1.0 where a cell is exactly `text`."""
    assert column.offsets is not None
    starts, lengths = column.offsets[:-1], np.diff(column.offsets)
    out = np.zeros(len(lengths))
    rows = np.flatnonzero(lengths == len(text))
    if len(text):
        places = starts[rows][:, None] + np.arange(len(text))
        rows = rows[(column.values[places] == np.frombuffer(text, dtype=np.uint8)).all(axis=1)]
    out[rows] = 1.0
    return out


def _quality(ask: str, codes: U8, rows: int) -> tuple[F64, U8]:
    """Return the answer to null, bad or uncertain; cells that say nothing keep their code."""
    if not len(codes):
        return np.zeros(rows), codes
    if ask == "null":
        found = codes >= q.NULL_FROM
    else:
        found = q.LEVELS[codes] == (q.Level.BAD if ask == "bad" else q.Level.UNCERTAIN)
    return found.astype(np.float64), np.where(q.SILENT[codes], codes, q.GOOD).astype(np.uint8)


def evaluate(node: Node, found: dict[Leaf, Value], rows: int) -> Value:
    """Compute a condition from its leaves; true is 1, false 0."""
    if isinstance(node, Number):
        return np.full(rows, node.value), np.ones(rows, dtype=np.bool_)
    if isinstance(node, Name):
        return found[Leaf("value", node.field)]
    assert isinstance(node, Call), "the parser leaves texts only inside comparisons"
    text = _text_leaf(node)
    if text is not None:
        values, known = found[text]
        return (values if node.op == "==" else 1.0 - values), known
    if node.op in QUALITY_FUNCTIONS and isinstance(node.args[0], Name):
        return found[Leaf(node.op, node.args[0].field)]
    args = [evaluate(arg, found, rows) for arg in node.args]
    if node.op in ("and", "or"):
        return _logical(node.op, args[0], args[1])
    with np.errstate(all="ignore"):
        return _arithmetic(node.op, args)


def _logical(op: str, left: Value, right: Value) -> Value:
    """Kleene's logic: false and unknown is false, true or unknown is true."""
    (a, a_known), (b, b_known) = (left[0] != 0.0, left[1]), (right[0] != 0.0, right[1])
    both = a_known & b_known
    if op == "and":
        return (a & b).astype(np.float64), both | (a_known & ~a) | (b_known & ~b)
    true = (a & a_known) | (b & b_known)
    return true.astype(np.float64), both | true


def _arithmetic(op: str, args: list[Value]) -> Value:
    values = [value for value, _ in args]
    known = np.logical_and.reduce([known for _, known in args])
    if op == "not":
        result = (values[0] == 0.0).astype(np.float64)
    elif op == "neg":
        result = -values[0]
    elif op == "abs":
        result = np.abs(values[0])
    elif op in ("min", "max"):
        result = (np.minimum if op == "min" else np.maximum).reduce(values)
    else:
        result = np.asarray(_BINARY[op](values[0], values[1]), dtype=np.float64)
    return result, known & ~np.isnan(result)
