"""Configuration of the receiver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from forebay.config.agent import Endpoint, Id, LogOptions, Name, WebOptions
from forebay.config.base import ConfigPath, Options
from forebay.config.registry import TypedOptions, by_type

PolicyId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class CenterOptions(Options):
    """Who this receiver is."""

    id: Id
    """Name of the center."""


class ListenOptions(Options):
    """Where gateways connect to, and who may."""

    endpoint: Endpoint
    """Where to listen, e.g. `tcp://*:5570`."""
    key: ConfigPath
    """The center's private key, made by `forebay keys new`."""
    allow: ConfigPath
    """Folder of enrolled gateway keys. Without a readable one everybody is refused."""
    require_policy: tuple[PolicyId, ...] = ()
    """Masking policies that batches must come from, by hash (`forebay check POLICY` prints it) or name; a name
    binds less. Others wait on their gateways, with an error here. Empty: any."""


class SqliteSinkOptions(Options):
    """Rows into one SQLite file, a table a stream."""

    type: Literal["sqlite"] = "sqlite"
    """What this is."""
    path: ConfigPath
    """The database file; made if missing."""


SINK_OPTIONS: dict[str, type[Options]] = {"sqlite": SqliteSinkOptions}

if TYPE_CHECKING:
    AnySink = TypedOptions
else:
    AnySink = by_type(SINK_OPTIONS)


class ReceiverConfig(Options):
    """Configuration of the receiver (`forebay receive`)."""

    center: CenterOptions
    """Who this receiver is."""
    listen: ListenOptions
    """Where gateways connect to."""
    sinks: dict[Name, AnySink] = Field(min_length=1)
    """Where rows are stored. A batch is acknowledged when all of them have committed."""
    web: WebOptions | None = None
    """The local page; without it there is none."""
    log: LogOptions = Field(default_factory=LogOptions)
    """What is logged."""
