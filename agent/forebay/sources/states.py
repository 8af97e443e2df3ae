"""Positions and states of sources as bytes."""

from __future__ import annotations

from typing import Any

import msgpack

from forebay.errors import InputError


def pack(state: Any) -> bytes:
    """Return msgpack bytes of a state."""
    packed: bytes = msgpack.packb(state, use_bin_type=True)
    return packed


def unpack(data: bytes, what: str) -> Any:
    """Return a state from msgpack bytes. Raises InputError."""
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise InputError(f"{what} cannot be read", hint="it was written by another version?") from error
