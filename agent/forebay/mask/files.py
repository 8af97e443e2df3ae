"""Mask whole files and folders: what `forebay mask` does, without its command line.

Output is written beside its target and renamed when it is whole, so input and output may be the same file.
"""

from __future__ import annotations

import io
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

from forebay.errors import InputError, MaskError
from forebay.mask import tables
from forebay.mask.images import ImageMasker, Tell
from forebay.mask.records import RecordMasker, mask_json_lines
from forebay.pictures import decode_deep, encode, read_header

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".ts", ".flv")
TEXT_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "csv"}
TEXT_SUFFIXES |= {".txt": "text", ".log": "text"}
MAX_LINE_BYTES = 64 * 1024 * 1024
_BATCH_LINES = 2000
_BATCH_BYTES = 4 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
# Three signs of ASCII, of two or four bytes each.
_WIDE = re.compile(rb"(?:[ -~]\0){3}|(?:\0[ -~]){3}|(?:[ -~]\0\0\0){3}|(?:\0\0\0[ -~]){3}")


@dataclass(slots=True)
class Report:
    """What was done, in numbers: never a value."""

    policy: str = ""
    policy_hash: str = ""
    lines: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    broken_lines: int = 0
    oversized_lines: int = 0
    headers_masked: int = 0  # tables whose first line holds an identifier: they may have no header
    images: int = 0
    videos: int = 0
    frames: int = 0
    frames_with: Counter[str] = field(default_factory=Counter)  # frames of videos in which a class was found
    files: int = 0
    pages_dropped: list[str] = field(default_factory=list)
    audio_dropped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    hits: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        body = {name: getattr(self, name) for name in self.__slots__ if name != "hits"}
        return {**body, "hits": dict(sorted(self.hits.items()))}


def guess_format(head: bytes, suffix: str) -> str:
    """Return `jsonl`, `json`, `csv`, `text`, `image` or `video`, by the name and else by how the input begins."""
    if suffix in IMAGE_SUFFIXES or head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
        return "image"
    if suffix in VIDEO_SUFFIXES:
        return "video"
    if suffix in TEXT_SUFFIXES:
        return TEXT_SUFFIXES[suffix]
    _refuse_wide(head[:4])
    text = head.removeprefix(_BOM).lstrip()
    if text[:1] in (b"{", b"["):
        return "jsonl"
    first = text.split(b"\n", 1)[0].decode("utf-8", "replace")
    names = first.split(tables.find_delimiter(first))
    plausible = len(names) > 1 and all(0 < len(n.strip()) <= 64 for n in names)
    return "csv" if plausible and not any(c.isdigit() for n in names for c in n[:1]) else "text"


def mask_lines(
    source: BinaryIO,
    target: BinaryIO,
    form: str,
    masker: RecordMasker,
    report: Report,
    progress: Callable[[int], None] = lambda _read: None,
) -> None:
    """Mask a stream of lines. `form` is `jsonl`, `json`, `csv` or `text`. `progress` is told the bytes read so far."""
    began = report.bytes_in
    masker.first_line = 1  # it may have masked another file before
    if form == "json":
        source = _whole_document(source, target, masker, report)
        form = "jsonl"
    writer = _Lines(target, form, masker, report)
    batch: list[_Line] = []
    held = 0
    for line in _read_lines(source, report):
        batch.append(line)
        held += len(line.text)
        if len(batch) >= _BATCH_LINES or held >= _BATCH_BYTES:
            batch = writer.write(batch, at_end=False)
            held = sum(len(x.text) for x in batch)
            masker.tell()
            progress(report.bytes_in - began)
    writer.write(batch, at_end=True)
    masker.tell()


def _whole_document(source: BinaryIO, target: BinaryIO, masker: RecordMasker, report: Report) -> BinaryIO:
    # A document over several lines. What is none is handed back to be masked line by line.
    data = source.read(MAX_LINE_BYTES + 1)
    rest = io.BytesIO(data)
    if len(data) > MAX_LINE_BYTES:
        raise InputError(f"a JSON document has at most {MAX_LINE_BYTES} bytes", hint="use JSON lines")
    try:
        text = data.decode()
        json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return rest
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    text = text.removeprefix("\ufeff")
    masker.over_lines(text)
    out = (mark + mask_json_lines([text], masker, lambda: None)[0]).encode()
    report.lines += len(data.splitlines())
    report.bytes_in += len(data)
    report.bytes_out += len(out)
    target.write(out)
    return io.BytesIO()


def mask_image(
    data: bytes,
    suffix: str,
    quality: int,
    masker: ImageMasker,
    report: Report,
    *,
    stream: str = "",
    name: str = "",
    tell: Tell | None = None,
) -> bytes:
    """Return a picture masked, in the format of `suffix`. Raises ForebayError or what a detector raises.

    Grey stays grey and 16 bits stay 16 bits where the format can hold them; alpha and further pages go.
    """
    hits: Counter[str] = Counter()
    out = encode(masker.mask_frame(decode_deep(data), hits, stream, tell), suffix, quality)
    if read_header(data).more:
        report.pages_dropped.append(name)
    report.hits.update(hits)
    report.images += 1
    report.bytes_in += len(data)
    report.bytes_out += len(out)
    return out


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside `path` and rename it to `path` if all goes well, else remove it."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@dataclass(slots=True)
class _Line:
    text: str
    end: bytes  # \n, \r\n or nothing
    encoding: str  # utf-8, gb18030, or latin-1 for bytes that are neither


