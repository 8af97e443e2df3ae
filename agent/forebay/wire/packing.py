"""msgpack with limits: bytes from outside cost bounded memory and raise WireError only.

1 MiB of empty arrays becomes 86 MiB of Python objects, so every length is bounded by what the caller expects
and never by the library's defaults.
"""

from __future__ import annotations

from typing import Any

import msgpack

from forebay.errors import WireError

_PACKER_OPTIONS: dict[str, Any] = {"use_bin_type": True, "strict_types": False}


def pack(value: Any) -> bytes:
    """Return msgpack bytes."""
    packed: bytes = msgpack.packb(value, **_PACKER_OPTIONS)
    return packed


def unpack(data: bytes | memoryview, *, max_items: int = 4096, max_bytes: int = 16 * 1024 * 1024) -> Any:
    """Return the one value in `data`.

    Parameters
    ----------
    max_items : most entries of any one array or map; the whole message is bounded by `max_bytes`, and each
        entry takes at least a byte, so memory stays within a small multiple of the message.
    max_bytes : longest message, string or binary accepted.

    Raises
    ------
    WireError
        Too long, truncated, trailing bytes, extension types, non-UTF-8 strings, keys that cannot be hashed.
    """
    if len(data) > max_bytes:
        raise WireError(f"expected a message of at most {max_bytes} bytes, found {len(data)}")
    try:
        return msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=False,
            use_list=True,
            ext_hook=_refuse_extension,
            max_str_len=max_bytes,
            max_bin_len=max_bytes,
            max_array_len=max_items,
            max_map_len=max_items,
            max_ext_len=0,
        )
    except WireError:
        raise
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        # The library's own text can quote data, so only its kind goes on.
        raise WireError(
            f"expected msgpack, found {len(data)} bytes that are not ({type(error).__name__})"
        ) from None


def _refuse_extension(code: int, data: bytes) -> Any:
    raise WireError(f"expected plain msgpack, found extension type {code}")
