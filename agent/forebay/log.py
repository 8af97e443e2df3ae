"""Logging: to stderr or a file, as text for people or JSON lines for machines, rate-limited to protect disks.

Use `logging.getLogger("forebay.spool")` and put facts into `extra`: `log.warning("ack timed out",
extra={"endpoint": endpoint})`. The message is a fixed template, so that repetition is seen.

Rules
-----
- Never a data value. An exception's text may hold one, so of exceptions that are not ours only type and
  places are written.
- Names of files and keys may be identifiers themselves: what is sure to be one is replaced by its class.
- One line a record; control characters in it are escaped, so that no text can forge a line.
- Of one (logger, template) at most BURST records in each PERIOD_NS are written; the next one written after
  that says how many were left out (`suppressed=`).
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import sys
import threading
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO, cast

from forebay.advice import advice
from forebay.clock import Clock, SystemClock
from forebay.errors import ForebayError
from forebay.redact import redacted

if TYPE_CHECKING:
    from forebay.config.agent import LogOptions

BURST = 10
PERIOD_NS = 60_000_000_000
MAX_TEMPLATES = 1_024  # beyond it the oldest is forgotten; templates are fixed texts, so this is never near

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "suppressed"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_BARE = re.compile(r"[^\s\"=]+")


def _one_line(text: str) -> str:
    return _CONTROL.sub(lambda m: m[0].encode("unicode_escape").decode(), text)


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    facts = {k: v for k, v in vars(record).items() if k not in _STANDARD}
    if record.exc_info and record.exc_info[1] is not None:
        facts["error"] = describe_exception(record.exc_info[1])
    suppressed = getattr(record, "suppressed", 0)
    return facts | ({"suppressed": suppressed} if suppressed else {})


def describe_exception(error: BaseException) -> str:
    """Return an error of ours as its message, any other as its type and the innermost places."""
    if isinstance(error, ForebayError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " < ".join(f"{os.path.basename(f.filename)}:{f.lineno}" for f in reversed(frames))
    return f"{type(error).__name__} at {places}" if places else type(error).__name__


def _component(record: logging.LogRecord) -> str:
    return record.name.removeprefix("forebay.")


class TextFormatter(logging.Formatter):
    """`LEVEL component: message key=value`. The journal adds the time."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        parts = [f"{record.levelname} {_component(record)}: {_one_line(record.getMessage())}"]
        for key, value in _facts(record).items():
            text = _one_line(str(value))
            parts.append(f"{key}={text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)}")
        return redacted(" ".join(parts))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, component, message, and the facts."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        stamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        head = {
            "time": stamp.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "component": _component(record),
            "message": record.getMessage(),
        }
        facts = {k: v for k, v in _facts(record).items() if k not in head}
        return redacted(json.dumps(head | facts, ensure_ascii=False, default=str))


class RateLimit(logging.Filter):
    """Lets through at most `burst` records of one template in each period."""

    def __init__(self, clock: Clock, burst: int = BURST, period_ns: int = PERIOD_NS) -> None:
        super().__init__()
        self._clock, self._burst, self._period_ns = clock, burst, period_ns
        self._seen: dict[tuple[str, str], list[int]] = {}  # [start of the period, written, left out]

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter. Called under the handler's lock."""
        key = (record.name, str(record.msg))
        now = self._clock.monotonic_ns()
        state = self._seen.get(key)
        if state is None:
            if len(self._seen) >= MAX_TEMPLATES:
                self._seen.pop(next(iter(self._seen)))
            state = self._seen[key] = [now, 0, 0]
        elif now - state[0] >= self._period_ns:
            record.suppressed = state[2]
            state[:] = [now, 0, 0]
        if state[1] >= self._burst:
            state[2] += 1
            return False
        state[1] += 1
        return True