def _refuse_wide(raw: bytes) -> None:
    # Digits with zeros between them are none to the search: such a text would pass as it is.
    if raw.startswith(_WIDE_BOMS) or (b"\0" in raw and _WIDE.search(raw)):
        raise InputError("the input is UTF-16 or UTF-32", hint="iconv -f UTF-16 -t UTF-8 IN > OUT")


def _read_lines(source: BinaryIO, report: Report) -> Iterator[_Line]:
    while True:
        raw = source.readline(MAX_LINE_BYTES + 1)
        if not raw:
            return
        _refuse_wide(raw)
        report.lines += 1
        report.bytes_in += len(raw)
        if len(raw) > MAX_LINE_BYTES and not raw.endswith(b"\n"):
            end = _skip_line(source, report)
            report.oversized_lines += 1
            yield _Line("null", end, "utf-8")
            continue
        body = raw.rstrip(b"\r\n") if raw.endswith(b"\n") else raw
        yield _decode(body, raw[len(body) :])


def _skip_line(source: BinaryIO, report: Report) -> bytes:
    while True:
        raw = source.readline(MAX_LINE_BYTES)
        report.bytes_in += len(raw)
        if not raw or raw.endswith(b"\n"):
            return raw[-1:]


def _decode(body: bytes, end: bytes) -> _Line:
    # Files of older Chinese systems are GB18030. Their second bytes may be ASCII letters, which would stand
    # before a number and hide it, so they are not searched as they are.
    for encoding in ("utf-8", "gb18030"):
        try:
            return _Line(body.decode(encoding), end, encoding)
        except UnicodeDecodeError:
            continue
    return _Line(body.decode("latin-1"), end, "latin-1")


class _Lines:
    """Masks batches of lines and writes them."""

    def __init__(self, target: BinaryIO, form: str, masker: RecordMasker, report: Report) -> None:
        self._target, self._form, self._masker, self._report = target, form, masker, report
        self._header: list[str] | None = None
        self._delimiter = ","

    def write(self, lines: list[_Line], at_end: bool) -> list[_Line]:
        """Mask and write; return the lines of a record that is not complete yet."""
        if not lines:
            return []
        if self._form == "csv":
            rest = self._write_csv(lines, at_end)
            self._masker.first_line += len(lines) - len(rest)
            return rest
        if self._form == "text":
            return self._write_text(lines, at_end)
        texts = [line.text for line in lines]
        masked = mask_json_lines([t.removeprefix("\ufeff") for t in texts], self._masker, self._broken)
        for line, before, after in zip(lines, texts, masked, strict=True):
            mark = "\ufeff" if before.startswith("\ufeff") else ""
            self._put(mark + after, line)
        self._masker.first_line += len(lines)
        return []

    def _write_text(self, lines: list[_Line], at_end: bool) -> list[_Line]:
        # Lines that an identifier goes over are masked as one text, and their line ends are kept. The last line
        # waits for the next batch: it may go on there.
        broken = self._masker.breaks([line.text for line in lines])
        groups: list[list[_Line]] = []
        for number, line in enumerate(lines):
            if number - 1 in broken:
                groups[-1].append(line)
            else:
                groups.append([line])
        rest = [] if at_end or len(groups) == 1 else groups.pop()
        starts = list(accumulate((len(group) for group in groups), initial=0))
        texts = ["\n".join(line.text for line in group) for group in groups]
        for group, text in zip(groups, self._masker.mask_text(texts, starts[:-1]), strict=True):
            pieces = text.split("\n")
            pieces += [""] * (len(group) - len(pieces))
            if len(pieces) != len(group):
                raise MaskError("masking changed the number of lines")
            for line, piece in zip(group, pieces, strict=True):
                self._put(piece, line)
        self._masker.first_line += starts[-1]
        return rest

    def _write_csv(self, lines: list[_Line], at_end: bool) -> list[_Line]:
        start = 0
        if self._header is None:
            # names are no data, but a file without a header has its first record in their place
            self._delimiter = tables.find_delimiter(lines[0].text)
            self._header = tables.header_names(lines[0].text.removeprefix("\ufeff"), self._delimiter)
            names = self._masker.mask_text([lines[0].text], [0], is_key=True)[0]
            self._report.headers_masked += names != lines[0].text
            self._put(names, lines[0])
            start = 1
        records, used = tables.split_records([line.text for line in lines[start:]], at_end)
        self._masker.first_line += start
        masked = tables.mask_csv_records(records, self._header, self._delimiter, self._masker, self._broken)
        self._masker.first_line -= start
        at = done = start
        for record, text in zip(records, masked, strict=True):
            for piece in text.split("\n"):
                self._put(piece, lines[at])
                at += 1
            if at != (done := done + len(record)):
                raise MaskError("masking changed the number of lines of a record")
        return lines[start + used :]

    def _put(self, text: str, line: _Line) -> None:
        data = text.encode(line.encoding, "replace") + line.end
        self._report.bytes_out += len(data)
        self._target.write(data)

    def _broken(self) -> None:
        self._report.broken_lines += 1
