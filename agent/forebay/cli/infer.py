"""`forebay infer`: one model on a CSV file, an image or a video."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import click
import numpy as np

from forebay.blocks import MAX_ROWS, Block, Column, Field, Schema, Type
from forebay.cli.progress import Progress
from forebay.cli.series_picture import FORMATS, SeriesPicture
from forebay.config.models import InferOptions
from forebay.errors import ForebayError, InputError

VIDEO = {".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".ts", ".flv"}
TABLE = {".csv", ".tsv", ".txt"}
_STAMPS = ("time", "ts", "timestamp", "datetime", "date")
_PALETTE = ((60, 180, 75), (48, 130, 245), (200, 130, 0), (75, 25, 230), (180, 30, 145))  # BGR


@click.command("infer")
@click.argument("model")
@click.argument("source", metavar="INPUT", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Drawn picture or video; of a table CSV with scores or, as .png or .jpg, its series with marks.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option(
    "--progress", "show_progress", is_flag=True, help="Tell how far a video is, also without a terminal."
)
@click.option("--dir", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="Folder of your own bundles, looked in first.")  # fmt: skip
@click.option("--threshold", type=click.FloatRange(0, 1, min_open=True, max_open=True),
              help="Least score of a detection; score from which a row is marked.")  # fmt: skip
@click.option("--class", "classes", multiple=True, help="Label to keep; may be given again.")
@click.option("--tiles", type=click.IntRange(1, 4), default=1, help="Look also at N x N tiles.")
@click.option("--read", is_flag=True, help="Read what stands in each box (extra `ocr`).")
@click.option("--inputs", help="Fields that the model watches, with commas; all numeric ones by default.")
@click.option("--key", help="CSV column that tells devices apart.")
@click.option(
    "--calibration", type=click.IntRange(32), default=256, help="Readings that a series learns from first."
)
def infer_command(
    model: str,
    source: Path,
    out: Path | None,
    as_json: bool,
    show_progress: bool,
    folder: Path | None,
    threshold: float | None,
    classes: tuple[str, ...],
    tiles: int,
    read: bool,
    inputs: str | None,
    key: str | None,
    calibration: int,
) -> None:
    """Run MODEL (a bundle's name or path) on INPUT: CSV, image or video."""
    try:
        if source.suffix.lower() in TABLE:
            if classes or tiles != 1 or read:
                raise click.UsageError("--class, --tiles and --read go with images")
            run = _Table(source, model, folder, inputs, key, calibration)
            _print_table(run, as_json, out, 0.9 if threshold is None else threshold)
            return
        if inputs or key:
            raise click.UsageError("--inputs and --key go with CSV")
        from forebay.infer.vision import load_detector

        detector: Any = load_detector(
            model, threshold, bundles_dir=folder, base=Path(), tiles=tiles, classes=classes
        )
        if read:
            from forebay import infer

            detector = _Reading(detector, infer.build_reader())
        if source.suffix.lower() in VIDEO:
            told = Progress() if show_progress or sys.stderr.isatty() else None
            _video(detector, source, out, as_json, told)
        else:
            _image(detector, source, out, as_json)
    except ForebayError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None


class _Reading:
    """A detector whose boxes are read."""

    def __init__(self, detector: Any, reader: Any) -> None:
        self._detector, self._reader = detector, reader
        self.model = f"{detector.model} {reader.model}"

    def detect_labelled(self, frame: Any) -> list[Any]:
        found: list[Any] = self._reader.read_boxes(frame, self._detector.detect_labelled(frame))
        return found


class _Table:
    """A CSV file through the anomaly step, in blocks."""

    def __init__(
        self,
        path: Path,
        model: str,
        folder: Path | None,
        inputs: str | None,
        key: str | None,
        calibration: int,
    ) -> None:
        from forebay import infer

        self.path = path
        self.header = self._header()
        if key and key not in self.header:
            raise InputError(
                f"no column `{key}`", place=f"{path}:1", hint=f"columns: {', '.join(self.header)}"
            )
        self.key = key or ""
        stamps = [name for name in self.header if name.casefold() in _STAMPS]
        self.stamp = stamps[0] if stamps else ""
        self.fields = inputs.split(",") if inputs else self._numeric()
        for name in self.fields:
            if name not in self.header:
                raise InputError(
                    f"no column `{name}`", place=f"{path}:1", hint=f"columns: {', '.join(self.header)}"
                )
        options = InferOptions(model=model, inputs=self.fields, calibration=calibration)
        self.step = infer.build("infer", options, key=self.key, bundles_dir=folder, base=Path())
        self.rejected = 0

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
        """Return the columns whose first hundred cells are numbers or empty."""
        with self._open() as lines:
            first = list(islice(csv.DictReader(lines, delimiter=self._dialect()), 100))
        skip = {self.stamp, self.key}
        names = [
            n for n in self.header
            if n not in skip
            and any(r[n] for r in first)
            and all(not r[n] or _number(r[n]) is not None for r in first)
        ]  # fmt: skip
        if not names:
            raise InputError("no column of numbers", place=str(self.path), hint="name them with --inputs")
        return names

    def rows(self) -> Iterator[tuple[dict[str, Any], float | None]]:
        """Yield (row as read, score)."""
        with self._open() as lines:
            reader = csv.DictReader(lines, delimiter=self._dialect())
            done = 0
            while batch := list(islice(self._good(reader), MAX_ROWS)):
                block = self._block(batch, done)
                (scored,) = self.step.process(block)
                yield from zip(batch, scored.columns[-1].to_list(Type.F64), strict=True)
                done += len(batch)

    def _good(self, reader: csv.DictReader[str]) -> Iterator[dict[str, Any]]:
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
        if self.rejected <= 10:
            click.echo(f"warning: {self.path}:{line}: {detail}, row left out", err=True)

    def _block(self, batch: list[dict[str, Any]], first: int) -> Block:
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


def _print_table(run: _Table, as_json: bool, out: Path | None, threshold: float) -> None:
    rows = anomalies = without = 0
    model = run.step.model  # type: ignore[attr-defined]
    picture = SeriesPicture(run.fields, threshold) if out and out.suffix.lower() in FORMATS else None
    handle = out.open("w", encoding="utf-8", newline="") if out and not picture else None
    writer = csv.writer(handle) if handle else None
    try:
        if writer:
            writer.writerow([*run.header, "anomaly"])
        for row, score in run.rows():
            rows += 1
            without += score is None
            marked = score is not None and score >= threshold
            anomalies += marked
            place = {k: row[k] for k in (run.stamp, run.key) if k}
            if as_json:
                click.echo(
                    json.dumps({"row": rows, **place, "anomaly": score, "model": model}, ensure_ascii=False)
                )
            elif marked:
                click.echo(f"row {rows}  {'  '.join(place.values())}  anomaly {score:.3f}")
            if picture:
                picture.add(row[run.key] if run.key else "", [_number(row[n]) for n in run.fields], score)
            if writer:
                writer.writerow([*(row[n] for n in run.header), "" if score is None else score])
    finally:
        if handle:
            handle.close()
    if picture and out:
        picture.write(out)
        if picture.left_out:
            click.echo(f"warning: {len(picture.left_out)} more devices are not in the picture", err=True)
    if not as_json:
        click.echo(
            f"{rows} rows, {anomalies} with anomaly >= {threshold:g}, {without} without a score "
            f"(calibrating), {run.rejected} left out; {model} on {', '.join(run.fields)}"
        )


def _facts(detection: Any, **more: Any) -> str:
    facts = {**more, "label": detection.label, "score": detection.score, "box": list(detection.box)}
    if detection.text is not None:
        facts |= {"text": detection.text, "text_score": detection.text_score}
    return json.dumps(facts, ensure_ascii=False)


def _show(detections: list[Any], as_json: bool, **more: Any) -> None:
    for d in detections:
        if as_json:
            click.echo(_facts(d, **more))
        else:
            where = "".join(f"{k} {v}  " for k, v in more.items())
            read = "" if d.text is None else f"  {d.text}"
            click.echo(f"{where}{d.label}  {d.score:.2f}  {' '.join(f'{v:.0f}' for v in d.box)}{read}")


def draw(frame: Any, detections: list[Any]) -> Any:
    """Return a copy of the frame, BGR uint8 (h, w, 3), with boxes and labels on it."""
    import cv2

    out = frame.copy()
    size = max(0.4, max(out.shape[:2]) / 1200)
    line = max(1, round(2 * size))
    labels = sorted({d.label for d in detections})
    for d in detections:
        colour = _PALETTE[labels.index(d.label) % len(_PALETTE)]
        x1, y1, x2, y2 = (round(v) for v in d.box)
        cv2.rectangle(out, (x1, y1), (x2, y2), colour, line)
        text = f"{d.label} {d.score:.2f}"
        (w, h), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, line)
        top = y1 - base if y1 - h - 2 * base >= 0 else y1 + h + base
        cv2.rectangle(out, (x1, top - h - base), (x1 + w, top + base), colour, -1)
        cv2.putText(out, text, (x1, top), cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), line, cv2.LINE_AA)
    return out


