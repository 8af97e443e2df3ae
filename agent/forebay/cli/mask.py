"""`forebay mask`: files, folders and pipes through a masking policy."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, cast

import click

from forebay.errors import ConfigError, ForebayError, InputError
from forebay.mask import Detector, Policy, load_policy
from forebay.mask import files as mask_files
from forebay.mask.files import Report
from forebay.mask.images import ImageMasker
from forebay.mask.records import RecordMasker

DetectorProvider = Callable[[str], Detector]
"""Returns the detector of a bundle by its name. Handed in by whoever wires the rooms together."""

BUNDLES = {"face": "faces", "plate": "plates-cn", "person": "street-objects"}
_FORMATS = ("auto", "jsonl", "json", "csv", "text", "image")


def load_from_infer(bundle: str) -> Detector:
    """Load a detector from the infer room, only when a picture is to be masked. Raises ForebayError."""
    try:
        from importlib import import_module

        vision = import_module("forebay.infer.vision")
    except ImportError as error:
        raise ForebayError(
            "this installation cannot detect anything in pictures", hint="pip install 'forebay[vision]'"
        ) from error
    return cast(Detector, vision.load_detector(bundle))


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
@click.option("--explain", is_flag=True, help="Say on stderr where each hit was and what was done to it.")
def mask_command(
    policy: str,
    source: Path | None,
    target: Path | None,
    form: str,
    stream: str,
    as_json: bool,
    report_path: Path | None,
    explain: bool,
) -> None:
    """Mask JSON lines, CSV, text, a picture or a folder of them.

    POLICY is `base` (the default), `strict` or a policy file. Lines in are lines out, in the same order, with
    names and formats kept. The report goes to stderr; with --json and an output file it goes to stdout.
    """
    try:
        loaded = load_policy(policy, Path())
        run = MaskRun(loaded, form, stream, explain, load_from_infer)
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
    _print_report(run.report, time.monotonic() - began, as_json, target is not None, report_path)
    if run.report.failed:
        raise SystemExit(1)


class MaskRun:
    """One call of the command: a policy, its maskers and the report.

    Parameters
    ----------
    policy : what to do
    form : one of `auto`, `jsonl`, `json`, `csv`, `text`, `image`
    stream : name that field rules know the input by
    explain : tell where each hit was
    provider : loads the detectors that the policy's image rules need, when the first picture comes
    """

    def __init__(
        self, policy: Policy, form: str, stream: str, explain: bool, provider: DetectorProvider
    ) -> None:
        self.policy = policy
        self.report = Report(policy=f"{policy.name} v{policy.version}", policy_hash=policy.hash)
        self._form = form
        self._provider = provider
        self._detectors: dict[str, Detector] | None = None
        self._records = RecordMasker(policy, stream, _explain if explain else None)
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
            self.report.files = 1
            writer: BinaryIO
            writer = (
                sys.stdout.buffer if target is None else stack.enter_context(mask_files.replacing(target))
            )
            if form == "image":
                out_suffix = (target.suffix if target else suffix).lower()
                writer.write(self._image(reader.read(), out_suffix or ".jpg"))
            else:
                mask_files.mask_lines(reader, writer, form, self._records, self.report)
            writer.flush()

    def _folder(self, source: Path, target: Path) -> None:
        for path in sorted(p for p in source.rglob("*") if p.is_file()):
            name = path.relative_to(source)
            suffix = path.suffix.lower()
            if suffix not in mask_files.IMAGE_SUFFIXES and suffix not in mask_files.TEXT_SUFFIXES:
                self.report.skipped.append(str(name))
                continue
            out = target / name
            out.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.mask(path, out)
            except ConfigError:
                raise
            except (ForebayError, OSError) as error:
                # the text of the error is about the file, and the file's place tells which one
                self.report.failed.append(f"{name}: {getattr(error, 'message', type(error).__name__)}")
        self.report.files = sum(1 for p in source.rglob("*") if p.is_file())

    def _image(self, data: bytes, suffix: str) -> bytes:
        images = ImageMasker(self.policy, self._load_detectors())
        if suffix not in mask_files.IMAGE_SUFFIXES:
            raise InputError(f"cannot write a picture as `{suffix}`", hint="name the output .jpg or .png")
        treatment = self.policy.options.undeclared.image
        if treatment == "suppress":
            raise InputError(
                f"policy `{self.policy.name}` suppresses pictures that nobody declared",
                hint="use `base`, or set undeclared.image to mask",
            )
        if treatment == "pass":
            return data
        try:
            return mask_files.mask_image(
                data, suffix, self.policy.options.images.quality, images, self.report
            )
        except ForebayError:
            raise
        except Exception as error:
            raise InputError(f"a detector failed ({type(error).__name__}), so the picture is kept") from error

    def _load_detectors(self) -> Mapping[str, Detector]:
        if self._detectors is None:
            self._detectors = {kind: self._provider(BUNDLES[kind]) for kind in self.policy.image_classes}
        return self._detectors


def _explain(line: int, name: str, start: int, end: int, class_name: str, operator: str) -> None:
    click.echo(f"line {line}: {name}: bytes {start}-{end}: {class_name}: {operator}", err=True)


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
    counts = [f"{report.lines} lines", f"{report.images} pictures", f"{report.bytes_in} bytes in"]
    counts += [f"{report.bytes_out} bytes out", f"{seconds:.2f} s"]
    click.echo(", ".join(counts), err=True)
    for name, count in (("broken", report.broken_lines), ("oversized", report.oversized_lines)):
        if count:
            click.echo(f"{count} {name} lines", err=True)
    for rule, count in sorted(report.hits.items()):
        click.echo(f"  {rule:<24} {count}", err=True)
    for name in report.skipped:
        click.echo(f"  not copied, of no known kind: {name}", err=True)
    for name in report.failed:
        click.echo(f"  failed, not written: {name}", err=True)
