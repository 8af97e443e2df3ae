"""Crash reports: what kind of error, where in the code, in which version. Never an error's text: it may quote data."""

from __future__ import annotations

import json
import logging
import os
import platform
import traceback
from pathlib import Path
from typing import Any

from forebay import __version__
from forebay.clock import Clock
from forebay.errors import ForebayError
from forebay.redact import redacted

log = logging.getLogger("forebay.crash")

MOST_REPORTS = 20
MOST_FRAMES = 40


class CrashReports:
    """Writes at most MOST_REPORTS files `crash-NNNN.json` into a folder; the oldest goes first."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder, self._clock = folder, clock

    def write(self, kind: str, name: str, error: BaseException) -> Path | None:
        """Write a report on an unforeseen error. Return its path; None where it cannot be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            old = sorted(self._folder.glob("crash-*.json"))
            number = int(old[-1].stem.split("-")[1]) + 1 if old else 1
            path = self._folder / f"crash-{number:06d}.json"
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump(self._report(kind, name, error), file, indent=1)
            for extra in old[: len(old) + 1 - MOST_REPORTS]:
                extra.unlink(missing_ok=True)
        except (OSError, ValueError) as trouble:
            log.warning("a crash report cannot be written error=%s", type(trouble).__name__)
            return None
        return path

    def read(self) -> list[dict[str, Any]]:
        """Return the reports, oldest first."""
        return [json.loads(path.read_text()) for path in sorted(self._folder.glob("crash-*.json"))]

    def _report(self, kind: str, name: str, error: BaseException) -> dict[str, Any]:
        return {
            "part": kind,
            "name": name,
            "wall_ns": self._clock.wall_ns(),
            "error": type(error).__name__,
            "message": redacted(error.message) if isinstance(error, ForebayError) else "",
            "frames": _frames(error),
            "causes": [type(cause).__name__ for cause in _causes(error)],
            "forebay": __version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        }


def _frames(error: BaseException) -> list[str]:
    """Return `FILE:LINE FUNCTION`, innermost first; no source lines, they are in the release."""
    frames = traceback.extract_tb(error.__traceback__)[-MOST_FRAMES:]
    return [f"{'/'.join(Path(f.filename).parts[-3:])}:{f.lineno} {f.name}" for f in reversed(frames)]


def _causes(error: BaseException) -> list[BaseException]:
    out: list[BaseException] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and len(out) < 8:
        out.append(cause)
        cause = cause.__cause__ or cause.__context__
    return out
