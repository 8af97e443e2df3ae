"""Options of the durable buffer."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from forebay.blocks import Lane
from forebay.config.base import ConfigPath, Duration, Options, Size
from forebay.config.names import Name

DEFAULT_SPOOL = "/var/lib/forebay/spool"
_MIB = 1024 * 1024


class Sync(StrEnum):
    """What a commit of the spool survives."""

    FULL = "full"
    NORMAL = "normal"


class OnFull(StrEnum):
    """What gives when the spool has reached its quota."""

    EVICT_LOWEST_VALUE = "evict_lowest_value"
    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"
    BLOCK = "block"
    THIN = "thin"


class Seal(StrEnum):
    """Who can read the buffer."""

    NONE = "none"
    GATEWAY = "gateway"
    CENTER = "center"


def parse_share(text: Any) -> float:
    """Return the fraction that e.g. `20%` is. Raises ValueError."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*", text) if isinstance(text, str) else None
    if match is None or float(match[1]) > 100:
        raise ValueError("expected a share such as `20%`")
    return float(match[1]) / 100


Share = Annotated[
    float,
    BeforeValidator(parse_share),
    PlainSerializer(lambda share: f"{share * 100:g}%", return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^\\s*[0-9]+(\\.[0-9]+)?\\s*%\\s*$", "examples": ["20%"]}),
]
"""A part of the whole; written `20%` in YAML."""


class StreamQuota(Options):
    """What one stream may keep waiting. Beyond it its oldest batches go, whatever `on_full` says."""

    max_bytes: Size | None = Field(default=None, ge=_MIB)
    """Most bytes; default: no limit of its own."""
    max_age: Duration | None = Field(default=None, ge=1_000_000_000)
    """Uptime after which a batch is given up; default: no limit of its own."""
    max_batches: int | None = Field(default=None, ge=1)
    """Most batches; default: no limit of its own."""


class DiskOptions(Options):
    """What is left to the rest of the system."""

    stop: Size = 32 * _MIB
    """Free space at which the spool stops growing: sources wait, or old data makes room for new (`on_full`)."""
    resume: Size = 64 * _MIB
    """Free space at which it grows again."""
    ballast: Size = 8 * _MIB
    """Space held by a file that is deleted when the disk is full all the same; `0`: none."""

    @model_validator(mode="after")
    def _in_order(self) -> DiskOptions:
        if self.resume < self.stop:
            raise ValueError("expected `resume` to be at least `stop`")
        return self


class SpoolOptions(Options):
    """The durable buffer on this gateway's disk."""

    dir: ConfigPath = Field(default=DEFAULT_SPOOL, validate_default=True)
    """Folder of the spool."""
    max_bytes: Size = Field(default=2 * 1024**3, ge=16 * _MIB)
    """Quota on disk, dead letters and write-ahead log included."""
    max_age: Duration | None = Field(default=None, ge=1_000_000_000)
    """Uptime, counted over restarts, after which a batch is given up; default: never."""
    max_batches: int | None = Field(default=None, ge=1)
    """Most batches that wait; default: no limit but `max_bytes`."""
    streams: dict[Name, StreamQuota] = Field(default_factory=dict)
    """Quotas of single streams."""
    dead_letters: Size | None = Field(default=None, ge=64 * 1024)
    """Quota of batches that the receiver will never take, within `max_bytes`; default: a 32nd of it. The oldest go."""
    sync: Sync = Sync.FULL
    """`full` survives a power cut; `normal` may lose the last seconds in one."""
    on_full: OnFull = OnFull.BLOCK
    """What gives when the quota is reached. `block` stops reading the sources; the others delete batches that
    are not on the wire, urgent ones last, and tell the center of each hole: `evict_lowest_value` bulk before
    normal, `drop_oldest` whichever is older, `drop_newest` what would come in, `thin` all but every n-th of each
    stream, the oldest first."""
    reserve: dict[Lane, Share] = Field(default_factory=dict)
    """Share of the quota that `evict_lowest_value` leaves to a lane while other lanes have more than theirs."""
    thin_keep: int = Field(default=10, ge=2, le=1_000_000)
    """`thin` keeps every n-th batch of a stream before it deletes those as well."""
    disk: DiskOptions = Field(default_factory=DiskOptions)
    """What is left to the rest of the system."""
    seal: Seal = Seal.NONE
    """Encryption of batches at rest; integrity is always checked. `gateway`: with a key from `forward.keys.own`, so
    that a stolen disk without that file shows nothing; `center`: to the receiver's public key, so that even this
    gateway cannot read its own buffer. Schemas, positions and step states stay readable."""
    cipher: Literal["aes-gcm", "sm4-gcm"] = "aes-gcm"
    """Authenticated cipher of `seal`; keys come from X25519 and HKDF either way."""
    compression: Literal["zstd", "none"] = "zstd"
    """How batches are compressed on disk and wire."""

    @model_validator(mode="after")
    def _shares_fit(self) -> SpoolOptions:
        if sum(self.reserve.values()) > 0.9:
            raise ValueError("expected the shares of `reserve` to be at most 90% together")
        return self
