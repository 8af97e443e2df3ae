"""Mask CSV and keep its quotes, delimiters and line ends as they were."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from forebay.mask.records import Leaf, RecordMasker

DELIMITERS = ",;\t|"
MAX_RECORD_LINES = 1000  # lines that one quoted record may span; beyond it a quote was left open

# What in a table is surely a measurement: so short a number is no identifier of any class.
# What is written with its power of ten and all its digits is searched for what it stands for, as in JSON.
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,6}(?:\.[0-9]{1,12})?|[0-9]\.[0-9]{9,17}[eE]\+?[12][0-9])")


def find_delimiter(header: str) -> str:
    """Return the delimiter that stands most often in the header outside quotes."""
    plain = re.sub(r'"[^"]*"', "", header)
    return max(DELIMITERS, key=plain.count)


def split_records(lines: Sequence[str], at_end: bool) -> tuple[list[list[str]], int]:
    """Group lines to records: a quoted cell may hold line ends.

    Returns
    -------
    records : lists of lines
    used : how many lines they take; the rest waits for more. At the end, or after MAX_RECORD_LINES, an open
        quote is taken for a mistake and its lines stand alone.
    """
    records: list[list[str]] = []
    start = 0
    while start < len(lines):
        quotes, end = 0, start
        while end < len(lines) and end - start < MAX_RECORD_LINES:
            quotes += lines[end].count('"')
            end += 1
            if quotes % 2 == 0:
                break
        if quotes % 2 and end - start < MAX_RECORD_LINES and not at_end:
            return records, start
        if quotes % 2:
            end = start + 1
        records.append(list(lines[start:end]))
        start = end
    return records, start


def mask_csv_records(
    records: Sequence[list[str]],
    header: Sequence[str],
    delimiter: str,
    masker: RecordMasker,
    note_broken: Callable[[], None],
) -> list[str]:
    """Return the records masked, each as one text with its inner line ends."""
    starts = [0]  # line on which each record begins, from the first one
    for record in records[:-1]:
        starts.append(starts[-1] + len(record))
    texts = {start: "\n".join(record) for start, record in zip(starts, records, strict=False)}
    rows: dict[int, list[str]] = {}
    leaves: list[Leaf] = []
    broken: list[int] = []
    for start, text in texts.items():
        cells = split_cells(text, delimiter)
        if cells is None:
            broken.append(start)
            note_broken()
            continue
        rows[start] = cells
        for place, raw in enumerate(cells):
            value = _unquote(raw)
            if value:
                name = header[place] if place < len(header) else f"column_{place + 1}"
                leaves.append(Leaf(start, place, name, float(value) if _is_number(value) else value))
    changed = masker.mask(leaves)
    for (start, place), new in changed.items():
        cells = rows[start]
        cells[place] = _quote("" if new is None else str(new), cells[place], delimiter)
    for start in {start for start, _ in changed}:
        texts[start] = delimiter.join(rows[start])
    for start, text in zip(broken, masker.mask_text([texts[n] for n in broken], broken), strict=True):
        texts[start] = text
    return list(texts.values())


def split_cells(text: str, delimiter: str) -> list[str] | None:
    """Return the cells as written, quotes and all; None where quotes stand in the middle of a cell."""
    cells: list[str] = []
    at = 0
    while True:
        if text.startswith('"', at):
            end = at + 1
            while True:
                end = text.find('"', end)
                if end < 0:
                    return None
                if not text.startswith('""', end):
                    break
                end += 2
            end += 1
        else:
            end = text.find(delimiter, at)
            end = len(text) if end < 0 else end
            if '"' in text[at:end]:
                return None
        cells.append(text[at:end])
        if end == len(text):
            return cells
        if text[end] != delimiter:
            return None
        at = end + 1


def header_names(text: str, delimiter: str) -> list[str]:
    """Return the names in a header line."""
    return [_unquote(cell).strip() for cell in split_cells(text, delimiter) or text.split(delimiter)]


def _is_number(value: str) -> bool:
    return _NUMBER.fullmatch(value) is not None


def _unquote(raw: str) -> str:
    return raw[1:-1].replace('""', '"') if len(raw) >= 2 and raw[0] == '"' else raw


def _quote(value: str, raw: str, delimiter: str) -> str:
    # as many line ends as before, so that lines in are lines out even where a cell was emptied
    value += "\n" * (raw.count("\n") - value.count("\n"))
    if raw[:1] == '"' or delimiter in value or '"' in value or "\n" in value:
        return '"' + value.replace('"', '""') + '"'
    return value
