"""Hands on what a relay's sink holds: one session with the next tier for each gateway, under the relay's key.

A relay knows nothing that its gateways do not: batches, gaps and signed checkpoints go on as they came, those of one
gateway in a session that names it. The receiver there lets this key speak for it (`keys enroll --speaks-for`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from forebay import __version__
from forebay.clock import Clock, boot_id
from forebay.errors import ForebayError
from forebay.forward import Forwarder, LinkMemory, LinkOptions, SpoolDoor
from forebay.keys import PublicKey, SecretKey
from forebay.receive.sqlite import SqliteDatabase
from forebay.spool.reader import GapRow
from forebay.wire.checkpoint import digest
from forebay.wire.envelope import Exported
from forebay.wire.messages import PROTOCOL, Checkpoint, Hello

log = logging.getLogger("forebay.relay")

_ROW = "id, lane, epoch, seq, stream, schema_id, context_id, tag, data"
_NO_END = (
    2**62
)  # next number of an epoch, for the hello: what its gateway will give it, only the gateway knows
_EPOCHS = 64  # as many as a hello may ask about (docs/wire-format.md)
_RESEND_NS = 60 * 10**9


class _Row(NamedTuple):
    """See forward.link.BatchRow."""

    id: int
    lane: str
    epoch: int
    seq: int
    stream: str
    schema_id: bytes
    context_id: bytes
    tag: bytes
    data: bytes


class _Shelf:
    """What waits of one gateway: reader, claims and writer of a forwarder's door. One thread only."""

    def __init__(self, ledger: Path, gateway: str) -> None:
        self._gateway = gateway
        self._db = SqliteDatabase(ledger)
        # What a power cut takes back here is a deletion: the batch goes again, and the next tier knows it.
        self._db.execute("PRAGMA synchronous=NORMAL")

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def epochs(self) -> dict[int, tuple[str, int]]:
        """Return the epochs to ask the next tier about."""
        lane = "SELECT lane FROM batches b WHERE b.gateway = m.gateway AND b.epoch = m.epoch LIMIT 1"
        waits = "EXISTS (SELECT 1 FROM relay_batches r WHERE r.gateway = m.gateway AND r.epoch = m.epoch)"
        query = (
            f"SELECT epoch, coalesce(({lane}), 'normal') FROM marks m WHERE gateway = ?"
            f" ORDER BY {waits} DESC, mark DESC LIMIT {_EPOCHS}"
        )
        return {epoch: (lane, _NO_END) for epoch, lane in self._db.execute(query, (self._gateway,))}

    # -- reader ---------------------------------------------------------------------------------------------

    def pending(self, lane: str, after: int, limit: int, *, newest_first: bool = False) -> Sequence[_Row]:
        """See forward.link.SpoolReader."""
        side, order = ("<", "DESC") if newest_first else (">", "ASC")
        query = (
            f"SELECT {_ROW} FROM relay_batches WHERE gateway = ? AND lane = ? AND id {side} ?"
            f" ORDER BY id {order} LIMIT ?"
        )
        return [_Row(*row) for row in self._db.execute(query, (self._gateway, lane, after, limit))]

    def batch(self, batch_id: int) -> _Row | None:
        """See SpoolReader."""
        row = self._db.execute(f"SELECT {_ROW} FROM relay_batches WHERE id = ?", (batch_id,)).fetchone()
        return None if row is None else _Row(*row)

    def exists(self, batch_id: int) -> bool:
        """See SpoolReader."""
        found = self._db.execute("SELECT 1 FROM relay_batches WHERE id = ?", (batch_id,)).fetchone()
        return found is not None

    def bodies(self, ids: Sequence[bytes]) -> dict[bytes, bytes]:
        """See SpoolReader."""
        marks = ", ".join("?" * len(ids))
        return dict(self._db.execute(f"SELECT id, body FROM bodies WHERE id IN ({marks})", ids).fetchall())

    def gaps(self, limit: int) -> Sequence[Any]:
        """See SpoolReader."""
        query = (
            "SELECT id, epoch, seq_from, seq_to, stream, rows, readings, first_time, last_time, cause"
            " FROM relay_gaps WHERE gateway = ? AND NOT told ORDER BY id LIMIT ?"
        )
        return [GapRow(*row) for row in self._db.execute(query, (self._gateway, limit))]

    def look_for_hidden(self) -> None:
        """Nothing is salvaged of a relay's store: a database that is damaged there is its owner's to restore."""

    def lost_by_center(self, epoch: int, next_seq: int, mark: int) -> Sequence[tuple[int, int]]:
        """Return what was handed on above the next tier's mark: it was restored to an older state."""
        (own,) = self._db.execute(
            "SELECT coalesce(max(mark), 0) FROM marks WHERE gateway = ? AND epoch = ?", (self._gateway, epoch)
        ).fetchone()
        (first,) = self._db.execute(
            "SELECT min(seq) FROM relay_batches WHERE gateway = ? AND epoch = ? AND seq > ?",
            (self._gateway, epoch, mark),
        ).fetchone()
        end = own if first is None else min(own, first - 1)
        return [(mark + 1, end)] if end > mark else []

    def receipts(self, limit: int) -> Sequence[tuple[int, int, int, bytes]]:
        """See SpoolReader. Checkpoints are the gateways' own."""
        return []

    def ledger_entries(self) -> Sequence[tuple[str, str, str, int]]:
        """See SpoolReader. Ledgers are the gateways' own."""
        return []

    # -- claims: nothing is ever evicted here ---------------------------------------------------------------

    def claim(self, batch_id: int, exists: Callable[[int], bool]) -> bool:
        """See SpoolClaims."""
        return exists(batch_id)

    def release(self, ids: Iterable[int]) -> None:
        """See SpoolClaims."""

    # -- answers --------------------------------------------------------------------------------------------

    def answer(
        self,
        *,
        acked: Sequence[int] = (),
        gaps_confirmed: Sequence[int] = (),
        dead: Sequence[tuple[int, str, str]] = (),
        conflicts: Sequence[int] = (),
        holes: Sequence[tuple[int, int, int]] = (),
        **_of_a_spool: object,
    ) -> None:
        """Take the next tier's answers, in one transaction."""
        with self._db.transaction():
            self._db.executemany("DELETE FROM relay_batches WHERE id = ?", [(n,) for n in acked])
            self._db.executemany(
                "UPDATE relay_gaps SET told = 1 WHERE id = ?", [(n,) for n in gaps_confirmed]
            )
            for batch_id, _, reason in dead:
                self._bury(batch_id, reason)
            for batch_id in conflicts:
                self._bury(batch_id, "conflict")
            for epoch, low, high in holes:
                self._add_gap(epoch, low, high, "center_regressed")

    def _bury(self, batch_id: int, reason: str) -> None:
        """Set a batch aside for good: a gap tells the next tier of it, the operator has its bytes."""
        row = self.batch(batch_id)
        if row is None:
            return
        log.error(
            "the next tier never takes this batch; it is in `relay_dead` gateway=%s stream=%s seq=%d reason=%s",
            *(self._gateway, row.stream, row.seq, reason),
        )
        bodies = self.bodies((row.schema_id, row.context_id))
        exported = Exported(
            *(row.lane, row.epoch, row.seq, row.tag, row.data),
            *(bodies.get(row.schema_id, b""), bodies.get(row.context_id, b"")),
        )
        self._db.execute(
            "INSERT INTO relay_dead VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (self._gateway, row.epoch, row.seq, reason, exported.pack()),
        )
        self._db.execute("DELETE FROM relay_batches WHERE id = ?", (batch_id,))
        if reason != "conflict":  # the number is taken there
            self._add_gap(row.epoch, row.seq, row.seq, "dead_lettered")

    def _add_gap(self, epoch: int, low: int, high: int, cause: str) -> None:
        known = self._db.execute(
            "SELECT min(stream), sum(rows), sum(readings), min(first_time), max(last_time) FROM batches"
            " WHERE gateway = ? AND epoch = ? AND seq BETWEEN ? AND ?",
            (self._gateway, epoch, low, high),
        ).fetchone()
        counts = [value or 0 for value in known[1:]]
        self._db.execute(
            "INSERT INTO relay_gaps (gateway, epoch, seq_from, seq_to, stream, rows, readings, first_time,"
            " last_time, cause) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (gateway, epoch, seq_from)"
            " DO UPDATE SET seq_to = max(relay_gaps.seq_to, excluded.seq_to), told = 0",
            (self._gateway, epoch, low, high, known[0] or "", *counts, cause),
        )

    # -- checkpoints ----------------------------------------------------------------------------------------

    def next_checkpoint(self) -> Checkpoint | None:
        """Return the oldest checkpoint whose batches have all been handed on."""
        row = self._db.execute(
            "SELECT body, signature FROM relay_checkpoints c WHERE gateway = ? AND NOT EXISTS"
            " (SELECT 1 FROM relay_batches b WHERE b.gateway = c.gateway AND b.id <= c.behind) ORDER BY id LIMIT 1",
            (self._gateway,),
        ).fetchone()
        return None if row is None else Checkpoint(*row)

    def checkpoint_kept(self, name: bytes) -> None:
        """Forget a checkpoint that the next tier keeps."""
        self._db.execute(
            "DELETE FROM relay_checkpoints WHERE gateway = ? AND digest = ?", (self._gateway, name)
        )