def _image(detector: Any, source: Path, out: Path | None, as_json: bool) -> None:
    from forebay.pictures import decode

    try:
        frame = decode(source.read_bytes())
    except InputError as error:
        raise InputError(error.message, place=str(source)) from None
    found = detector.detect_labelled(frame)
    _show(found, as_json)
    if out:
        import cv2

        try:
            written = cv2.imwrite(str(out), draw(frame, found))
        except cv2.error:
            written = False
        if not written:
            raise InputError("cannot be written", place=str(out), hint="end the name in .png or .jpg")
    if not as_json:
        click.echo(f"{len(found)} detections; {detector.model}")


def _video(detector: Any, source: Path, out: Path | None, as_json: bool, told: Progress | None) -> None:
    from forebay.videos import Video, Writer, codec_of

    video = Video(source)
    if out:
        codec_of(out, "")
    frames = objects = 0
    with ExitStack() as stack:
        writer = None
        for frame in video:
            found = detector.detect_labelled(frame)
            _show(found, as_json, frame=frames)
            frames, objects = frames + 1, objects + len(found)
            if told is not None:
                told.part(frames, video.announced)
            if out:
                writer = writer or stack.enter_context(Writer(out, video, frame.shape))
                writer.write(draw(frame, found))
    if told is not None:
        told.end()
    if not as_json:
        click.echo(f"{frames} frames, {objects} detections; {detector.model}")
