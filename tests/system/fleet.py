"""Gateways with a backlog, as a process beside the receiver's: `fleet.py FOLDER ENDPOINT FIRST COUNT BATCHES`.

Real spools, writers and forwarders, ten or so of them a process. Fills the spools and prints `ready`; starts when a
line comes in; forgets at the next one what it measured; prints as JSON how long each batch waited for its answer once
all is delivered; ends at the third.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

import numpy as np

from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.clock import SystemClock
from forebay.forward import Forwarder, LinkOptions, SpoolDoor
from forebay.forward.session import Session
from forebay.keys import read_public, read_secret
from forebay.spool import Spool
from forebay.spool.store import Answers
from forebay.stages import Commit
from forebay.wire.envelope import Context, Stamp
from forebay.wire.messages import PROTOCOL, Hello
from forebay.wire.seal import Sealer

NS = 1_000_000_000
BLOB = 64 * 1024
AT_ONCE = 16  # batches in a commit
BLOBS = Schema("shots", (Field("shot", Type.BYTES),))
ACK_TIMEOUT_S = 60  # twice the default: a disk that others use as well may take its time
OPTIONS = LinkOptions(
    backoff_min_ns=NS // 2,
    backoff_max_ns=3 * NS,
    connect_timeout_ns=20 * NS,
    ack_timeout_ns=ACK_TIMEOUT_S * NS,
)


class Loaded:
    """A gateway with a backlog: a real spool with its writer, and a forwarder."""

    def __init__(self, folder: Path, name: str, count: int) -> None:
        self.name = name
        self.spool = Spool.open(folder / name, sync="normal", max_bytes=1 << 34, on_stored=lambda: None)
        sealer = Sealer(Context(name, "s/p", "boot-1", "0"), lambda: Stamp(1, time.monotonic_ns(), "synced"))
        rng = random.Random(name)
        for first in range(0, count, AT_ONCE):
            commit = Commit("s/p")
            for _ in range(min(AT_ONCE, count - first)):
                column = Column.of(Type.BYTES, [rng.randbytes(BLOB)])
                block = Block(BLOBS, np.array([1], dtype=np.int64), (column,))
                commit.batches.append(sealer.seal(block, None))
            commit.bodies = dict(sealer.bodies)
            commit.ledger["shots", "read", ""] += len(commit.batches)
            commit.ledger["shots", "accepted", ""] += len(commit.batches)
            self.spool.store.apply([commit], Answers())
            self.spool.store.checkpoint("TRUNCATE")
        self.spool.writer.start()
        self.door = SpoolDoor(self.spool.reader(), self.spool.claims, self.spool.writer.answer)
        self.forwarder: Forwarder | None = None

    def start(self, endpoint: str, folder: Path) -> None:
        keys = (read_secret(folder / f"{self.name}.key"), read_public(folder / "center.pub"))
        store = self.spool.store
        epochs = {epoch: (str(lane), number) for epoch, (lane, number) in store.epochs().items()}
        hello = Hello(PROTOCOL, self.name, "boot", "0", epochs, "")
        self.forwarder = Forwarder(
            [endpoint], keys, OPTIONS, self.door, SystemClock(), lambda _s: hello, random.Random(self.name)
        )
        self.forwarder.start()

    def close(self) -> None:
        if self.forwarder is not None:
            self.forwarder.stop(20)
        self.spool.close(5)


def watch_answers(waits: list[float]) -> None:
    """Note how long each batch waited for its answer, whatever it was."""
    send, settle = Session._send, Session._settle

    def sending(self, batch):
        done = send(self, batch)
        self.__dict__.setdefault("sent_at", {})[batch.epoch, batch.seq] = time.monotonic()
        return done

    def settling(self, numbers):
        now = time.monotonic()
        numbers = list(numbers)
        waits.extend(now - self.sent_at.pop(n) for n in numbers if n in self.sent_at)
        return settle(self, numbers)

    Session._send, Session._settle = sending, settling


def main(folder: Path, endpoint: str, first: int, count: int, batches: int) -> None:
    """See the module."""
    waits: list[float] = []
    watch_answers(waits)
    fleet = [Loaded(folder, f"gw-{n}", batches) for n in range(first, first + count)]
    print("ready", flush=True)
    sys.stdin.readline()
    for gateway in fleet:
        gateway.start(endpoint, folder)
    sys.stdin.readline()
    waits.clear()
    while any(not gateway.door.reader.is_empty() for gateway in fleet):
        time.sleep(0.1)
    print(json.dumps(sorted(waits)), flush=True)
    sys.stdin.readline()
    for gateway in fleet:
        gateway.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
