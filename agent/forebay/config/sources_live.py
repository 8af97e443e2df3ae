"""Options of sources that are asked or listened to: agent, system, modbus, mqtt, zmq."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from forebay.config.base import ConfigPath, Duration, Options, Size
from forebay.config.secrets import SecretRef
from forebay.config.sources import TimeOptions

_SECOND = 1_000_000_000
_BROKER = re.compile(r"(mqtts?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9._-]*)(?::([0-9]{1,5}))?")
_TOPIC_PART = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")

FieldName = Annotated[str, Field(min_length=1, max_length=64)]

Metric = Literal["cpu", "memory", "disk", "temperatures", "net"]
METRICS: tuple[Metric, ...] = ("cpu", "memory", "disk", "temperatures", "net")
UnitId = Annotated[int, Field(ge=0, le=255)]


class SystemOptions(Options):
    """This gateway itself: load, memory, disks, temperatures, network."""

    type: Literal["system"] = "system"
    """What this is."""
    every: Duration = Field(default=10 * _SECOND, ge=_SECOND)
    """Time between samples."""
    metrics: tuple[Metric, ...] = Field(default=METRICS, min_length=1)
    """What is sampled."""
    disks: tuple[ConfigPath, ...] = Field(default=("/",), validate_default=True, min_length=1)
    """Mount points that `disk` looks at."""


class AgentOptions(Options):
    """This agent itself: what it read, dropped and delivered, its buffer, link, clock, memory and CPU time."""

    type: Literal["agent"] = "agent"
    """What this is."""
    every: Duration = Field(default=60 * _SECOND, ge=_SECOND)
    """Time between samples."""
    about: Literal["agent", "streams", "models"] = "agent"
    """`agent`: one row with the sums over all streams. `streams`: one row a stream, its name in `about`.
    `models`: one row a stream and model, what it gave and what was decided of it."""


RegisterKind = Literal["holding", "input", "coil", "discrete"]
RegisterType = Literal["i16", "u16", "i32", "u32", "i64", "u64", "f32", "f64"]
Order = Literal["big", "little"]
WORDS = {"i16": 1, "u16": 1, "i32": 2, "u32": 2, "f32": 2, "i64": 4, "u64": 4, "f64": 4}
"""Registers of 16 bits that a value takes."""


class RegisterOptions(Options):
    """One value of a Modbus device."""

    name: FieldName
    """Name of the field."""
    address: int = Field(ge=0, le=65_535)
    """Address as on the wire, from 0; the manual's 40001 is holding register 0."""
    kind: RegisterKind = "holding"
    """Table of the device."""
    type: RegisterType = "u16"
    """How registers are read; coils and discrete inputs are true or false."""
    byte_order: Order | None = None
    """Order of the bytes in a register; default: the source's."""
    word_order: Order | None = None
    """Order of the registers of a value; default: the source's."""
    scale: float = 1.0
    """Factor to the field's unit. With one other than 1 the field is f64."""
    offset: float = 0.0
    """Added after scaling."""
    bit: int | None = Field(default=None, ge=0, le=15)
    """Take one bit of a 16-bit register, 0 is the lowest; the field is true or false."""
    unit: str = Field(default="", max_length=32)
    """Unit after scaling."""
    description: str = Field(default="", max_length=256)
    """What it measures."""

    @model_validator(mode="after")
    def _fits(self) -> RegisterOptions:
        is_bit = self.kind in ("coil", "discrete")
        if is_bit and self.model_fields_set & {"type", "bit", "scale", "offset", "byte_order", "word_order"}:
            raise ValueError(f"a {self.kind} is true or false: expected no type, bit, scale, offset or order")
        if self.bit is not None and self.type != "u16":
            raise ValueError("expected `type: u16` with `bit`")
        if self.address + self.words > 65_536:
            raise ValueError("the value ends beyond address 65535")
        return self

    @property
    def words(self) -> int:
        """Registers, or coils, that the value takes."""
        return 1 if self.kind in ("coil", "discrete") else WORDS[self.type]


