"""Options of sources that are asked or listened to: system, zmq, modbus, mqtt."""

from __future__ import annotations

from forebay.config.base import Options

SOURCE_OPTIONS: dict[str, type[Options]] = {}
