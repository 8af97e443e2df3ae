"""Builds the sources that are asked or listened to, each imported only when the configuration names it."""

from __future__ import annotations

import importlib

from forebay.config.base import Options
from forebay.config.sources_live import (
    AgentOptions,
    ModbusOptions,
    MqttOptions,
    SystemOptions,
    ZmqOptions,
)
from forebay.sources.context import SourceContext
from forebay.stages import Source

_CLASSES = {
    AgentOptions: "forebay.sources.agent:AgentSource",
    SystemOptions: "forebay.sources.system:SystemSource",
    ModbusOptions: "forebay.sources.modbus:ModbusSource",
    MqttOptions: "forebay.sources.mqtt:MqttSource",
    ZmqOptions: "forebay.sources.zmq_push:ZmqSource",
}


def build_live(options: Options, context: SourceContext) -> Source:
    """Return the source of some options. Raises KeyError for options that are of no live source."""
    module, _, name = _CLASSES[type(options)].partition(":")
    made: Source = getattr(importlib.import_module(module), name)(options, context)
    return made
