"""`forebay mask`: files, folders and pipes through a masking policy."""

from __future__ import annotations

import io
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import click

from forebay.cli.progress import Progress
from forebay.errors import ConfigError, ForebayError, InputError, MissingExtra
from forebay.mask import Detector, Policy, load_policy
from forebay.mask import files as mask_files
from forebay.mask.files import Report
from forebay.mask.images import Covered, ImageMasker
from forebay.mask.records import RecordMasker

DetectorProvider = Callable[[int | None], Mapping[str, Detector]]
"""Returns the detectors by class, for the policy's `tiles`. Handed in by whoever wires the rooms together."""

_FORMATS = ("auto", "jsonl", "json", "csv", "text", "image", "video")


def load_detectors(tiles: int | None) -> Mapping[str, Detector]:
    """Return detectors that load when the first picture needs them."""
    from forebay.detectors import Detectors

    return Detectors(tiles)


@click.command("mask", short_help="Put files through a masking policy.")
@click.argument("policy", default="base")
@click.option(
    "-i", "--input", "source", type=click.Path(path_type=Path), help="File or folder; stdin if none."
)
@click.option(
    "-o", "--output", "target", type=click.Path(path_type=Path), help="File or folder; else stdout."
)
@click.option("--format", "form", type=click.Choice(_FORMATS), default="auto", help="How to read the input.")
@click.option("--stream", default="", help="Stream name for rules of the form `stream.field`.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--report", "report_path", type=click.Path(path_type=Path), help="Also write it to a file.")
@click.option(
    "--progress", "show_progress", is_flag=True, help="Tell how far it is, also where stderr is no terminal."
)
@click.option("--explain", is_flag=True, help="Say on stderr where each hit was and what was done to it.")
def mask_command(
    policy: str,
    source: Path | None,
    target: Path | None,
    form: str,
    stream: str,
    as_json: bool,
    report_path: Path | None,
    show_progress: bool,
    explain: bool,
) -> None:
    """Mask JSON lines, CSV, text, a picture, a video or a folder of them.

    POLICY is `base` (the default), `strict` or a policy file. Lines in are lines out, in the same order, with
    names and formats kept. The report goes to stderr; with --json and an output file it goes to stdout.
    """
    try:
        loaded = load_policy(policy, Path())
        told = Progress() if show_progress or sys.stderr.isatty() else None
        run = MaskRun(loaded, form, stream, explain, load_detectors, told)
        _check_paths(source, target)
    except ConfigError as error:
        click.echo(f"forebay mask: {error}", err=True)
        raise SystemExit(2) from None
    began = time.monotonic()
    try:
        run.mask(source, target)
    except ConfigError as error:
        click.echo(f"forebay mask: {error}", err=True)
        raise SystemExit(2) from None
    except (ForebayError, OSError) as error:
        reason = error if isinstance(error, ForebayError) else error.strerror or type(error).__name__
        click.echo(f"forebay mask: {reason}", err=True)
        raise SystemExit(1) from None
    if told is not None:
        told.end()
    _print_report(run.report, time.monotonic() - began, as_json, target is not None, report_path)
    if run.report.failed:
        raise SystemExit(1)