class _Courier:
    """Carries signed checkpoints as they came. See forward.notary.Notary, whose place it takes in a session."""

    def __init__(self, shelf: _Shelf, clock: Clock) -> None:
        self._shelf, self._clock = shelf, clock
        self._open: bytes = b""
        self._sent_ns: int | None = None

    def look(self, door: SpoolDoor) -> Checkpoint | None:
        """Return a checkpoint that is to be sent now, if there is one."""
        message = self._shelf.next_checkpoint()
        if message is None:
            return None
        if digest(message.body) != self._open:
            self._open, self._sent_ns = digest(message.body), None
        now = self._clock.monotonic_ns()
        return None if self._sent_ns is not None and now - self._sent_ns < _RESEND_NS else message

    def sent(self) -> None:
        """The checkpoint that `look` returned is on its way."""
        self._sent_ns = self._clock.monotonic_ns()

    def resend(self) -> None:
        """A new session: what the last one sent may be lost."""
        self._sent_ns = None

    def answered(self, name: bytes, verdict: str, door: SpoolDoor) -> None:
        """Take the answer: the checkpoint is kept there, whatever it found."""
        if verdict not in ("ok", "restarted", "unknown_key"):
            log.error("the next tier does not have what a gateway signed, it says: %s", verdict)
        self._shelf.checkpoint_kept(name)


