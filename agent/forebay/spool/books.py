"""The ledger's entries, and what must be true of them."""

from __future__ import annotations

from typing import Any


def empty_entry() -> dict[str, Any]:
    """Return the entry of a stream that nothing is counted for."""
    return {
        "read": 0,
        "filtered": {},
        "guarded": 0,
        "rejected": {},
        "accepted": 0,
        "delivered": 0,
        "pending": 0,
        "evicted": {},
        "dead_lettered": {},
        "quarantined": {},
        "models": {},
    }


def take_in(entry: dict[str, Any], kind: str, reason: str, count: int) -> None:
    """Take a row of the ledger into its stream's entry.

    Kind `model` counts what models did, not readings: its reason is `EVENT MODEL`. It is part of no equation, and nor
    is a kind of a newer release, which is passed over.
    """
    if kind == "model":
        event, _, model = reason.partition(" ")
        entry["models"].setdefault(model, {})[event] = count
    elif isinstance(entry.get(kind), dict):
        entry[kind][reason] = count
    elif kind in entry:
        entry[kind] = count


def equations_hold(entry: dict[str, Any]) -> bool:
    """Return whether both equations of the ledger hold for a stream.

    read = accepted + filtered + guarded + rejected, and
    accepted = delivered + pending + evicted + dead_lettered + quarantined.
    """

    def total(kind: str) -> int:
        value = entry[kind]
        return sum(value.values()) if isinstance(value, dict) else int(value)

    into = total("accepted") + total("filtered") + total("guarded") + total("rejected")
    onward = sum(total(kind) for kind in ("delivered", "pending", "evicted", "dead_lettered", "quarantined"))
    return total("read") == into and total("accepted") == onward
