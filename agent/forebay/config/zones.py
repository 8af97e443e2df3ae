"""Time zones as a configuration names them: `Asia/Shanghai`, or an offset such as `+08:00`."""

from __future__ import annotations

import re
from datetime import timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

_OFFSET = re.compile(r"([+-])(0[0-9]|1[0-4]):([0-5][0-9])")


def time_zone(text: str) -> tzinfo:
    """Return a zone. Raises ValueError."""
    match = _OFFSET.fullmatch(text)
    if match is not None:
        offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
        return timezone(-offset if match[1] == "-" else offset)
    try:
        return ZoneInfo(text)
    except (ValueError, OSError, LookupError) as error:
        raise ValueError(
            "expected a time zone such as `Asia/Shanghai`, or an offset such as `+08:00`"
        ) from error


def known_zone(text: str | None) -> str | None:
    """Return the text, for validators. Raises ValueError."""
    if text is not None:
        time_zone(text)
    return text
