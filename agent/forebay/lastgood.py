"""The configuration that last ran well, kept beside the spool: what safe mode starts when the new one is bad."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from forebay.config.agent import AgentConfig
from forebay.config.loader import LoadedConfig, load_agent_text
from forebay.config.spool import DEFAULT_SPOOL
from forebay.config.yaml_source import parse, read_bytes
from forebay.errors import ConfigError, ForebayError

log = logging.getLogger("forebay.agent")

FILE = "last-good.json"
WELL_AFTER_NS = 10 * 1_000_000_000  # a configuration that runs so long is a good one
MAX_BYTES = 8 * 1024 * 1024

Loaded = LoadedConfig[AgentConfig]


class LastGood:
    """Keeps the file of one spool. Secrets are references in a configuration, so the copy holds none."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._kept = ""

    def keep(self, loaded: Loaded) -> None:
        """Write a copy, once for each content. A disk that is full is no reason to stop."""
        if self._kept == loaded.digest:
            return
        self._kept = loaded.digest
        text = {"path": str(loaded.path.absolute()), "text": loaded.text.decode("utf-8", "surrogateescape")}
        part = self._path.with_suffix(".part")
        try:
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump(text, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path)
        except OSError as error:
            log.warning(
                "the running configuration cannot be kept for safe mode error=%s", type(error).__name__
            )

    def load(self) -> Loaded:
        """Return the copy. Raises ConfigError where there is none or it is no longer valid."""
        try:
            kept = json.loads(self._path.read_bytes()[:MAX_BYTES])
            data, path = kept["text"].encode("utf-8", "surrogateescape"), Path(kept["path"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise ConfigError("there is no configuration that ran before", place=str(self._path)) from None
        return load_agent_text(data, path)


def spool_folder(config: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the spool's folder as a configuration says it, even one with errors; else the service's own."""
    try:
        value = parse(read_bytes(config), str(config)).at(("spool", "dir"))
        if isinstance(value, str) and value:
            return config.parent.resolve() / value
    except (ForebayError, LookupError, TypeError):
        log.debug("the configuration does not say where the spool is")
    state = environment.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(state) / "spool" if state else Path(DEFAULT_SPOOL)
