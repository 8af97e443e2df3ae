"""The table `positions` of an SQL sink.

Which of two batches is the newer: within an epoch the one with the higher number, within a boot the one that was sealed
later; between boots, the one whose boot was met later. Arrival decides nothing within one boot: a backlog comes late.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from forebay.receive.database import Database
from forebay.receive.positions import Place
from forebay.receive.sink import Incoming
from forebay.wire.envelope import Context
from forebay.wire.messages import MAX_OWNER, MAX_OWNERS

MOST_KEPT = 10_000  # entries in memory, of all gateways
Key = tuple[str, str]  # (gateway, owner)


class Positions:
    """`note` and `write` within the sink's transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._kept: dict[Key, Place] = {}
        self._changed: set[Key] = set()

    def forget(self) -> None:
        """Forget what may be of a transaction that did not take place."""
        self._kept.clear()
        self._changed.clear()

    def note(self, batch: Incoming) -> None:
        """Take in a batch that is being stored."""
        owner, position = batch.context.owner, batch.envelope.position
        key = (batch.gateway, owner)
        known = self._kept.get(key) or self._load(key)
        if known is None:
            if not self._may_add(batch.gateway, owner):
                return
            known = Place()
            self._changed.add(key)
        stamp = batch.envelope.stamp
        place = Place(batch.epoch, batch.seq, batch.context.boot, stamp.monotonic_ns, position)
        if position is not None and self._is_newer(batch.gateway, place, known):
            known = place
            self._changed.add(key)
        self._kept[key] = known

    def write(self) -> None:
        """Write down what has changed."""
        rows = [
            (*key, p.epoch, p.seq, p.boot, p.monotonic, p.position)
            for key in sorted(self._changed)
            for p in (self._kept[key],)
        ]
        if rows:
            self._db.executemany(
                "INSERT INTO positions VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (gateway, owner) DO UPDATE"
                " SET epoch = excluded.epoch, seq = excluded.seq, boot = excluded.boot,"
                " monotonic = excluded.monotonic, position = excluded.position",
                rows,
            )
        self._changed.clear()
        if len(self._kept) > MOST_KEPT:
            self._kept.clear()

    def of(self, gateway: str) -> dict[str, Place]:
        """Return the place of each owner of a gateway that batches are stored of."""
        query = "SELECT owner, epoch, seq, boot, monotonic, position FROM positions WHERE gateway = ?"
        return {row[0]: Place(*row[1:]) for row in self._db.execute(query, (gateway,))}

    def _load(self, key: Key) -> Place | None:
        query = "SELECT epoch, seq, boot, monotonic, position FROM positions WHERE gateway = ? AND owner = ?"
        row = self._db.execute(query, key).fetchone()
        return None if row is None else Place(*row)

    def _may_add(self, gateway: str, owner: str) -> bool:
        """Return whether one more owner is kept: what a gateway makes up must not fill the store."""
        query = "SELECT owner FROM positions WHERE gateway = ?"
        there = {row[0] for row in self._db.execute(query, (gateway,))}
        there |= {name for of, name in self._changed if of == gateway}
        return len(owner) <= MAX_OWNER and len(there) < MAX_OWNERS

    def _is_newer(self, gateway: str, place: Place, known: Place) -> bool:
        if known.position is None:
            return True
        if place.epoch == known.epoch:
            return place.seq > known.seq
        if place.boot == known.boot:
            return place.monotonic >= known.monotonic
        return self._met(gateway, place.boot) > self._met(gateway, known.boot)

    def _met(self, gateway: str, boot: str) -> int:
        """Return a number that is higher for boots met later."""
        query = "SELECT met FROM boots WHERE gateway = ? AND boot = ?"
        row = self._db.execute(query, (gateway, boot)).fetchone()
        return -1 if row is None else int(row[0])


def owners_of(bodies: Iterable[tuple[str, bytes]]) -> Iterator[Key]:
    """Yield (gateway, owner) of context bodies: of a store of before positions were kept."""
    for gateway, body in bodies:
        yield gateway, Context.parse(body).owner
