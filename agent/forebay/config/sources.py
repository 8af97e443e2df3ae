"""Options of the `sources:` section, by `type`."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field as Option
from pydantic import field_validator, model_validator

from forebay.config.base import ConfigPath, Duration, Options, Size
from forebay.config.zones import known_zone

Format = Literal["csv", "jsonl", "images", "video"]

_SUFFIXES: dict[str, Format] = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".log": "jsonl",
    ".jpg": "images", ".jpeg": "images", ".png": "images", ".bmp": "images", ".webp": "images",
    ".tif": "images", ".tiff": "images",
    ".mp4": "video", ".avi": "video", ".mkv": "video", ".mov": "video", ".webm": "video", ".m4v": "video",
}  # fmt: skip


class TimeOptions(Options):
    """Where a row's time comes from."""

    field: str = Option(min_length=1, max_length=512)
    """Name of the field in the source; `a.b` for a key inside an object."""

    unit: Literal["s", "ms", "us", "ns"] | None = None
    """Unit of times that are numbers (since 1970 UTC). Without it times are ISO 8601 text."""

    zone: str | None = None
    """Zone of times whose text names none, e.g. `Asia/Shanghai` or `+08:00`. Without it such rows are rejected."""

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str | None) -> str | None:
        return known_zone(zone)

    @model_validator(mode="after")
    def _one_kind(self) -> TimeOptions:
        if self.unit is not None and self.zone is not None:
            raise ValueError("`unit` is for numbers since 1970 UTC, `zone` for text: give one of them")
        return self


class FileOptions(Options):
    """Files: CSV, JSON lines, a folder of images, a video."""

    type: Literal["file"] = "file"
    """Kind of source."""

    path: ConfigPath
    """A file, a folder or a pattern such as `logs/*.csv`, relative to the configuration file."""

    format: Format | None = None
    """What the file holds; guessed from the suffix if not given."""

    time: TimeOptions | None = None
    """Where a row's time comes from. Without it rows are stamped on arrival by the gateway's clock."""

    follow: bool = False
    """Go on at the end as `tail -F` does, through renames and truncation. Without it the source ends."""

    delimiter: str = ","
    """What separates CSV cells: one character, or `tab`."""

    columns: tuple[str, ...] | None = Option(default=None, min_length=1)
    """Names of the CSV columns, if the file has no header row."""

    max_line: Size = Option(default=1024 * 1024, ge=1024, le=64 * 1024 * 1024)
    """Longest record; a longer one is skipped and counted as `size`."""

    every: int = Option(default=1, ge=1)
    """Video: take one frame in so many."""

    fps: float | None = Option(default=None, gt=0, le=240)
    """Video: take at most so many frames for each second of the recording (instead of `every`)."""

    start: str | None = None
    """Video: when the recording starts, ISO 8601 with a zone; without it the file's time of change. Rows: `beginning`
    (they may come twice) or `end` (some may be missing), where neither the spool nor the center knows how far the file
    was read; without it the source is held then."""

    settle: Duration = 2_000_000_000
    """Images with `follow`: a file is taken when it has not changed for so long."""

    @field_validator("delimiter")
    @classmethod
    def _one_byte(cls, text: str) -> str:
        text = "\t" if text in ("tab", "\\t") else text
        if len(text) != 1 or not 0 < ord(text) < 128 or text in '"\r\n':
            raise ValueError("expected one ASCII character such as `;`, or `tab`")
        return text

    @field_validator("start")
    @classmethod
    def _instant(cls, text: str | None) -> str | None:
        if text not in (None, *_STARTS) and not re.fullmatch(
            r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?(Z|z|[+-]\d\d:?\d\d)", text
        ):
            raise ValueError("expected a time with its zone such as `2024-05-01T08:00:00+08:00`")
        return text

    @model_validator(mode="after")
    def _fits_together(self) -> FileOptions:
        kind = self.format or guess_format(self.path.name)
        if kind is None and not any(c in self.path.name for c in "*?["):
            # A folder cannot be told from a file without a look at the disk, which options do not take.
            if self.path.suffix:
                raise ValueError("cannot tell the format from the suffix: add `format: csv` or another")
            kind = "images"
        if kind is None:
            raise ValueError("cannot tell the format from the path: add `format: csv` or another")
        if kind == "video" and self.follow:
            raise ValueError("`follow` does not go with a video file")
        if kind in ("images", "video") and self.time is not None:
            raise ValueError(f"`time` does not go with {kind}: their rows take the file's time")
        if kind != "video" and (self.every != 1 or self.fps is not None):
            raise ValueError("`every` and `fps` are for videos")
        self._check_start(kind)
        if self.every != 1 and self.fps is not None:
            raise ValueError("`every` and `fps` say the same: give one of them")
        if kind != "csv" and (self.columns is not None or self.delimiter != ","):
            raise ValueError("`columns` and `delimiter` are for CSV")
        return self

    def _check_start(self, kind: Format) -> None:
        where = self.start in _STARTS
        if self.start is not None and kind == "images":
            raise ValueError("`start` does not go with images")
        if where and kind == "video":
            raise ValueError("expected when the recording starts, such as `2024-05-01T08:00:00+08:00`")
        if self.start is not None and not where and kind != "video":
            raise ValueError("expected `beginning` or `end`: a time is for videos")

    @property
    def on_unknown(self) -> Literal["hold", "beginning", "end"]:
        """What to do where nobody knows how far the file was read."""
        return "beginning" if self.start == "beginning" else "end" if self.start == "end" else "hold"

    @property
    def actual_format(self) -> Format:
        """Format as given or as guessed."""
        return self.format or guess_format(self.path.name) or "images"

    @property
    def actual_delimiter(self) -> str:
        """Delimiter; a tab for *.tsv unless another is given."""
        return "\t" if self.delimiter == "," and self.path.suffix.lower() == ".tsv" else self.delimiter


_STARTS = ("beginning", "end")


def guess_format(name: str) -> Format | None:
    """Return the format that a file name's suffix stands for, None if it stands for none."""
    dot = name.rfind(".")
    return _SUFFIXES.get(name[dot:].lower()) if dot >= 0 else None


SOURCE_OPTIONS: dict[str, type[Options]] = {"file": FileOptions}
"""Options class by `type`."""
