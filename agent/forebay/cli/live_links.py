"""What `forebay check --live` tries over the network: receivers with this gateway's key, devices, brokers, ports."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from forebay.config.agent import AgentConfig, tcp_address
from forebay.config.findings import Finding, KeyPath, Severity
from forebay.config.loader import LoadedConfig
from forebay.config.receiver import ReceiverConfig
from forebay.config.sources_live import ModbusOptions, MqttOptions, ZmqOptions
from forebay.errors import ForebayError

CONNECT_TIMEOUT_S = 3.0  # a satellite link answers within 1 s
_MODBUS_HINT = (
    "look at cable, address, unit ids, and the registers' `kind` and `address`, which counts from 0"
)
_MQTT_HINT = "look at the broker's address, user, password and certificates"

Loaded = LoadedConfig[Any]


def check_endpoints(loaded: Loaded) -> Iterator[Finding]:
    """Try to connect to receivers with the configured keys, or to listen as one."""
    config = loaded.config
    if isinstance(config, ReceiverConfig):
        yield from _can_listen(loaded, config.listen.endpoint, ("listen", "endpoint"))
    elif config.forward is not None:
        for i, endpoint in enumerate(config.forward.endpoints):
            yield from _answers(loaded, endpoint, ("forward", "endpoints", i))


def _answers(loaded: Loaded, endpoint: str, at: KeyPath) -> Iterator[Finding]:
    address = tcp_address(endpoint)
    if address is None:
        return
    try:
        socket.create_connection(address, timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        yield loaded.finding(
            f"cannot connect to {endpoint}: {error.strerror or type(error).__name__}",
            at,
            hint="is `forebay receive` running there, and the port open?",
        )
        return
    from forebay.forward.probe import handshake
    from forebay.keys import read_public, read_secret

    keys = loaded.config.forward.keys
    try:
        pair = read_secret(loaded.resolve(keys.own)), read_public(loaded.resolve(keys.server))
    except ForebayError:
        return  # `check_keys` says it
    reason = handshake(endpoint, pair, CONNECT_TIMEOUT_S)
    if reason:
        hint = "there: forebay keys enroll GATEWAY_ID PUBFILE --allow DIR; here: `keys.server` is the receiver's .pub"
        yield loaded.finding(f"{endpoint}: {reason}", at, hint=hint)


def check_web(loaded: Loaded) -> Iterator[Finding]:
    """Try to listen where the page will."""
    web = loaded.config.web
    if web is not None and web.page:
        yield from _can_listen(loaded, f"tcp://{web.listen}", ("web", "listen"))


def check_sources(loaded: Loaded) -> Iterator[Finding]:
    """Ask each device and broker once. Not while the agent runs: some serve one client only, and it knows."""
    from forebay.cli.status import is_running

    config = loaded.config
    if not isinstance(config, AgentConfig):
        return
    tries: dict[str, tuple[Callable[[], str], str]] = {}
    for name, source in config.sources.items():
        if isinstance(source, ModbusOptions):
            tries[name] = partial(_modbus, source, name), _MODBUS_HINT
        elif isinstance(source, MqttOptions):
            tries[name] = partial(_mqtt, loaded, source), _MQTT_HINT
    running = is_running(loaded.resolve(config.spool.dir))
    if running and tries:
        message = (
            "the agent runs, so its devices and brokers were not tried: forebay status says how they are"
        )
        yield loaded.finding(message, ("sources",), severity=Severity.INFO)
        return
    logging.getLogger("forebay").addHandler(logging.NullHandler())  # what a source logs is said here once
    for name, (attempt, hint) in tries.items():
        try:
            trouble = attempt()
        except ForebayError as error:
            trouble, hint = error.message, error.hint
        if trouble:
            yield loaded.finding(trouble, ("sources", name), hint=hint)
    for name, source in config.sources.items():
        if isinstance(source, ZmqOptions):
            yield from _can_listen(loaded, source.endpoint, ("sources", name, "endpoint"))


def _modbus(options: ModbusOptions, name: str) -> str:
    from forebay.sources.context import SourceContext
    from forebay.sources.modbus import ModbusSource

    return ModbusSource(options, SourceContext(name, name)).try_once()


def _mqtt(loaded: Loaded, options: MqttOptions) -> str:
    from forebay.sources.mqtt_probe import try_broker

    return try_broker(options, loaded.base, CONNECT_TIMEOUT_S)


def _can_listen(loaded: Loaded, endpoint: str, at: KeyPath) -> Iterator[Finding]:
    address = tcp_address(endpoint)
    if address is None:
        return
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("" if host == "*" else host, port))
        except OSError as error:
            busy = error.errno == errno.EADDRINUSE
            yield loaded.finding(
                "the port is in use" if busy else f"cannot listen: {error.strerror}",
                at,
                hint="by this one, which runs already, or by another program?" if busy else "",
                severity=Severity.WARNING if busy else Severity.ERROR,
            )
