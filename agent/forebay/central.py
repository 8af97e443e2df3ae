"""The receiver as configured: keys, allow-list, sinks, server."""

from __future__ import annotations

import threading
from typing import Any

from forebay.clock import SystemClock
from forebay.config.loader import LoadedConfig
from forebay.config.receiver import (
    ForwardSinkOptions,
    NatsSinkOptions,
    ParquetSinkOptions,
    PostgresSinkOptions,
    ReceiverConfig,
    SqliteSinkOptions,
)
from forebay.errors import ConfigError, MissingExtra
from forebay.keys import read_public, read_secret
from forebay.receive.caps import Limits
from forebay.receive.server import Server, ServerOptions
from forebay.receive.sink import Sink
from forebay.receive.zap import AllowList
from forebay.secrets import check_reference
from forebay.secrets import resolve as resolve_secret


def build_server(loaded: LoadedConfig[ReceiverConfig], stopping: threading.Event | None = None) -> Server:
    """Return a receiver that is bound and ready to run, until `stopping` is set.

    Raises
    ------
    ForebayError
        A key cannot be read, a sink not be opened, the endpoint not be bound.
    """
    config = loaded.config
    key = read_secret(loaded.resolve(config.listen.key))
    allowed = AllowList(loaded.resolve(config.listen.allow))
    limits = Limits(**config.listen.limits.model_dump())
    sinks = [_sink(loaded, name, options, limits) for name, options in config.sinks.items()]
    try:
        return Server(
            ServerOptions(
                config.center.id,
                config.listen.endpoint,
                require_policy=config.listen.require_policy,
                limits=limits,
                heartbeat_ms=config.listen.heartbeat // 1_000_000,
            ),
            key,
            allowed,
            sinks,
            SystemClock(),
            stopping,
        )
    except BaseException:
        for sink in sinks:
            sink.close()
        raise


def _sink(loaded: LoadedConfig[ReceiverConfig], name: str, options: Any, limits: Limits) -> Sink:
    if isinstance(options, SqliteSinkOptions):
        from forebay.receive.sqlite import SqliteSink

        return SqliteSink(loaded.resolve(options.path), limits)
    if isinstance(options, PostgresSinkOptions):
        return _postgres(loaded, options, limits)
    if isinstance(options, ParquetSinkOptions):
        return _parquet(loaded, options, limits)
    if isinstance(options, NatsSinkOptions):
        return _nats(loaded, options, limits)
    if isinstance(options, ForwardSinkOptions):
        return _relay(loaded, options, limits)
    raise ConfigError(f"no room builds a sink of type `{options.type}`", place=loaded.place(f"sinks.{name}"))


def _postgres(loaded: LoadedConfig[ReceiverConfig], options: PostgresSinkOptions, limits: Limits) -> Sink:
    try:
        from forebay.receive.postgres import Connecting, PostgresSink, with_password
    except ImportError:
        raise MissingExtra("the sink `postgres`", "postgres") from None
    try:
        conninfo = resolve_secret(check_reference(options.dsn), loaded.base).decode()
    except ValueError:  # no reference: the string itself
        conninfo = options.dsn
    password = _secret(loaded, options.password)
    return PostgresSink(Connecting(with_password(conninfo, password), options.schema_), limits)


def _parquet(loaded: LoadedConfig[ReceiverConfig], options: ParquetSinkOptions, limits: Limits) -> Sink:
    try:
        from forebay.receive.parquet import ParquetSink, Rolling
    except ImportError:
        raise MissingExtra("the sink `parquet`", "parquet") from None
    rolling = Rolling(options.rows_per_file, options.max_age, options.max_waiting)
    return ParquetSink(loaded.resolve(options.path), rolling, SystemClock(), limits)


def _nats(loaded: LoadedConfig[ReceiverConfig], options: NatsSinkOptions, limits: Limits) -> Sink:
    try:
        from forebay.receive.nats import NatsSink
        from forebay.receive.nats_publisher import NatsOptions
    except ImportError:
        raise MissingExtra("the sink `nats`", "nats") from None
    how = NatsOptions(
        options.servers,
        options.stream,
        options.subject,
        duplicates_s=options.duplicates / 1e9,
        timeout_s=options.timeout / 1e9,
        user=options.user,
        password=_secret(loaded, options.password),
        token=_secret(loaded, options.token),
        credentials=str(loaded.resolve(options.credentials)) if options.credentials else None,
        ca=str(loaded.resolve(options.ca)) if options.ca else None,
    )
    return NatsSink(loaded.resolve(options.ledger), how, options.format, limits)


def _relay(loaded: LoadedConfig[ReceiverConfig], options: ForwardSinkOptions, limits: Limits) -> Sink:
    from forebay.forward import LinkOptions
    from forebay.receive.relay import RelaySink
    from forebay.relaying import NextTier, Relay

    keys = read_secret(loaded.resolve(options.keys.own)), read_public(loaded.resolve(options.keys.server))
    link = LinkOptions(
        window=options.window,
        ack_timeout_ns=options.ack_timeout,
        backoff_min_ns=options.retry_min,
        backoff_max_ns=options.retry_max,
        heartbeat_ns=options.heartbeat,
    )
    ledger = loaded.resolve(options.ledger)
    relay = Relay(ledger, NextTier(options.endpoints, keys, link), SystemClock())
    sink = RelaySink(ledger, limits, max_bytes=options.max_bytes, on_stored=relay.wake, on_close=relay.close)
    relay.wake(sink.origins())
    return sink


def _secret(loaded: LoadedConfig[ReceiverConfig], reference: str | None) -> str | None:
    return None if reference is None else resolve_secret(reference, loaded.base).decode()
