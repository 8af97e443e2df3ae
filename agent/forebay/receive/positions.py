"""Where the sources of a gateway stood behind the newest batch that is stored: for a spool that was lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from forebay.wire.messages import MAX_OWNERS, MAX_POSITIONS_BYTES, Position


@dataclass(frozen=True, slots=True)
class Place:
    """A position and the batch that said it; `position` is None as long as none did."""

    epoch: int = 0
    seq: int = 0
    boot: str = ""
    monotonic: int = 0
    position: bytes | None = None


def common_positions(of_sinks: Iterable[Mapping[str, Place]]) -> dict[str, Position | None]:
    """Return what may be told to a gateway: what every sink agrees on, within the limits of a message.

    Where sinks differ a crash came between their transactions: of two places in one epoch the earlier holds, for what
    came after it is not stored everywhere; else nobody knows.
    """
    places: dict[str, Place] = {}
    for place_of in of_sinks:
        for owner, place in place_of.items():
            other = places.get(owner, place)
            if other == place or (other.epoch == place.epoch and place.seq < other.seq):
                places[owner] = place
            elif other.epoch != place.epoch:
                places[owner] = Place()
    out: dict[str, Position | None] = {}
    size = 0
    for owner, place in sorted(places.items())[:MAX_OWNERS]:
        size += len(place.position or b"")
        is_told = place.position is not None and size <= MAX_POSITIONS_BYTES
        out[owner] = (place.epoch, place.seq, place.position or b"") if is_told else None
    return out
