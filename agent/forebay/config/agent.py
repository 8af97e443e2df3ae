"""Configuration of the agent."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, field_validator, model_validator

from forebay.blocks import Lane
from forebay.config.base import ByteRate, ConfigPath, Duration, Options, Size
from forebay.config.fields import FieldOptions
from forebay.config.masking import MaskingOptions
from forebay.config.models import ModelsOptions
from forebay.config.names import Name as Name
from forebay.config.names import check_name as check_name
from forebay.config.registry import AnySource, AnyStep
from forebay.config.secrets import SecretRef
from forebay.config.spool import OnFull as OnFull
from forebay.config.spool import SpoolOptions as SpoolOptions
from forebay.config.spool import Sync as Sync

_SECOND = 1_000_000_000
LINGER_NS = {Lane.URGENT: 0, Lane.NORMAL: _SECOND, Lane.BULK: 5 * _SECOND}

_HOST_PORT = r"^(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$"
_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_URL = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9._-]*)(:[0-9]{1,5})?(/[^\s?#@]*)?")
_TCP = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9*](?:[A-Za-z0-9._-]*[A-Za-z0-9])?):([0-9]{1,5})")


def check_url(text: str) -> str:
    """Check the URL of an HTTP service, without name and password in it. Raises ValueError."""
    if not _URL.fullmatch(text):
        raise ValueError("expected `http://HOST[:PORT][/PATH]` or `https://...`, without a name or password")
    return text


def check_endpoint(text: str) -> str:
    """Check a ZeroMQ endpoint, `tcp://HOST:PORT` or `ipc://PATH`. Raises ValueError."""
    if text.startswith("ipc://") and len(text) > len("ipc://"):
        return text
    match = _TCP.fullmatch(text)
    if match is None:
        raise ValueError("expected an endpoint such as `tcp://HOST:PORT` or `ipc://PATH`")
    if not 1 <= int(match[2]) <= 65_535:
        raise ValueError("expected a port from 1 to 65535")
    return text


Id = Annotated[str, Field(pattern=_ID)]
"""Name of a gateway or center on the wire and in the key list: letters, digits, `.`, `_`, `-`."""

Endpoint = Annotated[
    str,
    AfterValidator(check_endpoint),
    WithJsonSchema({"type": "string", "pattern": "^(tcp://.+:[0-9]+|ipc://.+)$"}),
]
"""ZeroMQ endpoint, `tcp://HOST:PORT` or `ipc://PATH`."""

HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]
"""Name of an HTTP header."""

Text = Annotated[str, Field(max_length=256)]


class GatewayOptions(Options):
    """Who this gateway is."""

    id: Id
    """Name of the gateway; must be the name that its key is enrolled under."""
    site: Text = ""
    """Where it stands, e.g. `huizhou/huicheng/pump-3`."""
    labels: dict[Name, Text] = Field(default_factory=dict, max_length=32)
    """Words of your own that travel with the data's context, e.g. `owner: water`."""


class PipelineOptions(Options):
    """The way of one source's rows to the spool."""

    source: Name
    """Name of the source."""
    stream: Name | None = None
    """Name of the stream; default: the pipeline's name."""
    key: Name | None = None
    """Field that tells devices apart; steps then keep their state per device."""
    max_keys: int = Field(default=10_000, ge=1, le=1_000_000)
    """Devices that steps keep state for; rows of further ones bypass such steps, counted."""
    lane: Lane = Lane.NORMAL
    """Priority: `urgent` overtakes on the wire and is evicted last."""
    linger: Duration | None = None
    """Longest wait for a block to fill; default by lane: urgent 0, normal 1s, bulk 5s."""
    fields: dict[Name, FieldOptions] = Field(default_factory=dict)
    """What is known about fields. Others are taken with the type that they have."""
    steps: tuple[AnyStep, ...] = ()
    """What is done with the rows, in this order."""

    @property
    def linger_ns(self) -> int:
        """Return the linger in ns, the lane's default where none is written."""
        return LINGER_NS[self.lane] if self.linger is None else self.linger


class LinkKeys(Options):
    """Key files of the encrypted, mutually authenticated link."""

    own: ConfigPath
    """This side's private key, made by `forebay keys new`; `credential:NAME` for one that systemd hands over."""
    server: ConfigPath
    """The receiver's public key."""


