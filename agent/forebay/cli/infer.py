"""`forebay infer`: one model on a CSV file, an image or a video."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from forebay.cli.progress import Progress
from forebay.errors import ForebayError, InputError

VIDEO = {".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".ts", ".flv"}
TABLE = {".csv", ".tsv", ".txt"}
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
    "--calibration",
    type=click.IntRange(32),
    help="Readings that a series learns from before it gives a score; 256 by default.",
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
    calibration: int | None,
) -> None:
    """Run MODEL (a bundle's name or path) on INPUT: CSV, image or video."""
    try:
        if out is not None and out.exists() and out.samefile(source):
            raise InputError("would be overwritten by `-o`", place=str(source), hint="give another name")
        if out is not None and not out.parent.is_dir():
            raise InputError("cannot be written: no such folder", place=str(out))
        if source.suffix.lower() in TABLE:
            if classes or tiles != 1 or read:
                raise click.UsageError("--class, --tiles and --read go with images")
            if out is not None and out.suffix.lower() in VIDEO:
                raise click.UsageError("--out: a table is written as .csv or drawn as .png or .jpg")
            from forebay.cli.infer_table import Table, print_table

            run = Table(source, model, folder, inputs, key, calibration)
            print_table(run, as_json, out, threshold)
            return
        if inputs or key or calibration:
            raise click.UsageError("--inputs, --key and --calibration go with CSV")
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
        left = max(0, min(x1, out.shape[1] - w))
        cv2.rectangle(out, (left, top - h - base), (left + w, top + base), colour, -1)
        cv2.putText(
            out, text, (left, top), cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), line, cv2.LINE_AA
        )
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