@dataclass(frozen=True, slots=True)
class NextTier:
    """Where a relay hands on to."""

    endpoints: tuple[str, ...]
    keys: tuple[SecretKey, PublicKey]
    link: LinkOptions


class Relay:
    """The sessions of a relay, made as gateways appear. `wake` is called by the receiver's thread."""

    def __init__(self, ledger: Path, to: NextTier, clock: Clock) -> None:
        self._ledger, self._to, self._clock = ledger, to, clock
        self._lines: dict[str, tuple[Forwarder, SpoolDoor]] = {}

    def wake(self, gateways: set[str]) -> None:
        """Tell that something of these gateways waits."""
        for gateway in gateways:
            if gateway not in self._lines:
                try:
                    self._lines[gateway] = self._open(gateway)
                except ForebayError as error:
                    log.error("nothing of a gateway can be handed on now gateway=%s: %s", gateway, error)
                    continue
            self._lines[gateway][1].wake()

    def close(self) -> None:
        """End all sessions; what is unanswered waits."""
        for _, door in self._lines.values():
            door.wake()
        for forwarder, _ in self._lines.values():
            forwarder.stop()
        self._lines.clear()

    def _open(self, gateway: str) -> tuple[Forwarder, SpoolDoor]:
        shelf = _Shelf(self._ledger, gateway)
        door = SpoolDoor(shelf, shelf, shelf.answer)
        folder = self._ledger.with_suffix(".links")
        folder.mkdir(parents=True, exist_ok=True)
        boot = boot_id()

        def hello(store: str) -> Hello:
            return Hello(PROTOCOL, gateway, boot, __version__, shelf.epochs(), store)

        forwarder = Forwarder(
            self._to.endpoints,
            self._to.keys,
            self._to.link,
            door,
            self._clock,
            hello,
            memory=LinkMemory(folder / f"{gateway}.json"),
            notary=_Courier(shelf, self._clock),
        )
        forwarder.start()
        return forwarder, door
