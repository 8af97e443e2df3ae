"""Replace what a scan found in a column, after the rules of a policy."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from forebay import quality as q
from forebay.blocks import Column, I64Array, U8Array
from forebay.config.operators import ClassRule, FieldRule
from forebay.errors import MaskError
from forebay.mask.policy import Policy
from forebay.mask.replacers import MADE, Replacer, Replacers
from forebay.mask.search import count_codes
from forebay_core import text_tables as tables
from forebay_core.splice import KEEP, REMOVE, REPLACE, splice

WHOLE_CELL = 255  # class code of a cell that is masked whole
NO_RULE = "no_rule"


class Operators:
    """A policy's rules in the form that the splice kernel takes. Used by one thread."""

    def __init__(self, policy: Policy, *, trial: bool = False) -> None:
        self._replacers = Replacers(policy, trial=trial)
        self.classes = 0
        self.names: list[str] = [""] * 256
        self._operators = [NO_RULE] * 256
        self._makers: dict[int, Replacer] = {}  # of the classes whose replacement depends on the value
        self._table = np.zeros((256, 4), dtype=np.int64)
        self._fixed: list[bytes] = []  # replacement of each class, by code
        self._which = np.zeros(256, dtype=np.int64)
        rules: dict[str, ClassRule] = {str(k): v for k, v in policy.options.classes.items()}
        for name in policy.scanned_classes:
            code = tables.CODES[name]
            self.classes |= 1 << code
            self._set(code, name, rules.get(name))

    def whole(self, rule: ClassRule | FieldRule, label: str) -> None:
        """Prepare WHOLE_CELL for a field whose cells are masked whole."""
        self._set(WHOLE_CELL, label, rule)

    def operator(self, code: int) -> str:
        """Return the name of a class's operator."""
        return self._operators[code]

    def _set(self, code: int, name: str, rule: Any) -> None:
        self.names[code] = name
        self._operators[code] = NO_RULE if rule is None else rule.operator
        self._makers.pop(code, None)
        if rule is None or rule.operator == "suppress":
            self._table[code] = REMOVE, 0, 0, 0
        elif rule.operator == "keep":
            self._table[code] = KEEP, rule.first, rule.last, self._text(rule.char)
        elif rule.operator == "tag":
            self._table[code] = REPLACE, 0, 0, 0
            self._which[code] = self._text(rule.text or f"[{name}]")
        elif rule.operator in MADE:
            self._table[code] = REPLACE, 0, 0, 0
            self._makers[code] = self._replacers.make(rule, name)
        else:  # pragma: no cover - pass and scan are never looked up here
            raise MaskError(f"operator {rule.operator} cannot be applied to a span")

    def _text(self, text: str) -> int:
        encoded = text.encode()
        if encoded not in self._fixed:
            self._fixed.append(encoded)
        return self._fixed.index(encoded)

    def apply(self, column: Column, spans: I64Array, codes: U8Array, hits: Counter[str]) -> Column:
        """Return the column with its hits masked, and count them.

        Raises
        ------
        ValueError
            The spans do not fit the column: a bug, and the column must not pass.
        """
        assert column.offsets is not None
        texts, which = self._fixed, self._which[codes]
        if self._makers:
            texts = self._make_texts(column, spans, codes, which)
            hits.update(self._replacers.take_unfit())
        offsets = np.zeros(len(texts) + 1, dtype=np.int64)
        np.cumsum([len(t) for t in texts], out=offsets[1:])
        replacements = np.frombuffer(b"".join(texts), dtype=np.uint8)
        data, ends, made, removed = splice(
            column.values, column.offsets, spans, codes, which, self._table, replacements, offsets
        )
        for code, count in count_codes(codes):
            hits[f"{self.names[code]}:{self._operators[code]}"] += count
        return Column(data, ends, self._null(column.quality, removed), made if len(made) else None)

    def _make_texts(
        self, column: Column, spans: I64Array, codes: U8Array, which: npt.NDArray[np.int64]
    ) -> list[bytes]:
        assert column.offsets is not None
        texts = list(self._fixed)
        places: dict[bytes, int] = {}
        wanted = np.flatnonzero(np.isin(codes, list(self._makers)))
        starts = column.offsets[spans[wanted, 0]]
        data = column.values.tobytes()
        bounds = zip(
            wanted.tolist(),
            (starts + spans[wanted, 1]).tolist(),
            (starts + spans[wanted, 2]).tolist(),
            codes[wanted].tolist(),
            strict=True,
        )
        for hit, start, end, code in bounds:
            text = self._makers[code](data[start:end])
            place = places.get(text)
            if place is None:
                place = places[text] = len(texts)
                texts.append(text)
            which[hit] = place
        return texts

    def _null(self, quality: U8Array | None, removed: U8Array) -> U8Array | None:
        if not removed.any():
            return quality
        codes = np.zeros(len(removed), dtype=np.uint8) if quality is None else quality.copy()
        by_class = np.array(
            [q.GUARDED if name == NO_RULE else q.SUPPRESSED for name in self._operators], dtype=np.uint8
        )
        gone = removed > 0
        codes[gone] = by_class[removed[gone]]
        return codes