class ModbusOptions(Options):
    """Registers of one or several devices on one Modbus line, polled."""

    type: Literal["modbus"] = "modbus"
    """What this is."""
    host: str = Field(default="", max_length=255)
    """Address of a TCP device or gateway. Either this or `serial`."""
    port: int = Field(default=502, ge=1, le=65_535)
    """TCP port."""
    serial: str = Field(default="", max_length=255)
    """Serial port of an RTU line, e.g. `/dev/ttyUSB0`."""
    framing: Literal["tcp", "rtu"] | None = None
    """How requests are framed; default: tcp with `host`, rtu with `serial`. rtu with `host`: RTU over TCP."""
    baudrate: int = Field(default=9_600, ge=300, le=4_000_000)
    """Of the serial port."""
    parity: Literal["none", "even", "odd"] = "none"
    """Of the serial port."""
    stopbits: Literal[1, 2] = 1
    """Of the serial port."""
    unit_id: UnitId = 1
    """The device's number on the line."""
    devices: dict[FieldName, UnitId] = Field(default_factory=dict, max_length=247)
    """Several devices of one kind on the line: name and unit id. Rows then carry the field `device`."""
    every: Duration = Field(default=_SECOND, ge=10_000_000)
    """Time between polls."""
    timeout: Duration = Field(default=_SECOND, ge=10_000_000, le=60 * _SECOND)
    """Wait for an answer."""
    retries: int = Field(default=1, ge=0, le=10)
    """Further tries of a request that was not answered."""
    byte_order: Order = "big"
    """Order of the bytes in a register."""
    word_order: Order = "big"
    """Order of the registers of a value."""
    gap: int = Field(default=8, ge=0, le=100)
    """Read over so many unused registers rather than ask twice."""
    registers: tuple[RegisterOptions, ...] = Field(min_length=1, max_length=1_000)
    """What is read."""

    @model_validator(mode="after")
    def _fits(self) -> ModbusOptions:
        if bool(self.host) == bool(self.serial):
            raise ValueError("expected either `host` or `serial`")
        if self.serial and self.framing == "tcp":
            raise ValueError("expected `framing: rtu` on a serial port")
        names = [r.name.casefold() for r in self.registers] + (["device"] if self.devices else [])
        if len(set(names)) != len(names):
            raise ValueError("expected a different name for each register (`device` is taken by `devices`)")
        if self.devices and "unit_id" in self.model_fields_set:
            raise ValueError("expected either `unit_id` or `devices`")
        if len(set(self.devices.values())) != len(self.devices):
            raise ValueError("two devices have the same unit id")
        return self


class TlsOptions(Options):
    """Certificates of an encrypted connection."""

    ca: ConfigPath | None = None
    """Certificates of the authorities that are trusted; default: the system's."""
    cert: ConfigPath | None = None
    """This client's certificate."""
    key: ConfigPath | None = None
    """This client's private key."""

    @model_validator(mode="after")
    def _pair(self) -> TlsOptions:
        if (self.cert is None) != (self.key is None):
            raise ValueError("expected `cert` and `key` together")
        return self


