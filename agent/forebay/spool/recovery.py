"""A spool that opens whatever its files look like, and goes on whatever becomes of them.

A segment that cannot be trusted is set aside under another name and a new one accepts at once, with the control part
of the damaged one as far as that is intact. A child process then salvages its batches (salvage.py); when it is done
they are taken into the books (adopt.py).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import sqlite3
import subprocess
import time
from pathlib import Path

from forebay import child
from forebay.errors import SpoolError
from forebay.spool import audit, ending, schema
from forebay.spool import control as control_part
from forebay.spool.adopt import RECOUNT, ReadRange, adopt
from forebay.spool.claims import Claims
from forebay.spool.control import Control, open_epoch
from forebay.spool.disk import Disk
from forebay.spool.limits import Limits
from forebay.spool.older import DamagedSegment, is_damage, is_passing, older_path
from forebay.spool.pages import Broken, Pages
from forebay.spool.rolling import create, damaged_path, fresh_control
from forebay.spool.rows import CONTROL, LANES, RUNNING, segment_number
from forebay.spool.salvage import open_pages
from forebay.spool.store import Store
from forebay.spool.wal import Wal, examine

log = logging.getLogger("forebay.spool")

COPY = "control.bak"
LOST_POSITIONS = "positions_lost"  # a counter: 1 until the sources' positions are known again
OPEN_AGAIN_S = (0.2, 0.5, 1.0, 2.0)
_HINTS = {
    "SQLITE_IOERR_SHMMAP": "put the spool on a local disk: this file system shares no memory maps",
    "SQLITE_CANTOPEN": "look at the folder's owner and mode, and at `ulimit -n`",
}
WAIT_S = 3.5  # for salvage at the start, when positions are wanted from it: the agent is to be up in 5 s
SALVAGE_S = 120.0


def segment_path(folder: Path) -> Path:
    """Return the segment in use: the highest number there is."""
    return max(folder.glob("segment-*.db"), default=older_path(folder, 1))


def _carry_audit(damaged: Path, store: Store) -> None:
    """Go on with the audit log of a damaged segment, as far as SQLite can still read it.

    What was in its write-ahead log only is missing then: the log's verification against a checkpoint tells.
    """
    try:
        uri = f"{damaged.absolute().as_uri()}?mode=ro&immutable=1"  # not a byte of the evidence is touched
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as old:
            store.db.execute("BEGIN IMMEDIATE")
            try:
                audit.carry(old, store.db)
                store.db.execute("COMMIT")
                store.audit.forget()
            except BaseException:
                store.db.execute("ROLLBACK")
                raise
    except (sqlite3.Error, UnicodeDecodeError):
        log.error(
            "the audit log begins anew: that of the damaged segment cannot be read damaged=%s", damaged.name
        )


class Recovery:
    """Opens a spool, sets damaged segments aside and takes back what was salvaged.

    Attributes
    ----------
    positions_lost : the spool no longer knows where its sources stood
    ends_torn : the log's last transaction was taken as one that was not finished; it may have been damaged, too
    lost_readings : what salvage found to be lost since this was made
    is_new : it may stand in for one that was lost, and knows of no source but those it has a position of
    """

    def __init__(
        self, folder: Path, sync: str, claims: Claims, limits: Limits, read_range: ReadRange | None = None
    ) -> None:
        self._folder, self._sync, self._claims, self._limits = folder, sync, claims, limits
        self._read_range = read_range
        self._child: tuple[int, subprocess.Popen[bytes], float] | None = None
        self._failed: set[int] = set()
        self._store: Store | None = None
        self.positions_lost = self.is_new = self.ends_torn = False
        self.lost_readings = 0

    # -- opening --------------------------------------------------------------------------------------------

    def open(self) -> Store:
        """Open or create the spool; a disk that is full or fails gets a few seconds. Raises SpoolError."""
        for pause in OPEN_AGAIN_S:
            try:
                return self._open()
            except (sqlite3.Error, OSError) as error:
                name = getattr(error, "sqlite_errorname", type(error).__name__)
                log.error("the spool cannot be opened, it is tried again error=%s", name)
                if name == "SQLITE_FULL" or getattr(error, "errno", 0) == errno.ENOSPC:
                    Disk(self._folder, self._limits).give_back()
                time.sleep(pause)
        try:
            return self._open()
        except (sqlite3.Error, OSError) as error:
            name = getattr(error, "sqlite_errorname", type(error).__name__)
            raise SpoolError(
                f"cannot open the spool: {name}",
                place=str(self._folder),
                retryable=True,
                hint=_HINTS.get(name, ""),
            ) from None

    def _open(self) -> Store:
        for leftover in self._folder.glob("*.new*"):
            leftover.unlink()
        path = segment_path(self._folder)
        aside = max((segment_number(p.name) for p in self._folder.glob("damaged-*.db")), default=0)
        if aside and (not path.exists() or segment_number(path.name) < aside):
            # A crash came between setting it aside and making the next one.
            return self._opened(self._begin_anew(older_path(self._folder, aside), "it was being set aside"))
        if not path.exists():
            return self._opened(self._make(path))
        wal = examine(path.with_name(path.name + "-wal"))
        self.ends_torn = wal.ends_torn
        reason = suspicion(path, wal)
        if not reason:
            try:
                return self._opened(self._make(path))
            except (sqlite3.Error, UnicodeDecodeError) as error:
                if not is_damage(error):
                    raise
                reason = str(error)
        return self._opened(self._begin_anew(path, reason))

    def _make(self, path: Path) -> Store:
        return Store(path, sync=self._sync, limits=self._limits, claims=self._claims)

    def _opened(self, store: Store) -> Store:
        self._store = store
        (self._folder / COPY).unlink(missing_ok=True)  # from now on it would be an older state
        self._find_strangers(store)
        self.positions_lost = bool(store.counters.get(LOST_POSITIONS))
        self.is_new = bool(store.counters.get(control_part.NEW_SPOOL))
        if self.positions_lost:
            deadline = time.monotonic() + WAIT_S
            while self.poll(store) and time.monotonic() < deadline:
                time.sleep(0.02)
        return store

    def _find_strangers(self, store: Store) -> None:
        """Have segments examined that the newest one does not know: it was made without knowing all."""
        for path in [*self._folder.glob("segment-*.db"), *self._folder.glob("damaged-*.db")]:
            number = segment_number(path.name)
            if number < store.number and number not in store.segments:
                self.set_aside(store, number)

    # -- damage ---------------------------------------------------------------------------------------------

    def _begin_anew(self, path: Path, reason: str) -> Store:
        number = segment_number(path.name)
        fresh = older_path(self._folder, number + 1)
        log.error(
            "spool segment is damaged and set aside; a fresh one accepts at once damaged=%s fresh=%s: %s",
            path.name,
            fresh.name,
            reason,
        )
        set_aside(self._folder, number)
        control = self._recover(number)
        control.tables["segment"][(number,)] = (number, 0, RUNNING, "damaged")
        create(fresh, control)
        store = self._make(fresh)
        _carry_audit(damaged_path(self._folder, number), store)
        return store

    def _recover(self, number: int) -> Control:
        """Return the control part of a damaged segment, mended from older copies where it must be."""
        found, pages = _control_of(damaged_path(self._folder, number))
        mended = ending.mend(pages, found) if pages is not None else None
        if mended is None and found.complete:
            return found
        if mended is not None:
            books, positions_lost = mended
            log.error("the spool's last transaction is damaged, in these books: %s", sorted(found.broken))
            told = {RECOUNT: 1} | ({LOST_POSITIONS: 1} if positions_lost else {})
            control_part.set_rows(books, "counter", (books.counters() | told).items())
            return books
        copies = [c for c in self._copies(number) if c is not None]
        best = max(copies, key=lambda c: c.txn, default=fresh_control(number + 1))
        if best.txn == found.txn and "counter" not in found.broken:
            return best  # the copy is of the very state that was lost
        merged = control_part.merge(found, best)
        counters = control_part.fresh_counters(number + 1) | merged.counters() | {RECOUNT: 1}
        if "counter" in found.broken:
            counters["running"] += ending.FAR
            for lane in LANES:
                open_epoch(counters, str(lane))
        if "progress" in found.broken:
            # An older position would have rows read again that were delivered: rather none.
            merged.tables["progress"] = {}
            counters[LOST_POSITIONS] = 1
        control_part.set_rows(merged, "counter", counters.items())
        control_part.balance(merged)
        log.error(
            "part of the spool's books is lost and is put together from copies: %s", sorted(found.broken)
        )
        return merged

    def _copies(self, number: int) -> list[Control | None]:
        copies: list[Control | None] = []
        with contextlib.suppress(OSError, ValueError):
            copies.append(control_part.unpack((self._folder / COPY).read_bytes()))
        for path in sorted(self._folder.glob("segment-*.db"), reverse=True)[:1]:
            older, _ = _control_of(path)
            copies.append(older if older.complete and segment_number(path.name) < number else None)
        return copies

    def replace(self, store: Store, reason: str) -> bool:
        """Set the newest segment aside while the agent runs. Return whether the last transaction took place."""
        expected, known = store.txn, store.number
        store.close()
        fresh = self._begin_anew(store.path, reason)
        fresh.close()
        store.switch(older_path(self._folder, known + 1))
        store.room.forget_sizes()
        return store.txn > expected

    def is_half_done(self, store: Store) -> bool:
        """Return whether `replace` failed between setting the newest segment aside and making the next one."""
        return not store.path.exists() and damaged_path(self._folder, store.number).exists()

    def set_aside(self, store: Store, number: int) -> None:
        """Set an older segment aside to be salvaged."""
        if number in store.segments and store.segments[number][2] == "damaged":
            return
        log.error("an older spool segment is damaged and examined segment=%d", number)
        store.older.keep_only({n for n, s in store.segments.items() if s[2] == "sealed" and n != number})
        set_aside(self._folder, number)
        with store.transaction() as txn:
            txn.segments[number] = (0, RUNNING, "damaged")
        store.room.forget_sizes()

    # -- salvage --------------------------------------------------------------------------------------------

    def poll(self, store: Store) -> bool:
        """Go on with salvage: start it, wait for it, take in its result. Return whether there is more to do."""
        if self._child is not None and not self._ended():
            return True
        for number, (_, _, state) in list(store.segments.items()):
            if state != "damaged" or number in self._failed:
                continue
            if older_path(self._folder, number).exists():
                self._adopt(store, number)
            else:
                self._start(number)
                if self._child is not None:
                    return True
                self._adopt(store, number)
        return False

    def _adopt(self, store: Store, number: int) -> None:
        store.older.keep_only(set())
        read_range = self._read_range if self.positions_lost else None
        recount = bool(store.counters.get(RECOUNT))
        owners, lost = adopt(store, number, read_range, recount=recount)
        self.lost_readings += lost
        if owners:
            log.warning("positions of sources are taken from salvaged batches owners=%s", sorted(owners))
        put_away(self._folder, number, keep=lost > 0 or recount)
        store.room.forget_sizes()

    def _start(self, number: int) -> None:
        if not damaged_path(self._folder, number).exists():
            create(older_path(self._folder, number), Control())  # it is gone: nothing is intact
            return
        files = str(damaged_path(self._folder, number)), str(older_path(self._folder, number))
        salvage = subprocess.Popen(
            child.command("forebay.spool.salvage", *files),
            env=child.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._child = (number, salvage, time.monotonic() + SALVAGE_S)

    def _ended(self) -> bool:
        assert self._child is not None
        number, salvage, deadline = self._child
        if salvage.poll() is None:
            if time.monotonic() < deadline:
                return False
            salvage.kill()
            salvage.wait()
        if salvage.returncode != 0:
            self._failed.add(number)
            log.error(
                "a damaged segment could not be examined; it is kept for `forebay spool repair` and the next start"
                " segment=%d code=%s",
                number,
                salvage.returncode,
            )
        self._child = None
        return True

    def read_again(self, store: Store) -> None:
        """Let sources whose position is lost begin anew, at the price of rows that are delivered twice."""
        with store.transaction() as txn:
            txn.counters[LOST_POSITIONS] = txn.counters[control_part.NEW_SPOOL] = 0
        self.positions_lost = self.is_new = False

    def close(self) -> None:
        """End a salvage that runs: the next start begins it again."""
        if self._child is not None:
            self._child[1].kill()
            self._child[1].wait()
            self._child = None


def write_copy(store: Store) -> None:
    """Leave a copy of the control part at a clean end: used only if the segment is found damaged in this very state."""
    path = store.folder / COPY
    with contextlib.suppress(OSError, sqlite3.Error):
        path.with_suffix(".tmp").write_bytes(control_part.pack(control_part.from_db(store.db)))
        path.with_suffix(".tmp").rename(path)


def suspicion(path: Path, wal: Wal | None = None) -> str:
    """Return why a segment must not be opened by SQLite, an empty text if it may. `wal`: its log, if it was read."""
    with path.open("rb") as file:
        header = file.read(100)
    page_bytes = int.from_bytes(header[16:18], "big")
    if header[:16] != b"SQLite format 3\0" or page_bytes not in schema.KNOWN_PAGE_BYTES:
        return "the header is not one of a spool"
    wal = wal or examine(path.with_name(path.name + "-wal"))
    if wal.is_damaged:
        return "the write-ahead log is damaged before its end"
    pages = open_pages(path, wal)
    try:
        first = pages.page(1)
    except Broken:
        return "it is shorter than a page"
    if int.from_bytes(first[60:64], "big", signed=True) != schema.VERSION:
        return ""  # to be migrated or refused
    said = int.from_bytes(first[28:32], "big")
    there = path.stat().st_size // page_bytes
    if any(wal.page(n) is None for n in range(there + 1, said + 1)):
        return "it is shorter than it says"
    control = control_part.from_pages(pages)
    return "" if control.complete else f"the books are damaged: {sorted(control.broken)}"


def _control_of(path: Path) -> tuple[Control, Pages | None]:
    try:
        pages = open_pages(path)
        return control_part.from_pages(pages), pages
    except Exception as error:
        if is_passing(error):
            raise  # to take its books for lost would be to lose them; it is tried again
        # Whatever a broken file does, the agent goes on.
        log.warning("a damaged segment cannot be read error=%s", type(error).__name__)
        return Control(broken=set(CONTROL), lost=set(CONTROL)), None


def set_aside(folder: Path, number: int) -> None:
    """Rename a segment's files so that nobody opens them as a spool."""
    source, target = older_path(folder, number), damaged_path(folder, number)
    for suffix in ("", "-shm", "-wal"):  # the log last: without it the file would look whole
        path = source.with_name(source.name + suffix)
        if path.exists():
            path.rename(target.with_name(target.name + suffix))
    schema.sync_folder(folder)


def put_away(folder: Path, number: int, *, keep: bool) -> None:
    """Delete the files of a damaged segment that was salvaged; `keep` them, as evidence, until room is needed."""
    source = damaged_path(folder, number)
    for suffix in ("", "-shm", "-wal"):
        path = source.with_name(source.name + suffix)
        if keep and path.exists():
            path.rename(path.with_name(path.name.replace("damaged-", "lost-")))
        path.unlink(missing_ok=True)


__all__ = ["DamagedSegment", "Recovery", "is_damage", "segment_path"]
