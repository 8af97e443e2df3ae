"""`forebay infer` on a table: CSV through a model of numbers, printed, written with its results, or drawn."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import click
import numpy as np

from forebay.blocks import MAX_ROWS, Block, Column, Field, Schema, Type
from forebay.cli.series_picture import FORMATS, SeriesPicture
from forebay.config.models import InferOptions
from forebay.errors import InputError

THRESHOLD = 0.9  # of a score; from there a row is marked
_STAMPS = ("time", "ts", "timestamp", "datetime", "date")
_NO_NUMBER = ("", "nan", "null", "none", "na", "n/a")  # what tables write where a reading is missing
_REJECTED_TOLD = 10

Row = dict[str, Any]


class Table:
    """A CSV file through the step `infer`, in blocks.

    Attributes
    ----------
    results : names of the fields that the model adds, known from the first block on
    rejected : rows left out because they do not have the header's cells
    """

    def __init__(
        self,
        path: Path,
        model: str,
        folder: Path | None,
        inputs: str | None,
        key: str | None,
        calibration: int | None,
    ) -> None:
        from forebay import infer

        self.path = path
        self.header = self._header()
        self.key = key or ""
        stamps = [name for name in self.header if name.casefold() in _STAMPS]
        self.stamp = stamps[0] if stamps else ""
        self.fields = inputs.split(",") if inputs else self._numeric()
        for name in [*filter(None, [self.key]), *self.fields]:
            if name not in self.header:
                raise InputError(
                    f"no column `{name}`", place=f"{path}:1", hint=f"columns: {', '.join(self.header)}"
                )
        given = {} if calibration is None else {"calibration": calibration}
        options = InferOptions.model_validate({"model": model, "inputs": self.fields, **given})
        self.step: Any = infer.build("infer", options, key=self.key, bundles_dir=folder, base=Path())
        self.results: tuple[str, ...] = ()
        self.rejected = 0

    @property
    def has_labels(self) -> bool:
        """Whether the model says labels, not scores."""
        return len(self.results) == 2 and self.results[1] == f"{self.results[0]}_score"

    @property
    def failed(self) -> int:
        """Rows or windows on which the model failed."""
        return int(self.step.counts["model_error"])

    def _open(self) -> TextIO:
        return self.path.open(encoding="utf-8-sig", errors="replace", newline="")

    def _dialect(self) -> str:
        return "\t" if self.path.suffix.lower() == ".tsv" else ","

    def _header(self) -> list[str]:
        with self._open() as lines:
            header = next(csv.reader(lines, delimiter=self._dialect()), [])
        if not header or len(set(header)) != len(header):
            raise InputError("expected a header of distinct names", place=f"{self.path}:1")
        return header

    def _numeric(self) -> list[str]:
        """Return the columns whose first hundred cells are numbers, at least one, or missing ones."""
        with self._open() as lines:
            first = list(islice(csv.DictReader(lines, delimiter=self._dialect()), 100))
        names = []
        for name in self.header:
            if name in (self.stamp, self.key):
                continue
            cells = [cell for row in first if (cell := row[name] or "").strip().casefold() not in _NO_NUMBER]
            if cells and all(_number(cell) is not None for cell in cells):
                names.append(name)
        if not names:
            raise InputError("no column of numbers", place=str(self.path), hint="name them with --inputs")
        return names

    def rows(self) -> Iterator[tuple[Row, Row]]:
        """Yield each row as read, and what the model says of it by name, None where it says nothing."""
        with self._open() as lines:
            reader = csv.DictReader(lines, delimiter=self._dialect())
            done = 0
            while batch := list(islice(self._good(reader), MAX_ROWS)):
                block = self._block(batch, done)
                (scored,) = self.step.process(block)
                made = range(len(block.columns), len(scored.columns))
                self.results = tuple(scored.schema.fields[k].name for k in made)
                cells = [scored.columns[k].to_list(scored.schema.fields[k].type) for k in made]
                for row, *found in zip(batch, *cells, strict=True):
                    yield row, dict(zip(self.results, found, strict=True))
                done += len(batch)

    def _good(self, reader: csv.DictReader[str]) -> Iterator[Row]:
        """Yield the rows that have as many cells as the header; say where others are."""
        while True:
            try:
                row: dict[Any, Any] | None = next(reader, None)
            except csv.Error as error:
                self._reject(reader.line_num, str(error))
                continue
            if row is None:
                return
            if None in row or None in row.values():
                self._reject(reader.line_num, f"expected {len(self.header)} cells")
                continue
            yield row

    def _reject(self, line: int, detail: str) -> None:
        self.rejected += 1
        if self.rejected <= _REJECTED_TOLD:
            click.echo(f"warning: {self.path}:{line}: {detail}, row left out", err=True)

    def _block(self, batch: list[Row], first: int) -> Block:
        fields, columns = [], []
        if self.key:
            fields.append(Field(self.key, Type.STR))
            columns.append(Column.of(Type.STR, [r[self.key] for r in batch]))
        for name in self.fields:
            fields.append(Field(name, Type.F64))
            columns.append(Column.of(Type.F64, [_number(r[name]) for r in batch]))
        # The step needs order and gaps only; without stamps rows count as evenly spaced.
        stamps = [_stamp(r[self.stamp], first + i) if self.stamp else first + i for i, r in enumerate(batch)]
        return Block(Schema("csv", tuple(fields), self.key), np.array(stamps, dtype=np.int64), tuple(columns))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _stamp(text: str, row: int) -> int:
    """Return ns; the row's number where the text is no time."""
    from datetime import UTC, datetime

    if re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]+)?", text):
        return int(float(text) * 1e9)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return row
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1e9)


