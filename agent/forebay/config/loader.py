"""Reads a configuration file: every error at once, each with its place.

`load_agent` and `load_receiver` return a LoadedConfig or raise ConfigErrors; they touch nothing but the file.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from forebay.config.agent import AgentConfig
from forebay.config.crosscheck import check_config, check_tree, check_web
from forebay.config.explain import booleans_as_numbers, explain
from forebay.config.findings import ConfigErrors, Finding, KeyPath, Severity, in_file_order
from forebay.config.yaml_source import Document, Mark, parse, read_bytes
from forebay.secrets import credential_path

if TYPE_CHECKING:
    from forebay.config.receiver import ReceiverConfig

Config = TypeVar("Config", bound=BaseModel)
CREDENTIAL = "credential:"
_PART = re.compile(r'"((?:[^"\\]|\\.)*)"|\[([0-9]+)\]|([^.\[\]"]+)')


@dataclass(frozen=True, slots=True)
class LoadedConfig(Generic[Config]):
    """A valid configuration and where it came from.

    Attributes
    ----------
    config : AgentConfig or ReceiverConfig
    path : the file
    base : its folder, absolute; every path in the configuration is relative to it
    warnings : findings that do not stop the agent
    digest : sha256 of the file's bytes, hex
    text : the file's bytes
    """

    config: Config
    path: Path
    base: Path
    document: Document = field(repr=False)
    warnings: tuple[Finding, ...] = ()
    digest: str = ""
    text: bytes = field(default=b"", repr=False)

    def resolve(self, path: Path) -> Path:
        """Return a path of the configuration as an absolute one; `credential:NAME` is one of systemd's.

        Raises ConfigError where a credential is named and there are none.
        """
        text = str(path)
        return (
            credential_path(text.removeprefix(CREDENTIAL))
            if text.startswith(CREDENTIAL)
            else self.base / path
        )

    def position(self, path: str | KeyPath) -> Mark:
        """Return 1-based line and column of a value, of its nearest parent where it is a default."""
        return self.document.position(parse_path(path) if isinstance(path, str) else path)

    def place(self, path: str | KeyPath) -> str:
        """Return `FILE:LINE:COL` of a value, e.g. of `spool.max_bytes`."""
        line, col = self.position(path)
        return f"{self.document.file}:{line}:{col}"

    def finding(
        self, message: str, path: str | KeyPath, *, hint: str = "", severity: Severity = Severity.ERROR
    ) -> Finding:
        """Return a finding located at a value of this configuration."""
        keys = parse_path(path) if isinstance(path, str) else path
        return self.document.finding(message, keys, hint=hint, severity=severity)


def parse_path(text: str) -> KeyPath:
    """Return the keys of e.g. `pipelines.pump.steps[0]`; the inverse of `findings.format_path`."""
    out: list[str | int] = []
    for quoted, index, plain in _PART.findall(text):
        out.append(int(index) if index else plain or quoted.replace('\\"', '"'))
    return tuple(out)


def load_agent(path: Path | str) -> LoadedConfig[AgentConfig]:
    """Read the configuration of an agent. Raises ConfigErrors."""
    return _load(Path(path), AgentConfig)


def load_agent_text(data: bytes, path: Path) -> LoadedConfig[AgentConfig]:
    """Check a configuration that was read before; `path` says where it stood. Raises ConfigErrors."""
    return _check(data, path, AgentConfig)


def load_receiver(path: Path | str) -> LoadedConfig[ReceiverConfig]:
    """Read the configuration of a receiver. Raises ConfigErrors."""
    return _load(Path(path), _receiver_config())


def load(path: Path | str) -> LoadedConfig[Any]:
    """Read either, by what the file looks like. Raises ConfigErrors."""
    return _load(Path(path), None)


def load_text(data: bytes, path: Path) -> LoadedConfig[Any]:
    """Check a configuration of either that was read before. Raises ConfigErrors."""
    return _check(data, path, None)


def _signs(document: Document) -> tuple[int, int]:
    """Return how many keys only an agent's configuration has, and how many only a receiver's."""
    keys = set(document.value)
    other = _receiver_config()
    agent = len(keys & (AgentConfig.model_fields.keys() - other.model_fields.keys()))
    receiver = len(keys & (other.model_fields.keys() - AgentConfig.model_fields.keys()))
    return agent, receiver


def _kind(document: Document) -> type[AgentConfig] | type[ReceiverConfig]:
    """Decide by the keys that only one of the two has; an agent where that does not tell."""
    agent, receiver = _signs(document)
    return _receiver_config() if receiver > agent else AgentConfig


def _check_kind(document: Document, kind: type[Any]) -> None:
    """Refuse a file of the other kind in one sentence: each of its keys would be an error."""
    keys = document.value.keys()
    if kind is AgentConfig and any(
        name in keys for name, f in AgentConfig.model_fields.items() if f.is_required()
    ):
        return  # without a look at the receiver's classes: half a megabyte that an agent spares
    agent, receiver = _signs(document)
    if kind is AgentConfig and receiver and not agent:
        message, hint = "expected an agent's configuration, found a receiver's", "forebay receive"
    elif kind is not AgentConfig and agent and not receiver:
        message, hint = "expected a receiver's configuration, found an agent's", "forebay run"
    else:
        return
    raise ConfigErrors([document.finding(message, hint=f"{hint} {document.file}")])


def _receiver_config() -> type[ReceiverConfig]:
    from forebay.config.receiver import ReceiverConfig  # half a megabyte that an agent spares

    return ReceiverConfig


def _load(path: Path, kind: type[Any] | None) -> LoadedConfig[Any]:
    return _check(read_bytes(path), path, kind)


def _check(data: bytes, path: Path, kind: type[Any] | None) -> LoadedConfig[Any]:
    document = parse(data, str(path))
    if not isinstance(document.value, dict):
        finding = document.finding("expected keys and values such as `gateway: {id: …}`")
        raise ConfigErrors([finding])
    if kind is None:
        kind = _kind(document)
    else:
        _check_kind(document, kind)
    findings = list(document.findings)
    config: Any = None
    try:
        config = kind.model_validate(document.value)
    except ValidationError as error:
        findings += explain(error, document, kind)
    findings += booleans_as_numbers(document, kind, {f.path for f in findings})
    if kind is AgentConfig:
        findings += check_tree(document)
        if config is not None:
            findings += check_config(config, document)
    elif config is not None:
        findings += check_web(config, document)
    findings = in_file_order(findings)
    errors = [f for f in findings if f.severity is Severity.ERROR]
    warnings = tuple(f for f in findings if f.severity is not Severity.ERROR)
    if errors:
        raise ConfigErrors(errors, warnings)
    return LoadedConfig(
        config, path, path.parent.resolve(), document, warnings, hashlib.sha256(data).hexdigest(), data
    )