class MaskRun:
    """One call of the command: a policy, its maskers and the report.

    Parameters
    ----------
    policy : what to do
    form : one of `auto`, `jsonl`, `json`, `csv`, `text`, `image`, `video`
    stream : name that field rules and zones know the input by
    explain : tell where each hit was
    provider : loads the detectors that the policy's image rules need, when the first picture comes
    progress : told of files and frames
    """

    def __init__(
        self,
        policy: Policy,
        form: str,
        stream: str,
        explain: bool,
        provider: DetectorProvider,
        progress: Progress | None = None,
    ) -> None:
        self.policy = policy
        self.report = Report(policy=f"{policy.name} v{policy.version}", policy_hash=policy.hash)
        self._form = form
        self._stream = stream
        self._provider = provider
        self._progress = progress
        self._file = ""  # of a folder, while one is masked
        self._images: ImageMasker | None = None
        self._explains = explain
        self._records = RecordMasker(policy, stream, self._explain if explain else None)
        self._records.hits = self.report.hits

    def mask(self, source: Path | None, target: Path | None) -> None:
        """Mask the input to the output. Raises ForebayError, OSError."""
        if source is not None and source.is_dir():
            assert target is not None
            self._folder(source, target)
            return
        with ExitStack() as stack:
            raw: BinaryIO = sys.stdin.buffer if source is None else stack.enter_context(source.open("rb"))
            reader = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast(Any, raw))
            head = reader.peek(4096)[:4096]
            suffix = "" if source is None else source.suffix.lower()
            form = mask_files.guess_format(head, suffix) if self._form == "auto" else self._form
            self.report.files = max(1, self.report.files)
            if form == "video":
                self._video(source, target)
                return
            writer: BinaryIO
            writer = (
                sys.stdout.buffer if target is None else stack.enter_context(mask_files.replacing(target))
            )
            if form == "image":
                out_suffix = (target.suffix if target else suffix).lower()
                name = "" if source is None else source.name
                writer.write(self._image(reader.read(), out_suffix or ".jpg", name))
            else:
                size = source.stat().st_size if source is not None else 0
                mask_files.mask_lines(
                    reader, writer, form, self._records, self.report, lambda read: self._read(read, size)
                )
            writer.flush()

    def _folder(self, source: Path, target: Path) -> None:
        known = {*mask_files.IMAGE_SUFFIXES, *mask_files.VIDEO_SUFFIXES, *mask_files.TEXT_SUFFIXES}
        paths = sorted(p for p in source.rglob("*") if p.is_file())
        self.report.files = len(paths)
        for number, path in enumerate(paths, start=1):
            name = path.relative_to(source)
            if path.suffix.lower() not in known:
                self.report.skipped.append(str(name))
                continue
            self._file = str(name)
            if self._progress is not None:
                self._progress.file(str(name), number, len(paths))
            out = target / name
            out.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.mask(path, out)
            except ConfigError:
                raise
            except (ForebayError, OSError) as error:
                # the text of the error is about the file, and the file's place tells which one
                reason = getattr(error, "message", type(error).__name__)
                hint = f" ({error.hint})" if isinstance(error, MissingExtra) else ""
                self.report.failed.append(f"{name}: {reason}{hint}")

    def _read(self, done: int, size: int) -> None:
        if self._progress is not None:
            self._progress.read(done, size)

    def _explain(self, line: int, name: str, start: int, end: int, class_name: str, operator: str) -> None:
        """Say where a hit was; of a folder the file, too."""
        if self._progress is not None:
            self._progress.end()
        place = f"{self._file}:{line}" if self._file else f"line {line}"
        where = f"bytes {start}-{end}" if end else "whole"
        click.echo(f"{place}: {name}: {where}: {class_name}: {operator}", err=True)

    def _explain_picture(self, covered: Covered) -> None:
        self._explain_region(self._file or "picture", covered)

    def _explain_frame(self, number: int, covered: Covered) -> None:
        """Say what was covered in a frame of a video, the first one being 0."""
        self._explain_region(f"{self._file}:{number}" if self._file else f"frame {number}", covered)

    def _explain_region(self, place: str, covered: Covered) -> None:
        """Say what was covered, in the form of hits in text: place, by whom, where, class, what was done."""
        if self._progress is not None:
            self._progress.end()
        left, top, right, bottom = covered.box
        done = covered.operator if covered.score is None else f"{covered.operator}, score {covered.score:.2f}"
        where = f"pixels {left},{top}-{right},{bottom}"
        click.echo(f"{place}: {covered.by}: {where}: {covered.kind}: {done}, {covered.rule}", err=True)

    def _image(self, data: bytes, suffix: str, name: str) -> bytes:
        if suffix not in mask_files.IMAGE_SUFFIXES:
            raise InputError(f"cannot write a picture as `{suffix}`", hint="name the output .jpg or .png")
        if self._pictures_pass():
            return data
        quality = self.policy.options.images.quality
        with _detectors_may_fail("picture"):
            return mask_files.mask_image(
                data, suffix, quality, self._masker(), self.report, stream=self._stream, name=name,
                tell=self._explain_picture if self._explains else None,
            )  # fmt: skip

    def _video(self, source: Path | None, target: Path | None) -> None:
        if source is None or target is None:
            raise ConfigError(
                "a video needs files to come from and to go to", hint="forebay mask -i IN -o OUT"
            )
        if self._pictures_pass():
            with mask_files.replacing(target) as writer, source.open("rb") as reader:
                shutil.copyfileobj(reader, writer)
            return
        from forebay.mask.video import mask_video

        part = None if self._progress is None else self._progress.part
        hold_ns = self.policy.options.images.hold
        with _detectors_may_fail("video"):
            mask_video(
                source, target, self._masker(), hold_ns, self.report,
                stream=self._stream, name=source.name, progress=part,
                tell=self._explain_frame if self._explains else None,
            )  # fmt: skip

    def _pictures_pass(self) -> bool:
        treatment = self.policy.options.undeclared.image
        if treatment == "suppress":
            raise InputError(
                f"policy `{self.policy.name}` suppresses pictures that nobody declared",
                hint="use `base`, or set undeclared.image to mask",
            )
        return treatment == "pass"

    def _masker(self) -> ImageMasker:
        if self._images is None:
            self._images = ImageMasker(self.policy, self._provider(self.policy.options.images.tiles))
        return self._images