class MqttOptions(Options):
    """Messages of an MQTT broker, acknowledged when they are durable here."""

    type: Literal["mqtt"] = "mqtt"
    """What this is."""
    broker: str
    """`mqtt://HOST[:1883]`, or encrypted `mqtts://HOST[:8883]`."""
    topics: tuple[str, ...] = Field(min_length=1, max_length=256)
    """Topic filters. A part in braces is a wildcard that becomes a field: `plant/{line}/pump/{dev}`."""
    version: Annotated[
        Literal["5", "3.1.1"],
        BeforeValidator(lambda v: "5" if v == 5 and not isinstance(v, bool) else v),
        WithJsonSchema({"enum": ["5", "3.1.1", 5]}),
    ] = "5"
    """Version of the protocol."""
    client_id: str = Field(default="", max_length=64)
    """Name of the session at the broker; default: made from gateway and source."""
    qos: Literal[0, 1] = 1
    """1: the broker keeps a message until it is durable here. 0: what comes while this is down is lost."""
    username: str = Field(default="", max_length=256)
    """User at the broker."""
    password: SecretRef | None = None
    """Password at the broker."""
    tls: TlsOptions = Field(default_factory=TlsOptions)
    """Certificates, with `mqtts://`."""
    keepalive: Duration = Field(default=30 * _SECOND, ge=_SECOND, le=65_535 * _SECOND)
    """A connection without a sign of life for 1.5 times this is given up."""
    session_expiry: Duration = Field(default=86_400 * _SECOND, ge=0, le=0xFFFF_FFFF * _SECOND)
    """Version 5: how long the broker keeps messages for us while we are away."""
    in_flight: int = Field(default=1_000, ge=1, le=65_535)
    """Messages that are not yet durable here. With version 3.1.1 the broker's own limit holds."""
    payload: Literal["json", "csv", "raw"] = "json"
    """json: an object or an array of them. csv: rows of `columns`. raw: one number or text, as `value`."""
    columns: tuple[FieldName, ...] = Field(default=(), max_length=1_000)
    """Names of the columns of csv payloads."""
    topic_field: str = Field(default="", max_length=64)
    """Field that gets the whole topic; default: none."""
    time: TimeOptions | None = None
    """Where a row's time comes from; default: the gateway's clock on arrival."""
    max_message: Size = Field(default=1024**2, ge=1024, le=64 * 1024**2)
    """Longest payload; a longer one is rejected."""

    @field_validator("broker")
    @classmethod
    def _is_url(cls, text: str) -> str:
        match = _BROKER.fullmatch(text)
        if match is None or not 1 <= int(match[3] or 1) <= 65_535:
            raise ValueError("expected `mqtt://HOST`, `mqtt://HOST:PORT` or the same with `mqtts`")
        return text

    @field_validator("topics")
    @classmethod
    def _are_filters(cls, topics: tuple[str, ...]) -> tuple[str, ...]:
        for topic in topics:
            levels = topic_filter(topic).split("/")
            bad = any(("#" in p or "+" in p) and len(p) > 1 for p in levels) or "#" in levels[:-1]
            if bad or not topic or "\0" in topic or "{" in topic_filter(topic):
                raise ValueError("expected topic filters; `+`, `{name}` and a last `#` are whole levels")
        return topics

    @model_validator(mode="after")
    def _fits(self) -> MqttOptions:
        if self.payload == "csv" and not self.columns:
            raise ValueError("expected `columns` with `payload: csv`")
        if self.payload != "csv" and self.columns:
            raise ValueError("expected `columns` only with `payload: csv`")
        if self.password is not None and not self.username:
            raise ValueError("expected `username` with `password`")
        if "tls" in self.model_fields_set and not self.broker.startswith("mqtts:"):
            raise ValueError("expected a broker `mqtts://…` with `tls`")
        return self

    def address(self) -> tuple[str, int, bool]:
        """Return host, port, and whether the connection is encrypted."""
        match = _BROKER.fullmatch(self.broker)
        assert match is not None  # by the validator
        encrypted = match[1] == "mqtts"
        return match[2].strip("[]"), int(match[3] or (8883 if encrypted else 1883)), encrypted


def topic_filter(topic: str) -> str:
    """Return what is subscribed to: each named part as `+`."""
    return _TOPIC_PART.sub("+", topic)


def topic_names(topic: str) -> dict[int, str]:
    """Return level and name of each named part of a topic."""
    parts = ((i, _TOPIC_PART.fullmatch(level)) for i, level in enumerate(topic.split("/")))
    return {i: match[1] for i, match in parts if match}


class ZmqOptions(Options):
    """Local programs push rows and are answered when these are durable. No authentication: local only."""

    type: Literal["zmq"] = "zmq"
    """What this is."""
    endpoint: str
    """Where to listen: `ipc:///run/forebay/push` or `tcp://127.0.0.1:PORT`."""
    time: TimeOptions | None = None
    """Where a row's time comes from; default: the gateway's clock on arrival."""
    max_message: Size = Field(default=8 * 1024**2, ge=1024, le=64 * 1024**2)
    """Longest message; who sends a longer one is disconnected."""

    @field_validator("endpoint")
    @classmethod
    def _is_local(cls, text: str) -> str:
        local = re.fullmatch(r"tcp://(127\.[0-9.]+|localhost|\[::1\]):([0-9]{1,5})", text)
        if local and 1 <= int(local[2]) <= 65_535:
            return text
        if re.fullmatch(r"ipc:///?.+", text) and len(text) < 108:  # sun_path
            return text
        raise ValueError("expected `ipc://PATH` or a port on `tcp://127.0.0.1`, as anybody there may push")


SOURCE_OPTIONS: dict[str, type[Options]] = {
    "agent": AgentOptions,
    "system": SystemOptions,
    "modbus": ModbusOptions,
    "mqtt": MqttOptions,
    "zmq": ZmqOptions,
}
