"""The `file` source: CSV, JSON lines, image folders, videos."""

from __future__ import annotations

import glob
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from forebay.clock import Clock
from forebay.config.fields import FieldOptions
from forebay.config.sources import FileOptions, guess_format
from forebay.errors import InputError
from forebay.redact import is_telling
from forebay.sources.formats import CsvDecoder, Decoded, Decoder, JsonLinesDecoder, Place
from forebay.sources.states import pack, unpack
from forebay.sources.tail import PIECE_BYTES, TailedFile, matches, name_by_inode
from forebay.stages import Chunk, Emit

log = logging.getLogger(__name__)

CHUNK_BYTES = 1024 * 1024  # rows are handed on at the latest after so many bytes: a chunk is one commit
POLL_S = 0.2  # how often a followed file is looked at
LEAVE_POLLS = 10  # a renamed file is read until nothing came for so many looks: writers switch late
MAX_FOLLOWED = 1_000
_PACKED = (".gz", ".zst", ".xz", ".bz2", ".lz4")
_POSITION_VERSION = 1
_HIDDEN = True  # in place of a header that is not kept


class Reader(Protocol):
    """What reads one format of file; `wait` is called when there is nothing to do."""

    def run(self, emit: Emit, position: bytes | None) -> None: ...


class FileSource:
    """Source of files. See forebay.stages.Source.

    Parameters
    ----------
    options : FileOptions
    base : Path
        What a relative path starts from: the folder of the configuration file.
    stream : str
        Name of the stream.
    fields : mapping of name to FieldOptions
        The pipeline's `fields:`.
    key : str
        Name of the field that tells devices apart, or empty.
    clock : Clock
        Stamps rows that have no time of their own.
    wait : callable or None
        Stands in for the pause between two looks at a followed file: seconds in, True to stop. For tests.
    """

    replayable = True

    def __init__(
        self,
        options: FileOptions,
        base: Path,
        stream: str,
        fields: Mapping[str, FieldOptions] | None = None,
        key: str = "",
        *,
        clock: Clock,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._options = options
        self._path = base / options.path
        self._stream, self._fields, self._key, self._clock = stream, fields or {}, key, clock
        self._stop = threading.Event()
        self._wait = wait or self._stop.wait

    def run(self, emit: Emit, position: bytes | None) -> None:
        """See Source. Ends with the last file unless `follow`."""
        self._reader().run(emit, position)

    def at_end(self) -> bytes | None:
        """Return a position behind the rows that are there now; images and videos have none but their start."""
        reader = self._reader()
        return reader.at_end() if isinstance(reader, _RowReader) else None

    def stop(self) -> None:
        """See Source."""
        self._stop.set()

    def _reader(self) -> Reader:
        kind = self._options.actual_format
        if kind == "images":
            from forebay.sources.images import ImageReader

            return ImageReader(
                self._options, self._path, self._stream, self._fields, self._clock, self._stop, self._wait
            )
        if kind == "video":
            from forebay.sources.video import VideoReader

            return VideoReader(self._options, self._path, self._stream, self._fields, self._clock, self._stop)
        return _RowReader(self._options, self._path, self._make_decoder(), self._stop, self._wait)

    def _make_decoder(self) -> Decoder:
        options = self._options
        if options.actual_format == "csv":
            return CsvDecoder(
                self._stream,
                self._clock,
                self._fields,
                self._key,
                options.time,
                options.max_line,
                delimiter=options.actual_delimiter,
                columns=options.columns,
            )
        return JsonLinesDecoder(
            self._stream, self._clock, self._fields, self._key, options.time, options.max_line
        )


class _RowReader:
    """Reads CSV and JSON lines. One use.

    Position
    --------
    msgpack [version, decoder state, saved TailedFiles]. A finite source goes through its files by name, so
    the one that it reads tells what is done; a followed one keeps every file that is there. Names that hold an
    identifier are not kept: such a file is found by its inode, such a header read again.
    """

    def __init__(
        self,
        options: FileOptions,
        path: Path,
        decoder: Decoder,
        stop: threading.Event,
        wait: Callable[[float], bool],
    ) -> None:
        self._options, self._path, self._decoder = options, path, decoder
        self._stop, self._wait = stop, wait
        self._files: list[TailedFile] = []
        self._current: TailedFile | None = None
        self._unhanded = 0  # bytes read since rows were last handed on

    def run(self, emit: Emit, position: bytes | None) -> None:
        try:
            saved = self._restore(position)
            if self._options.follow:
                self._follow(emit, saved)
            else:
                self._read_all(emit, saved)
        finally:
            for file in self._files:
                file.close()

    def at_end(self) -> bytes:
        """Read everything that is there, hand nothing on, and return the position behind it."""
        try:
            files = self._look()
            for file in files:
                self._drain(file, lambda _chunk: True, final=not self._options.follow)
            if not self._options.follow:  # it goes by name: the last one tells what is done
                for file in self._files[:-1]:
                    file.close()
                self._files = files[-1:]
            return self._position()
        finally:
            for file in self._files:
                file.close()

    # -- finite --------------------------------------------------------------------------------------------

    def _read_all(self, emit: Emit, saved: list[list[Any]]) -> None:
        paths = list_files(self._path, self._options.actual_format)
        if not paths:
            raise InputError("no such file", place=str(self._path), hint="see `path:`", retryable=True)
        resumed = saved[0] if saved else None
        if resumed is not None and not resumed[0]:
            resumed[0] = name_by_inode(paths, resumed[1])
        for path in paths:
            if resumed is not None and path.name < resumed[0]:
                continue  # done before
            file = self._open(path, resumed if resumed is not None and path.name == resumed[0] else None)
            resumed = None
            self._files = [file]
            if not self._drain(file, emit, final=True):
                return
            file.close()

    def _open(self, path: Path, saved: list[Any] | None) -> TailedFile:
        if saved is not None and not matches(path, saved):
            log.warning(
                "%s is not the file that was read before (truncated or replaced): it is read from its start",
                path,
            )
            saved = None
        return TailedFile(path, saved)

    # -- follow --------------------------------------------------------------------------------------------

    def _follow(self, emit: Emit, saved: list[list[Any]]) -> None:
        self._reopen(saved)
        while not self._stop.is_set():
            read = self._look()
            progress = False
            for file in list(self._files):
                before = file.offset
                leaving = file not in read
                closing = leaving and file.idle_polls >= LEAVE_POLLS
                if not self._drain(file, emit, final=closing):
                    return
                file.idle_polls = 0 if file.offset != before else file.idle_polls + 1
                progress |= file.offset != before
                if closing:
                    self._files.remove(file)
                    file.close()
            if not progress and self._wait(POLL_S):
                return

    def _reopen(self, saved: list[list[Any]]) -> None:
        """Find the files of a position again, under any name in their folder."""
        if not saved:
            return
        folder = self._path if self._path.is_dir() else self._path.parent
        siblings = sorted(p for p in folder.iterdir() if p.is_file()) if folder.is_dir() else []
        for entry in saved:
            path = next((p for p in [folder / entry[0], *siblings] if matches(p, entry)), None)
            if path is None:
                log.warning(
                    "%s was truncated, replaced or removed since it was last read: "
                    "what was not read of it is lost, a file of that name is read from its start",
                    folder / entry[0],
                )
                continue
            self._files.append(TailedFile(path, entry))
            if entry[0] and path.name != entry[0]:
                self._add_between(path, siblings)

    def _add_between(self, old: Path, siblings: list[Path]) -> None:
        """Add files that were rotated in and out while nobody looked, oldest first."""
        changed = old.stat().st_mtime_ns
        known = {file.inode for file in self._files}
        between = [
            p
            for p in siblings
            if p.name.startswith(self._path.name)
            and p not in (old, self._path)
            and p.stat().st_mtime_ns > changed
            and p.stat().st_ino not in known
        ]
        for path in sorted(between, key=lambda p: p.stat().st_mtime_ns):
            if path.suffix in _PACKED:
                log.warning("%s was rotated and compressed before it was read: its rows are not read", path)
            else:
                self._files.append(TailedFile(path))

    def _look(self) -> list[TailedFile]:
        """Bring the open files in line with the folder; return those that are where `path` says."""
        by_inode = {file.inode: file for file in self._files}
        listed: list[TailedFile] = []
        for path in list_files(self._path, self._options.actual_format):
            try:
                inode = path.stat().st_ino
                file = by_inode.get(inode)
                if file is None:
                    if len(self._files) >= MAX_FOLLOWED:
                        raise InputError(
                            f"more than {MAX_FOLLOWED} files to follow", place=str(self._path),
                            hint="narrow the pattern or move finished files away",
                        )  # fmt: skip
                    file = TailedFile(path)
                    self._files.append(file)
            except FileNotFoundError:
                continue  # renamed since it was listed
            file.path = path
            what = file.was_replaced()
            if what:
                log.warning("%s: %s, it is read from its start", path, what)
                if file is self._current:
                    self._current = None
                file.start_again()
            listed.append(file)
        return listed

    # -- both ----------------------------------------------------------------------------------------------

    def _drain(self, file: TailedFile, emit: Emit, *, final: bool) -> bool:
        """Read a file to its end as it is now. False: the agent is stopping."""
        while not self._stop.is_set():
            data, new = file.read()
            at_end = new < PIECE_BYTES
            if not new and not final and not self._decoder.holds_rows:
                return True
            if file is not self._current:
                if file.state is not None and file.state[2] is _HIDDEN:
                    file.state[2] = self._decoder.header_in(file.head(2 * self._options.max_line))
                self._decoder.enter_file(file.state)
                self._current = file
            consumed = 0
            start, line = file.offset, file.line
            place = Place(file.path.name, line)
            self._unhanded += new
            flush = at_end or self._unhanded >= CHUNK_BYTES
            for part in self._decoder.decode(data, place, final=final and at_end, flush=flush):
                consumed = part.consumed
                file.offset, file.line = start + consumed, line + part.lines
                file.state = self._decoder.file_state()
                if not self._hand_on(part, emit):
                    return False
            file.keep(data[consumed:])
            if at_end:
                return True
        return False

    def _hand_on(self, part: Decoded, emit: Emit) -> bool:
        if part.block is None and not part.rejected_counts:
            return True
        blocks = [] if part.block is None else [part.block]
        self._unhanded = 0
        return emit(
            Chunk(
                blocks,
                self._position() if part.whole else None,
                part.rejected,
                part.rejected_counts,
                nbytes=sum(block.nbytes for block in blocks),
            )
        )

    def _position(self) -> bytes:
        files = [_without_names(file.saved()) for file in self._files]
        return pack([_POSITION_VERSION, self._decoder.state(), files])

    def _restore(self, position: bytes | None) -> list[list[Any]]:
        if position is None:
            return []
        try:
            version, state, files = unpack(position, "the position of the source")
            if version != _POSITION_VERSION or any(len(entry) != 7 for entry in files):
                raise ValueError
        except (TypeError, ValueError) as error:
            raise InputError("the position of the source cannot be read") from error
        self._decoder.restore(state)
        return list(files)


def _without_names(saved: list[Any]) -> list[Any]:
    """Return a saved TailedFile without names that hold an identifier: positions are stored as they are."""
    name, *rest, state = saved
    if state is not None and state[2] and any(map(is_telling, state[2])):
        state = [*state[:2], _HIDDEN]
    return ["" if is_telling(name) else name, *rest, state]


def list_files(path: Path, kind: str) -> list[Path]:
    """Return the files that a path stands for, by name: itself, a pattern's, or a folder's of that format."""
    if path.is_dir():
        found: Iterator[Path] = path.iterdir()
        return sorted(p for p in found if guess_format(p.name) == kind and p.is_file())
    if any(c in path.name for c in "*?[") and not path.exists():
        return sorted(p for p in map(Path, glob.glob(str(path))) if p.is_file())
    return [path] if path.exists() else []