class BackfillOptions(Options):
    """What waited when the connection came up, beside what comes in since."""

    order: Literal["oldest_first", "newest_first"] = "oldest_first"
    """In which order what waited is sent. What comes in is always sent in order."""
    share: float = Field(default=0.5, gt=0, le=1)
    """Part of the bytes that goes to what waited while both have something to send; `1`: live data waits."""


class BudgetOptions(Options):
    """Bytes that the link may cost, and what gives way as they are used.

    Counted are both directions, with estimates for what ZeroMQ, CURVE, TCP and heartbeats add. Urgent batches go out
    even when all is spent.
    """

    day: Size = 0
    """Bytes of a day, e.g. `50MiB`; `0`: no limit. The date is the wall clock's, and counts only while the
    kernel calls that synchronised; without it a day is 24 hours of uptime."""
    month: Size = 0
    """Bytes of a month; `0`: no limit. Without a synchronised clock a month is 30 days of uptime."""
    month_starts: int = Field(default=1, ge=1, le=28)
    """Day of the month on which the bill begins."""
    zone: Annotated[str, Field(pattern=r"^[+-](0[0-9]|1[0-4]):[0-5][0-9]$")] = "+00:00"
    """Whose midnight, as an offset from UTC, e.g. `+08:00`."""
    harder_at: float = Field(default=0.5, ge=0, le=1)
    """Used share at which blocks wait longer and are compressed harder."""
    thin_at: float = Field(default=0.75, ge=0, le=1)
    """Used share at which normal and bulk batches are thinned, if `thin_keep` says so."""
    thin_keep: int = Field(default=1, ge=1, le=1_000)
    """Of normal and bulk batches every n-th is kept, the others are given up, each with a gap record;
    `1`: none is given up."""
    urgent_at: float = Field(default=0.9, ge=0, le=1)
    """Used share at which only urgent batches go out; the others wait for the next day or month."""

    @model_validator(mode="after")
    def _rungs_in_order(self) -> BudgetOptions:
        if not self.harder_at <= self.thin_at <= self.urgent_at:
            raise ValueError("expected `harder_at` <= `thin_at` <= `urgent_at`")
        return self

    @property
    def zone_s(self) -> int:
        """Return the offset in seconds."""
        minutes = int(self.zone[1:3]) * 60 + int(self.zone[4:6])
        return -60 * minutes if self.zone[0] == "-" else 60 * minutes


class ForwardOptions(Options):
    """Where data goes. Without this section the agent only buffers."""

    endpoints: tuple[Endpoint, ...] = Field(min_length=1, max_length=16)
    """Receivers, in order of preference; they must share one store."""
    keys: LinkKeys
    """Key files."""
    window: int = Field(default=64, ge=1, le=1024)
    """Batches sent and not yet acknowledged."""
    ack_timeout: Duration = Field(default=30 * _SECOND, ge=100_000_000)
    """Wait for an acknowledgement before the connection is built anew."""
    retry_min: Duration = Field(default=500_000_000, ge=10_000_000)
    """First wait before a retry; doubles, with jitter, up to `retry_max`."""
    retry_max: Duration = Field(default=60 * _SECOND, ge=10_000_000)
    """Longest wait before a retry."""
    heartbeat: Duration = Field(default=500_000_000, ge=100_000_000, le=600 * _SECOND)
    """How often an idle connection is looked at; a receiver that is silent for three of these is given up. Costs
    about half a kilobyte each time: on a link that is paid by the byte, make it long here and at the receiver."""
    rate_limit: ByteRate = 0
    """Most bytes a second, e.g. `64KiB/s`; `0`: no limit. Urgent batches are within it, but go first."""
    budget: BudgetOptions = Field(default_factory=BudgetOptions)
    """Bytes of a day and a month."""
    backfill: BackfillOptions = Field(default_factory=BackfillOptions)
    """How what waited is sent."""
    flush_jitter: Duration = Field(default=0, ge=0, le=3600 * _SECOND)
    """Longest random wait before what waited is sent, so that a fleet does not begin at once. Urgent batches
    do not wait."""
    store: Annotated[str, Field(max_length=128)] = ""
    """Id of the only store that data may go to. Empty: the first one met, remembered beside the spool; a
    receiver with another is refused."""
    checkpoint: Duration = Field(default=600 * _SECOND, ge=0, le=86_400 * _SECOND)
    """Time between signed statements of what was delivered, by which the center sees whether a relay dropped
    or forged something; `0`: none."""

    @model_validator(mode="after")
    def _waits_in_order(self) -> ForwardOptions:
        if self.retry_min > self.retry_max:
            raise ValueError("expected `retry_min` to be at most `retry_max`")
        return self

    @field_validator("endpoints")
    @classmethod
    def _hosts_are_named(cls, endpoints: tuple[str, ...]) -> tuple[str, ...]:
        if any(e.startswith("tcp://*") for e in endpoints):
            raise ValueError("expected the receiver's address, found `*`, which is for listening")
        return endpoints