@contextmanager
def _detectors_may_fail(what: str) -> Iterator[None]:
    try:
        yield
    except (ForebayError, OSError):
        raise
    except Exception as error:
        raise InputError(f"a detector failed ({type(error).__name__}), so the {what} is kept") from error


def _check_paths(source: Path | None, target: Path | None) -> None:
    if source is not None and not source.exists():
        raise ConfigError("there is no such file or folder", place=str(source))
    if source is not None and source.is_dir():
        if target is None:
            raise ConfigError("a folder needs a folder to go to", hint="forebay mask -i IN -o OUT")
        inside = target.resolve().is_relative_to(source.resolve())
        if inside and target.resolve() != source.resolve():
            raise ConfigError("the output folder lies inside the input folder", place=str(target))
    elif target is not None and not target.parent.is_dir():
        raise ConfigError("there is no such folder", place=str(target.parent))


def _print_report(
    report: Report, seconds: float, as_json: bool, stdout_free: bool, path: Path | None
) -> None:
    body = json.dumps({**report.to_dict(), "seconds": round(seconds, 3)}, ensure_ascii=False)
    if path is not None:
        path.write_text(body + "\n", encoding="utf-8")
    if as_json:
        click.echo(body, err=not stdout_free)
        return
    click.echo(f"policy {report.policy} ({report.policy_hash[:12]})", err=True)
    counts = [f"{report.lines} lines", f"{report.images} pictures"]
    if report.videos:
        counts.append(f"{report.videos} videos of {report.frames} frames")
    counts.append(f"{report.bytes_in} bytes in")
    counts += [f"{report.bytes_out} bytes out", f"{seconds:.2f} s"]
    click.echo(", ".join(counts), err=True)
    for name, count in (("broken", report.broken_lines), ("oversized", report.oversized_lines)):
        if count:
            click.echo(f"{count} {name} lines", err=True)
    if report.headers_masked:
        click.echo(
            f"{report.headers_masked} tables hold an identifier in their first line: if that is no header, no column's"
            " name vouched for what stands below it, and a name alone in its cell may have passed; give it a header",
            err=True,
        )
    for rule, count in sorted(report.hits.items()):
        click.echo(f"  {rule:<24} {count}", err=True)
    for kind, count in sorted(report.frames_with.items()):
        click.echo(f"  frames with {kind:<12} {count}", err=True)
    for name in report.audio_dropped:
        click.echo(f"  sound left out: {name}", err=True)
    for name in report.pages_dropped:
        click.echo(f"  only the first page or frame written: {name}", err=True)
    for name in report.skipped:
        click.echo(f"  not copied, of no known kind: {name}", err=True)
    for name in report.failed:
        click.echo(f"  failed, not written: {name}", err=True)