def print_table(run: Table, as_json: bool, out: Path | None, threshold: float | None) -> None:
    """Print what the model says, and write or draw it into `out`.

    Raises
    ------
    InputError
        The file cannot be written, the model has no score to draw by, or it failed on rows: those have no result.
    """
    counts = dict.fromkeys(("rows", "marked", "without"), 0)
    is_drawn = out is not None and out.suffix.lower() in FORMATS
    least = THRESHOLD if threshold is None else threshold
    picture = SeriesPicture(run.fields, least) if is_drawn else None
    with ExitStack() as stack:
        writer = _writer(stack, out) if out and not is_drawn else None
        for row, found in run.rows():
            *_, last = found.values()  # the score; of a label its probability
            if run.has_labels and (picture or threshold is not None):
                raise InputError("has labels, no score to mark or draw rows by", place=run.step.model)
            is_marked = last is not None and (run.has_labels or last >= least)
            counts["rows"] += 1
            counts["without"] += last is None
            counts["marked"] += is_marked
            place = {k: row[k] for k in (run.stamp, run.key) if k}
            if as_json:
                told = {"row": counts["rows"], **place, **found, "model": run.step.model}
                click.echo(json.dumps(told, ensure_ascii=False))
            elif is_marked:
                said = "  ".join(f"{name} {_shown(value)}" for name, value in found.items())
                click.echo("  ".join([f"row {counts['rows']}", *place.values(), said]))
            if picture:
                picture.add(row[run.key] if run.key else "", [_number(row[n]) for n in run.fields], last)
            if writer:
                if counts["rows"] == 1:
                    writer.writerow([*run.header, *run.results])
                cells = ["" if value is None else value for value in found.values()]
                writer.writerow([*(row[n] for n in run.header), *cells])
        if writer and not counts["rows"]:
            writer.writerow(run.header)
    if picture and out:
        picture.write(out)
        if picture.left_out:
            click.echo(f"warning: {len(picture.left_out)} more devices are not in the picture", err=True)
    if not as_json:
        click.echo(_summary(run, least, **counts))
    if run.failed:
        raise InputError(f"the model failed on {run.failed} rows or windows", place=run.step.model)


def _shown(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _writer(stack: ExitStack, out: Path) -> Any:
    try:
        return csv.writer(stack.enter_context(out.open("w", encoding="utf-8", newline="")))
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", place=str(out)) from None


def _summary(run: Table, least: float, *, rows: int, marked: int, without: int) -> str:
    what = f"{marked} with a label"
    if not run.has_labels:
        score = run.results[-1] if run.results else "a score"
        what = f"{marked} with {score} >= {least:g}, {without} without (calibrating, or no number)"
    return f"{rows} rows, {what}, {run.rejected} left out; {run.step.model} on {', '.join(run.fields)}"
