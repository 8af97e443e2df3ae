"""Configuration of the receiver."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from forebay.config.agent import Endpoint, Id, LinkKeys, LogOptions, Name, WebOptions
from forebay.config.base import ConfigPath, Duration, Options, Size
from forebay.config.registry import TypedOptions, by_type
from forebay.config.secrets import SecretRef
from forebay.errors import ConfigError

_HASH_LENGTH = 64


def _check_policy_id(text: str) -> str:
    """Return a policy's hash or name. Raises ValueError for a part of a hash, which would be taken for a name."""
    if not re.fullmatch("[0-9A-Fa-f]{8,64}", text) or not re.search("[0-9]", text):
        return text
    if len(text) < _HASH_LENGTH:
        raise ValueError(
            f"expected all {_HASH_LENGTH} digits of a hash, found {len(text)}: `forebay check POLICY` prints them"
        )
    return text.lower()


PolicyId = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"), AfterValidator(_check_policy_id)
]


class CenterOptions(Options):
    """Who this receiver is."""

    id: Id
    """Name of the center."""


class LimitOptions(Options):
    """What one gateway may bring into being here."""

    streams: int = Field(default=1_000, ge=1, le=100_000)
    """Most streams of one gateway; batches of further ones are kept whole in `unplaced`."""
    columns: int = Field(default=10_000, ge=1, le=1_000_000)
    """Most columns that one gateway may add; batches that bring more are kept whole in `unplaced`."""
    epochs_per_day: int = Field(default=100, ge=3, le=1_000_000)
    """Most new epochs (new or restored spools) of one gateway in a day; those beyond must wait."""


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
    heartbeat: Duration = Field(default=500_000_000, ge=100_000_000, le=600_000_000_000)
    """How often an idle connection is looked at; a peer that is silent for three of these is given up. On a
    link that is paid by the byte, make it long on both sides."""
    limits: LimitOptions = Field(default_factory=LimitOptions)
    """What one gateway may bring into being."""


class SqliteSinkOptions(Options):
    """Rows into one SQLite file, a table a stream."""

    type: Literal["sqlite"] = "sqlite"
    """What this is."""
    path: ConfigPath
    """The database file; made if missing."""


_INLINE_PASSWORD = re.compile(r"password\s*=|^[a-z]+://[^/@]*:[^/@]+@", re.IGNORECASE)


def _check_dsn(text: str) -> str:
    if _INLINE_PASSWORD.search(text):
        raise ConfigError(
            "expected a connection string without a password, found one inside",
            hint="write `password: file:PATH`, or the whole string as `dsn: env:NAME`",
        )
    return text


