"""What safe mode starts when the configuration is bad: the one that last ran well, which is kept beside the spool,
or, where there is none, what of the bad one is needed for spool, link and status (`salvaged`)."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from forebay.config.agent import AgentConfig, ForwardOptions, GatewayOptions, LogOptions
from forebay.config.base import Options
from forebay.config.loader import LoadedConfig, load_agent_text
from forebay.config.spool import DEFAULT_SPOOL, SpoolOptions
from forebay.config.yaml_source import Document, parse, read_bytes
from forebay.errors import ConfigError, ForebayError

log = logging.getLogger("forebay.agent")

FILE = "last-good.json"
WELL_AFTER_NS = 10 * 1_000_000_000  # a configuration that runs so long is a good one
MAX_BYTES = 8 * 1024 * 1024
NO_ID = "unconfigured"  # of a gateway whose configuration does not say it

_SECTION = re.compile(rb"^([a-z]+):", re.MULTILINE)
_Section = TypeVar("_Section", bound=Options)

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


def salvaged(config: Path, environment: Mapping[str, str] = os.environ) -> Loaded:
    """Return a configuration without sources and pipelines, of those sections of a bad file that are good.

    The link needs `gateway` and `forward` both: without them there is none.
    """
    data, document = _readable(config)
    sections = document.value
    gateway = _good(GatewayOptions, sections.get("gateway"))
    spool = _good(SpoolOptions, sections.get("spool"))
    forward = _good(ForwardOptions, sections.get("forward")) if gateway is not None else None
    made = AgentConfig.model_construct(
        gateway=gateway or GatewayOptions(id=NO_ID),
        sources={},
        pipelines={},
        spool=spool or SpoolOptions(dir=spool_folder(config, environment)),
        forward=forward,
        log=_good(LogOptions, sections.get("log")) or LogOptions(),
    )
    return LoadedConfig(made, config, config.parent.resolve(), document, text=data)


def _good(kind: type[_Section], value: Any) -> _Section | None:
    try:
        return kind.model_validate(value)
    except ValidationError:
        return None


def _readable(config: Path) -> tuple[bytes, Document]:
    """Return a file's bytes and a document of what of it can be read. No file: nothing. Never raises."""
    document, data = Document(str(config)), b""
    try:
        data = read_bytes(config)
        document = parse(data, str(config))
    except ForebayError:  # no YAML as a whole, or no file
        document.value = _sections(data)
    if not isinstance(document.value, dict):
        document.value = {}
    return data, document


def _sections(data: bytes) -> dict[str, Any]:
    """Return those top-level sections that are YAML each for itself."""
    starts = [match.start() for match in _SECTION.finditer(data)]
    found: dict[str, Any] = {}
    for start, end in pairwise([*starts, len(data)]):
        try:
            value = parse(data[start:end], "").value
        except ForebayError:
            continue
        found |= value if isinstance(value, dict) else {}
    return found


def spool_folder(config: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the spool's folder as a configuration says it, even one with errors; else the service's own."""
    try:
        value = _readable(config)[1].at(("spool", "dir"))
        if isinstance(value, str) and value:
            return config.parent.resolve() / value
    except (LookupError, TypeError):
        log.debug("the configuration does not say where the spool is")
    state = environment.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(state) / "spool" if state else Path(DEFAULT_SPOOL)
