"""What the forwarder must know after a restart: which store it is bound to, what it has spent, its last checkpoint.

One small JSON file beside the spool. It decides nothing about data: positions, numbers and receipts are in the
spool's own transactions.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

log = logging.getLogger("forebay.forward")

FORMAT = 1


class LinkMemory:
    """Read at start, written when something changes. Without a path nothing outlives the process."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.store = ""  # id of the store that this agent's data is in
        self.budget: dict[str, dict[str, Any]] = {}
        self.number = 0  # of the last checkpoint that the receiver has confirmed
        self.digest = b""
        self._failing = False
        if path is not None:
            self._load(path)

    def _load(self, path: Path) -> None:
        try:
            raw = json.loads(path.read_text(encoding="ascii"))
            if raw["format"] != FORMAT:
                raise ValueError
            self.store, self.budget = str(raw["store"]), dict(raw["budget"])
            self.number, self.digest = (
                int(raw["checkpoint"]["number"]),
                bytes.fromhex(raw["checkpoint"]["digest"]),
            )
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            # Nothing of the data hangs on it: the store is taken as it is met, and budgets begin anew.
            log.warning("%s cannot be used and begins anew: %s", path, type(error).__name__)

    def save(self) -> None:
        """Write the file whole and durably; a disk that cannot is told once and asked again next time."""
        if self._path is None:
            return
        raw = {
            "format": FORMAT,
            "store": self.store,
            "budget": self.budget,
            "checkpoint": {"number": self.number, "digest": self.digest.hex()},
        }
        partial = self._path.with_name(self._path.name + ".new")
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                json.dump(raw, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self._path)
            self._failing = False
        except OSError as error:
            if not self._failing:
                log.warning("%s cannot be written: %s", self._path, error.strerror)
            self._failing = True