class OtlpOptions(Options):
    """Where metrics are pushed to: OpenTelemetry over HTTP (extra `otel`). The same figures as at `/metrics`."""

    endpoint: Annotated[str, AfterValidator(check_url)]
    """Address of a collector, e.g. `http://collector:4318`; without a path `/v1/metrics` is meant."""
    interval: Duration = Field(default=30 * _SECOND, ge=_SECOND)
    """Time between two pushes. What a collector that is down has missed is not sent again."""
    timeout: Duration = Field(default=10 * _SECOND, ge=100_000_000, le=60 * _SECOND)
    """Longest time that one push, with its retries, may take."""
    headers: dict[HeaderName, SecretRef] = Field(default_factory=dict, max_length=16)
    """Headers of each push, e.g. `Authorization`, each a reference to its whole text."""
    ca: ConfigPath | None = None
    """Certificates of the authorities that are trusted with `https://`; default: the system's."""


class WebOptions(Options):
    """The local page and interface, and where metrics are pushed to. Without this section there is none."""

    page: bool = True
    """Whether there is a page, with `/metrics` and the health addresses; `false`: only `otlp`."""
    listen: Annotated[str, Field(pattern=_HOST_PORT)] = "127.0.0.1:5580"
    """Address and port. Anything but this machine's own address shows the page to the network, unencrypted."""
    token: SecretRef | None = None
    """What opens the page; default: one made at the first start, kept in `web.token` beside the spool."""
    otlp: OtlpOptions | None = None
    """Where metrics are pushed to; without it nowhere."""

    @model_validator(mode="after")
    def _does_something(self) -> WebOptions:
        if not self.page and self.otlp is None:
            raise ValueError("expected `otlp` with `page: false`, else there is nothing to do")
        return self


class LogOptions(Options):
    """What is logged, and where to."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity."""
    format: Literal["text", "json"] = "text"
    """`text` for people, `json` one object a line."""
    file: ConfigPath | None = None
    """A file instead of stderr, for machines without a journal; only its owner can read it."""
    max_bytes: Size = Field(default=5 * 1024**2, ge=16 * 1024, le=1024**3)
    """Size at which `file` is turned over."""
    keep: int = Field(default=3, ge=1, le=100)
    """Files that were turned over and are kept, as `FILE.1`, the newest, and so on."""

    @model_validator(mode="after")
    def _turned_over_is_a_file(self) -> LogOptions:
        if self.file is None and self.model_fields_set & {"max_bytes", "keep"}:
            raise ValueError("`max_bytes` and `keep` go with `file`; a journal keeps its own house")
        return self


class AgentConfig(Options):
    """Configuration of the agent (`forebay run`)."""

    gateway: GatewayOptions
    """Who this gateway is."""
    sources: dict[Name, AnySource] = Field(min_length=1)
    """Where data comes from, by name."""
    pipelines: dict[Name, PipelineOptions] = Field(min_length=1)
    """What is done with it, by name."""
    masking: MaskingOptions | None = None
    """Which policy masks what leaves; without it the shipped `base` policy applies."""
    models: ModelsOptions = Field(default_factory=ModelsOptions)
    """Where model bundles are."""
    spool: SpoolOptions = Field(default_factory=SpoolOptions)
    """The durable buffer."""
    forward: ForwardOptions | None = None
    """Where data goes; without it the agent only buffers."""
    web: WebOptions | None = None
    """The local page; without it there is none."""
    log: LogOptions = Field(default_factory=LogOptions)
    """What is logged."""

    def stream(self, pipeline: str) -> str:
        """Return the name of a pipeline's stream."""
        return self.pipelines[pipeline].stream or pipeline


def tcp_address(text: str) -> tuple[str, int] | None:
    """Return host and port of a tcp endpoint, None for another kind."""
    match = _TCP.fullmatch(text)
    return (match[1].strip("[]"), int(match[2])) if match else None
