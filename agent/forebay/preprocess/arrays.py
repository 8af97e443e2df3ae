"""Array types, and columns as the kernels take them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forebay.blocks import Column, Schema

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]

# The kernels read an empty array as "all good", "one group", "rows in their order".
ALL_GOOD: U8 = np.zeros(0, dtype=np.uint8)
ONE_GROUP: I32 = np.zeros(0, dtype=np.int32)
AS_THEY_ARE: I64 = np.zeros(0, dtype=np.int64)


def find(schema: Schema, name: str) -> int:
    """Return the position of a field, names compared case-folded if none is equal; -1 if there is none."""
    index = schema.index(name)
    if index < 0:
        folded = name.casefold()
        index = next((i for i, f in enumerate(schema.fields) if f.name.casefold() == folded), -1)
    return index


def numbers(column: Column) -> F64:
    """Return the values of a numeric column as float64; integers beyond 2**53 are rounded."""
    return np.ascontiguousarray(column.values, dtype=np.float64)


def codes_of(column: Column) -> U8:
    """Return the quality codes as the kernels take them."""
    return ALL_GOOD if column.quality is None else np.ascontiguousarray(column.quality)


def or_none(codes: U8) -> U8 | None:
    """Return quality codes as a column keeps them: None if all are good."""
    return codes if codes.any() else None
