"""The agent's local socket: `forebay status`, `reload`, `tap` and `top` ask a running agent through it.

A Unix socket `agent.sock` in the spool's folder, mode 0600: who may read the spool may ask. One JSON object a
line each way. Request: `{"op": NAME, ...}`. Answer: `{"ok": true, "result": ...}`, for `tap` many of them, or
`{"ok": false, "error": TEXT, "hint": TEXT}`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOCKET = "agent.sock"
MAX_REQUEST = 64 * 1024


@contextmanager
def short_address(folder: Path) -> Iterator[str]:
    """Yield an address of the socket that fits into the 108 bytes of sun_path, however deep the folder is."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)
