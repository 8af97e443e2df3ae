"""Tries whether a broker lets this gateway in, under a name of its own: a running agent keeps its session."""

from __future__ import annotations

import os
import ssl
import time
from pathlib import Path
from typing import Any

from forebay import secrets
from forebay.config.sources_live import MqttOptions
from forebay.sources.mqtt import tls_context


def try_broker(options: MqttOptions, base: Path, timeout_s: float) -> str:
    """Return why the broker cannot be used, empty when it can.

    With a `client_id` of the configuration's own only the connection is tried: the broker may know that name
    alone, and a second client of that name would end the first one's session.

    Raises
    ------
    ConfigError
        The password cannot be read.
    """
    from paho.mqtt import client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    said: list[Any] = []
    version = paho.MQTTv5 if options.version == "5" else paho.MQTTv311
    name = f"forebay-check-{os.urandom(4).hex()}"
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=version)
    client.connect_timeout = timeout_s
    client.on_connect = lambda _client, _data, _flags, reason, _properties: said.append(reason)
    if options.username:
        password = secrets.resolve(options.password, base).decode() if options.password else None
        client.username_pw_set(options.username, password)
    host, port, encrypted = options.address()
    try:
        if encrypted:
            client.tls_set_context(tls_context(options.tls, base))
        client.connect(host, port)
        until = time.monotonic() + timeout_s
        while not (said or options.client_id) and time.monotonic() < until:
            if client.loop(0.1) != paho.MQTT_ERR_SUCCESS:
                break
        client.disconnect()
    except ssl.SSLError as error:
        return f"no encrypted connection: {error.reason or type(error).__name__}"
    except OSError as error:
        return f"cannot connect: {error.strerror or type(error).__name__}"
    if said and said[0].is_failure:
        return f"the broker refuses the connection: {said[0]}"
    return "" if said or options.client_id else "it does not answer as a broker does"
