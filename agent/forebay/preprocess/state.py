"""Saved state: arrays with a row for each key, and their form in msgpack."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from forebay.blocks import Field, Grade, Type

_FIELD = tuple(f.name for f in fields(Field))


class Table:
    """State arrays with a row for each slot, growing with the keys."""

    def __init__(self, **columns: tuple[type[np.generic], Any, tuple[int, ...]]) -> None:
        self._columns = columns
        self.arrays: dict[str, npt.NDArray[Any]] = {}
        self.size = 0
        self.fit(1)

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self.arrays[name]

    def fit(self, slots: int) -> None:
        """Make room for at least so many slots."""
        if slots <= self.size:
            return
        size = max(slots, 2 * self.size)
        for name, (dtype, start, shape) in self._columns.items():
            grown = np.full((size, *shape), start, dtype=dtype)
            if self.size:
                grown[: self.size] = self.arrays[name]
            self.arrays[name] = grown
        self.size = size

    def dump(self, slots: int) -> dict[str, Any]:
        """Return what `load` takes, for the first `slots` slots."""
        self.fit(slots)
        return {name: pack_array(array[:slots]) for name, array in self.arrays.items()}

    def load(self, saved: dict[str, Any]) -> None:
        """Take over saved arrays."""
        loaded = {name: unpack_array(saved[name]) for name in self._columns}
        lengths = {len(array) for array in loaded.values()}
        if len(lengths) != 1:
            raise ValueError("state arrays differ in length")
        for name, (dtype, _, shape) in self._columns.items():
            if loaded[name].dtype != np.dtype(dtype) or loaded[name].shape[1:] != shape:
                raise ValueError("a state array has another type or shape")
        rows = lengths.pop()
        self.fit(rows)
        for name, array in loaded.items():
            self.arrays[name][:rows] = array


def pack_array(array: npt.NDArray[Any]) -> list[Any]:
    """Return an array as msgpack takes it."""
    return [array.dtype.str, list(array.shape), array.tobytes()]


def unpack_array(packed: list[Any]) -> npt.NDArray[Any]:
    """Return a packed array, writable. Raises ValueError."""
    dtype, shape, data = packed
    if dtype not in ("<f8", "<i8", "<i4", "|u1", "|i1"):
        raise ValueError("an array of a type that is not saved")
    return np.frombuffer(data, dtype=dtype).reshape(shape).copy()


def pack_field(field: Field) -> dict[str, Any]:
    """Return a field as msgpack takes it."""
    return {name: getattr(field, name) for name in _FIELD}


def unpack_field(packed: dict[str, Any]) -> Field:
    """Return a packed field. Raises ValueError, TypeError, KeyError."""
    grade = None if packed["grade"] is None else Grade(packed["grade"])
    given = {**packed, "type": Type(packed["type"]), "grade": grade, "classes": tuple(packed["classes"])}
    return Field(**given)
