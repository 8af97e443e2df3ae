"""How easily records of a sample can be tied to a person: k-anonymity, uniqueness, l-diversity, t-closeness.

Offline, over a table that fits in memory. The packages for this bring pandas with them (100 MB for what is
counting); the definitions are few lines. Reports hold counts and names of columns, never a value.

References
----------
Samarati, Sweeney (1998): k-anonymity. Machanavajjhala et al. (2006): l-diversity. Li et al. (2007): t-closeness.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from forebay.errors import InputError
from forebay.mask.tables import find_delimiter

MAX_RECORDS = 2_000_000
_SIZES = (1, 2, 5, 10, 50)  # bounds of the histogram of group sizes
_MAX_PAIRS = 12  # quasi-identifiers up to which subsets are looked at


@dataclass(slots=True)
class Closeness:
    """How well groups hide a sensitive column. `l` is the fewest different values in a group, `t` the largest
    distance between a group's distribution and the whole table's (total variation, 0 to 1)."""

    l: int  # noqa: E741 - its name in the literature
    t: float


@dataclass(slots=True)
class Risk:
    """What a sample shows.

    `k` is the size of the smallest group of records alike in all quasi-identifiers. `highest` and `average`
    are the chance that somebody who knows a person's quasi-identifiers, and that the person is in the sample,
    picks the right record. `alone` names the quasi-identifiers that tell at least one record apart, `pairs`
    the same of two together, with how many records.
    """

    records: int
    groups: int
    k: int
    unique: int
    highest: float
    average: float
    sizes: dict[str, int]
    alone: dict[str, int] = field(default_factory=dict)
    pairs: dict[str, int] = field(default_factory=dict)
    sensitive: dict[str, Closeness] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return asdict(self)


def assess(records: Sequence[Mapping[str, str]], quasi: Sequence[str], sensitive: Sequence[str] = ()) -> Risk:
    """Return the risk of a sample. Raises InputError for no records or unknown columns."""
    if not records:
        raise InputError("there are no records to look at")
    known = {name for record in records for name in record}
    missing = [name for name in (*quasi, *sensitive) if name not in known]
    if missing or not quasi:
        raise InputError(
            f"there is no column `{missing[0]}`" if missing else "no quasi-identifiers are named",
            hint=f"columns are: {', '.join(sorted(known)[:20])}",
        )
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = defaultdict(list)
    for record in records:
        groups[tuple(record.get(name, "") for name in quasi)].append(record)
    sizes = sorted(len(group) for group in groups.values())
    risk = Risk(
        records=len(records),
        groups=len(groups),
        k=sizes[0],
        unique=sum(1 for size in sizes if size == 1),
        highest=1 / sizes[0],
        average=len(groups) / len(records),  # each record's chance is 1 / size of its group
        sizes=_histogram(sizes),
    )
    risk.alone = _telling(records, [(name,) for name in quasi])
    if len(quasi) <= _MAX_PAIRS:
        risk.pairs = _telling(records, combinations(quasi, 2))
    risk.sensitive = {name: _closeness(name, records, groups.values()) for name in sensitive}
    return risk


def _histogram(sizes: Sequence[int]) -> dict[str, int]:
    """Return how many records are in groups of a size."""
    out: dict[str, int] = {}
    for low, high in zip(_SIZES, (*_SIZES[1:], None), strict=True):
        name = f"{low}" if high == low + 1 else f"{low}-{high - 1}" if high else f"{low}+"
        out[name] = sum(size for size in sizes if size >= low and (high is None or size < high))
    return out


def _telling(records: Sequence[Mapping[str, str]], subsets: Iterable[tuple[str, ...]]) -> dict[str, int]:
    out: dict[str, int] = {}
    for names in subsets:
        counts = Counter(tuple(record.get(name, "") for name in names) for record in records)
        unique = sum(1 for count in counts.values() if count == 1)
        if unique:
            out[" + ".join(names)] = unique
    return dict(sorted(out.items(), key=lambda item: -item[1]))


def _closeness(
    name: str, records: Sequence[Mapping[str, str]], groups: Iterable[list[Mapping[str, str]]]
) -> Closeness:
    whole = Counter(record.get(name, "") for record in records)
    fewest, farthest = len(whole), 0.0
    for group in groups:
        own = Counter(record.get(name, "") for record in group)
        fewest = min(fewest, len(own))
        gap = sum(abs(own[v] / len(group) - count / len(records)) for v, count in whole.items()) / 2
        farthest = max(farthest, gap)
    return Closeness(fewest, round(farthest, 6))


def read_table(path: Path) -> list[dict[str, str]]:
    """Read CSV (with a header) or JSON (lines, or one list) as text by column. Raises InputError, without showing
    what is there. UTF-8 and GB18030, and the delimiters that `forebay mask` knows."""
    out: list[dict[str, str]] = []
    try:
        data = path.read_bytes()
        text = _text_of(data)
        is_json = path.suffix.lower() in (".jsonl", ".ndjson", ".json")
        rows: Iterator[dict[str, Any]] = _json_rows(text) if is_json else _csv_rows(text)
        for number, row in enumerate(rows):
            if number >= MAX_RECORDS:
                raise InputError(f"more than {MAX_RECORDS:,} records", hint="take a sample", place=str(path))
            out.append({str(k): "" if v is None else str(v) for k, v in row.items()})
    except OSError as error:
        raise InputError(f"cannot read it: {error.strerror}", place=str(path)) from None
    except (ValueError, csv.Error, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"not a table that can be read after record {len(out)}", place=str(path)) from None
    return out


def _text_of(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("gb18030")  # files of older Chinese systems


def _csv_rows(text: str) -> Iterator[dict[str, Any]]:
    delimiter = find_delimiter(text.split("\n", 1)[0])
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    for row in rows:
        row.pop(None, None)  # cells beyond the header's are of no column
        yield row


def _json_rows(text: str) -> Iterator[dict[str, Any]]:
    if text.lstrip().startswith("["):
        rows: Iterable[Any] = json.loads(text)
    else:
        rows = (json.loads(line) for line in text.splitlines() if line.strip())
    for row in rows:
        if not isinstance(row, dict):
            raise ValueError("expected objects")
        yield row