class Recent(logging.Handler):
    """Keeps the last troubles (warnings and errors), each template of a component once, with how often it came."""

    def __init__(self, clock: Clock, most: int = 50) -> None:
        super().__init__(logging.WARNING)
        self._clock, self._most = clock, most
        self._kept: dict[tuple[str, str], dict[str, Any]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        key = (record.name, str(record.msg))
        before = self._kept.pop(key, None)
        message = _one_line(record.getMessage())
        self._kept[key] = {
            "level": record.levelname.lower(),
            "component": _component(record),
            "message": redacted(message),
            "do": advice(message),
            "facts": {k: redacted(_one_line(str(v))) for k, v in _facts(record).items()},
            "times": (before["times"] if before else 0) + 1,
            "wall_ns": self._clock.wall_ns(),
        }
        while len(self._kept) > self._most:
            self._kept.pop(next(iter(self._kept)))

    def entries(self) -> list[dict[str, Any]]:
        """Return them, the newest last."""
        with self.lock or threading.Lock():
            return [dict(entry) for entry in self._kept.values()]


class _LimitedHandler(logging.StreamHandler[TextIO]):
    """Applies the limit under its lock: a logger's filters run outside any."""

    def __init__(self, stream: TextIO, limit: RateLimit) -> None:
        super().__init__(stream)
        self._limit = limit

    def emit(self, record: logging.LogRecord) -> None:
        if self._limit.filter(record):
            super().emit(record)


class TurnedFile(io.TextIOBase):
    """A log file that is turned over when it gets large. A disk that does not take it costs lines, never more.

    Parameters
    ----------
    path : the file, mode 0600; what is there is appended to
    max_bytes : size at which it becomes `PATH.1`
    keep : how many of those are kept

    Raises
    ------
    OSError
        It cannot be opened.
    """

    def __init__(self, path: Path, max_bytes: int, keep: int) -> None:
        super().__init__()
        self._path, self._max_bytes, self._keep = path, max_bytes, keep
        self._open()

    def _open(self) -> None:
        self._out = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._bytes = os.fstat(self._out).st_size

    def write(self, text: str) -> int:
        """Write one record with its line end; called under the handler's lock."""
        data = text.encode("utf-8", "backslashreplace")
        if self._bytes and self._bytes + len(data) > self._max_bytes:
            self._turn()
        self._bytes += os.write(self._out, data)
        return len(text)

    def _turn(self) -> None:
        with contextlib.suppress(OSError):  # it then grows until it can be turned
            for number in range(self._keep - 1, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{self._path}.{number}", f"{self._path}.{number + 1}")
            os.replace(self._path, f"{self._path}.1")
            os.close(self._out)
            self._open()

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            os.close(self._out)
        super().close()


def set_up(
    level: str = "info",
    format: Literal["text", "json"] = "text",  # noqa: A002 - the word of the configuration
    *,
    stream: TextIO | None = None,
    clock: Clock | None = None,
) -> logging.Handler:
    """Send all records of `forebay.*`, and warnings of libraries, to stderr or `stream`. Replaces an earlier set-up."""
    handler = _LimitedHandler(stream or sys.stderr, RateLimit(clock or SystemClock()))
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, _LimitedHandler)]:
        root.removeHandler(old)
        if isinstance(old.stream, TurnedFile):
            old.stream.close()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("forebay").setLevel(level.upper())
    logging.captureWarnings(True)
    # A full disk or a closed pipe behind stderr must not print tracebacks, which hold values.
    logging.raiseExceptions = False
    return handler


def set_up_as(options: LogOptions, base: Path) -> None:
    """Log as configured; `base` is the folder of the configuration. To stderr where the file cannot be opened."""
    if options.file is None:
        set_up(options.level, options.format)
        return
    path = base / options.file
    try:
        file = TurnedFile(path, options.max_bytes, options.keep)
    except OSError as error:
        set_up(options.level, options.format)
        logging.getLogger("forebay.log").error(
            "the log file cannot be opened, stderr is used path=%s error=%s", path, error.strerror
        )
        return
    set_up(options.level, options.format, stream=cast(TextIO, file))
