"""Options of the file source. Stand-in until the real one is merged."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from forebay.config.base import ConfigPath, Options


class TimeOptions(Options):
    """Where a row's time is."""

    field: str = "time"
    """Name of the field."""
    unit: Literal["s", "ms", "us", "ns"] | None = None
    """Unit of numbers; ISO 8601 text needs none."""
    zone: str = ""
    """Zone of naive times."""


class FileOptions(Options):
    """Files: CSV, JSON lines, pictures, video."""

    type: Literal["file"] = "file"
    path: ConfigPath
    """The file or folder."""
    format: Literal["csv", "jsonl", "images", "video"] = "csv"
    """How it is written."""
    time: TimeOptions = Field(default_factory=TimeOptions)
    """Where the time is."""


SOURCE_OPTIONS: dict[str, type[Options]] = {"file": FileOptions}