class PostgresSinkOptions(Options):
    """Rows into PostgreSQL, a table a stream. Receivers that serve the same gateways share one database."""

    type: Literal["postgres"] = "postgres"
    """What this is."""
    dsn: Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_check_dsn)]
    """libpq's connection string or URL without the password, e.g. `host=db dbname=city user=forebay`; or a
    reference `env:NAME`, `file:PATH`, `credential:NAME` to one that may hold it."""
    password: SecretRef | None = None
    """The password, unless libpq finds it elsewhere (`~/.pgpass`, a certificate, peer authentication)."""
    schema_: Annotated[str, Field(alias="schema", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")] = "public"
    """Schema that holds the tables; made if missing."""


class ParquetSinkOptions(Options):
    """Rows into Parquet files, `STREAM/date=DAY/`. What waits for its file is durable in `ledger.db` beside them."""

    type: Literal["parquet"] = "parquet"
    """What this is."""
    path: ConfigPath
    """Folder of the files; made if missing. It belongs to this receiver alone."""
    rows_per_file: int = Field(default=100_000, ge=1_000, le=10_000_000)
    """A file is written when so many rows of a stream, a schema and a day wait for it."""
    max_age: Duration = Field(default=60_000_000_000, ge=1_000_000_000, le=86_400_000_000_000)
    """How long rows wait at most, even for a small file."""
    max_waiting: Size = Field(default=1 << 30, ge=1 << 20, le=1 << 40)
    """Most bytes of batches that wait, e.g. while the disk is full; beyond it agents are asked to keep theirs."""


class NatsSinkOptions(Options):
    """Batches into NATS JetStream, a message each, under `SUBJECT.GATEWAY.STREAM`.

    JetStream acknowledges before the agent is told; on a lone server set its `sync_interval: always`, or it
    acknowledges what its disk does not have yet.
    """

    type: Literal["nats"] = "nats"
    """What this is."""
    servers: Annotated[
        tuple[Annotated[str, Field(pattern=r"^(nats|tls|ws|wss)://[^@\s]+$")], ...], Field(min_length=1)
    ]
    """Servers of the cluster, e.g. `nats://10.0.0.5:4222`; without user and password."""
    ledger: ConfigPath
    """SQLite file of this receiver's marks, `batches` and `gaps`; made if missing."""
    stream: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = "FOREBAY"
    """JetStream stream; made, with file storage, if it is not there."""
    subject: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$", max_length=128)] = "forebay"
    """Prefix of the subjects."""
    format: Literal["batch", "json"] = "batch"
    """What a message holds: the batch as `forebay decode` reads it, or its rows as JSON lines."""
    duplicates: Duration = Field(default=86_400_000_000_000, ge=1_000_000_000, le=30 * 86_400_000_000_000)
    """Window in which a stream made here drops what comes twice."""
    timeout: Duration = Field(default=5_000_000_000, ge=100_000_000, le=60_000_000_000)
    """How long an acknowledgement may take; then the agent is asked to keep its data."""
    user: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Name of the user, where the server asks for one."""
    password: SecretRef | None = None
    """The user's password."""
    token: SecretRef | None = None
    """A token instead of user and password."""
    credentials: ConfigPath | None = None
    """File of decentralised credentials (`.creds`)."""
    ca: ConfigPath | None = None
    """Certificate authority that the server's certificate is checked against; with `tls://`."""

    @model_validator(mode="after")
    def _one_way_in(self) -> NatsSinkOptions:
        ways = [self.user is not None, self.token is not None, self.credentials is not None]
        if sum(ways) > 1:
            raise ConfigError("expected one of `user`, `token` and `credentials`, found several")
        if (self.user is None) != (self.password is None):
            raise ConfigError("expected `user` and `password` together, found one of them")
        return self


class ForwardSinkOptions(Options):
    """A relay: what came goes on to the receiver of the next tier, origins kept. It stores nothing for good.

    That receiver lets this relay's key speak for its gateways: `keys enroll RELAY PUBFILE --speaks-for PATTERN`.
    """

    type: Literal["forward"] = "forward"
    """What this is."""
    endpoints: tuple[Endpoint, ...] = Field(min_length=1, max_length=16)
    """Receivers of the next tier, in order of preference; they must share one store."""
    keys: LinkKeys
    """Key files."""
    ledger: ConfigPath
    """SQLite file of what waits, and of the numbers that were taken; made if missing."""
    max_bytes: Size = Field(default=8 << 30, ge=16 << 20, le=1 << 44)
    """Most bytes that the ledger holds; beyond it gateways are asked to keep their data."""
    window: int = Field(default=64, ge=1, le=1024)
    """Batches of a gateway sent and not yet acknowledged."""
    ack_timeout: Duration = Field(default=30_000_000_000, ge=100_000_000)
    """Wait for an acknowledgement before the connection is built anew."""
    retry_min: Duration = Field(default=500_000_000, ge=10_000_000)
    """First wait before a retry; doubles, with jitter, up to `retry_max`."""
    retry_max: Duration = Field(default=60_000_000_000, ge=10_000_000)
    """Longest wait before a retry."""
    heartbeat: Duration = Field(default=500_000_000, ge=100_000_000, le=600_000_000_000)
    """How often an idle connection is looked at; a receiver that is silent for three of these is given up."""

    @model_validator(mode="after")
    def _waits_in_order(self) -> ForwardSinkOptions:
        if self.retry_min > self.retry_max:
            raise ValueError("expected `retry_min` to be at most `retry_max`")
        return self


SINK_OPTIONS: dict[str, type[Options]] = {
    "sqlite": SqliteSinkOptions,
    "postgres": PostgresSinkOptions,
    "parquet": ParquetSinkOptions,
    "nats": NatsSinkOptions,
    "forward": ForwardSinkOptions,
}

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
