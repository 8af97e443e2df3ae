"""What checking a configuration finds, each with its place in the file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from forebay.errors import ConfigError

KeyPath = tuple[str | int, ...]
"""Keys and list indices from the root, e.g. `("pipelines", "pump", "steps", 0)`."""

_PLAIN_KEY = re.compile(r"[^\s.\[\]\"]+")


def format_path(path: KeyPath) -> str:
    """Return e.g. `pipelines.pump.steps[0]`; a key with dots, brackets or spaces is quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if _PLAIN_KEY.fullmatch(part) else '"' + part.replace('"', '\\"') + '"'
            text += f".{key}" if text else key
    return text


class Severity(StrEnum):
    """How bad a finding is. Only an error stops the agent from starting."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about a configuration. `line` and `col` are 1-based; 0 where there is no place."""

    severity: Severity
    message: str
    file: str = ""
    line: int = 0
    col: int = 0
    path: str = ""
    hint: str = ""

    @property
    def place(self) -> str:
        """Return `FILE:LINE:COL`, or the file alone."""
        return f"{self.file}:{self.line}:{self.col}" if self.line else self.file

    def __str__(self) -> str:
        text = ": ".join(part for part in (self.place, self.path, self.message) if part)
        return f"{text} ({self.hint})" if self.hint else text

    def as_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "severity": str(self.severity),
            "file": self.file,
            "line": self.line,
            "col": self.col,
            "path": self.path,
            "message": self.message,
            "hint": self.hint,
        }


def in_file_order(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings by line and column, those without a place last."""
    return sorted(findings, key=lambda f: (f.line == 0, f.line, f.col))


class ConfigErrors(ConfigError):
    """Everything that is wrong with one configuration file, in `errors`."""

    def __init__(self, errors: Sequence[Finding], warnings: Sequence[Finding] = ()) -> None:
        self.errors = list(errors)
        self.warnings = list(warnings)
        first = self.errors[0]
        super().__init__(first.message, place=first.place, hint=first.hint)

    def __str__(self) -> str:
        return "\n".join(map(str, self.errors))
