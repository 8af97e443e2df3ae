"""A session in a child process: a model that crashes in native code takes down the child, not the agent.

Frames in both directions: a little-endian uint32, then so many bytes of msgpack. No pickle: whatever took over the
child could otherwise run code in the agent. The parent sends `{model, options}` once and `{inputs, outputs}` for
each run; the child answers with facts, arrays or the name of an error. Nothing touches a disk.
"""

from __future__ import annotations

import logging
import os
import select
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import IO, Any

import msgpack
import numpy as np
import numpy.typing as npt

from forebay import child
from forebay.errors import ModelError
from forebay.harden import no_core_dumps
from forebay.infer.limits import Rest
from forebay.infer.session import Arrays, ModelTimeout, Session, SessionOptions

_log = logging.getLogger(__name__)

START_S = 120.0  # importing the runtime and loading a large graph on a loaded gateway
MAX_FRAME = 1 << 31
PARENT_LOOK_S = 1.0
_HEAD = struct.Struct("<I")
_DTYPES = frozenset({"float32", "float64", "int64", "uint8", "int32", "bool"})


class ChildGone(ModelError):
    """The child process ended without an answer."""


def _pack(arrays: Arrays) -> dict[str, Any]:
    return {k: [v.dtype.name, list(v.shape), np.ascontiguousarray(v).tobytes()] for k, v in arrays.items()}


def _unpack(packed: dict[str, Any]) -> Arrays:
    out = {}
    for name, (dtype, shape, data) in packed.items():
        if dtype not in _DTYPES:
            raise ValueError("unexpected type of array")
        out[name] = np.frombuffer(data, dtype).reshape(shape)
    return out


def _frame(message: dict[str, Any]) -> bytes:
    body: bytes = msgpack.packb(message)
    return _HEAD.pack(len(body)) + body


class IsolatedSession(Session):
    """Like `session.Session`, but in a child process that is started anew when it died or hung.

    Used by one thread at a time (a lock sees to that). The child is ended with its session, and ends by
    itself when the agent dies.
    """

    def __init__(self, model: bytes, options: SessionOptions, *, place: str) -> None:
        self._model, self._options, self._place = model, options, place
        self._limit_s = options.limit_ns / 1e9
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._rest = Rest()
        self.restarts = -1
        with self._lock:
            self._facts = self._start()
        for name in options.providers:  # the child's own words go nowhere: they might quote data
            if name not in self.providers:
                _log.warning(
                    "%s: execution provider %s does not run the model, the next one does", place, name
                )

    @property
    def providers(self) -> tuple[str, ...]:
        """Execution providers in use."""
        return tuple(self._facts["providers"])

    def inputs(self) -> dict[str, tuple[str, list[Any]]]:
        """Return type and shape of each input by name."""
        return {k: (v[0], v[1]) for k, v in self._facts["inputs"].items()}

    def outputs(self) -> dict[str, tuple[str, list[Any]]]:
        """Return type and shape of each output by name."""
        return {k: (v[0], v[1]) for k, v in self._facts["outputs"].items()}

    def run(self, inputs: Arrays, outputs: tuple[str, ...]) -> list[npt.NDArray[Any]]:
        """Return the named outputs.

        Raises
        ------
        ModelTimeout
            Not done within the limit; the child is gone and the next run has a new one.
        ModelError
            The model failed or crashed; without the data in the text.
        """
        if self._rest.is_due():
            raise ModelTimeout("the model rests: it crashed or hung too often", place=self._place)
        with self._lock:
            if self._child is None or self._child.poll() is not None:
                self._start()
            try:
                answer = self._ask({"inputs": _pack(inputs), "outputs": list(outputs)}, self._limit_s or None)
            except ModelError:
                self._end()
                self._rest.note(timed_out=True)
                raise
        self._rest.note(timed_out=False)
        if "error" in answer:
            raise ModelError(str(answer["error"]), place=self._place)
        found = _unpack(answer["outputs"])
        return [found[name] for name in outputs]

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._end()

    def __del__(self) -> None:
        with suppress(Exception):
            self._end()

    # -- the child ------------------------------------------------------------------------------------------

    def _start(self) -> dict[str, Any]:
        self._child = subprocess.Popen(
            child.command("forebay.infer.isolated"),
            env=child.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        self.restarts += 1
        options = {"providers": list(self._options.providers), "threads": self._options.threads}
        try:
            facts = self._ask({"model": self._model, "place": self._place, **options}, START_S)
        except ModelError:
            self._end()
            raise
        if "error" in facts:
            self._end()
            raise ModelError(str(facts["error"]), place=self._place)
        return facts

    def _end(self) -> None:
        process, self._child = self._child, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        process.wait()

    def _ask(self, message: dict[str, Any], limit_s: float | None) -> dict[str, Any]:
        child = self._child
        assert child is not None
        assert child.stdin is not None
        assert child.stdout is not None
        deadline = None if limit_s is None else time.monotonic() + limit_s
        try:
            self._write(child.stdin, _frame(message), deadline)
            (length,) = _HEAD.unpack(self._read(child.stdout, _HEAD.size, deadline))
            answer: dict[str, Any] = msgpack.unpackb(
                self._read(child.stdout, min(length, MAX_FRAME), deadline), strict_map_key=False
            )
        except (BrokenPipeError, ConnectionResetError, EOFError):
            code = child.wait()
            raise ChildGone(
                f"the model's process died (signal {-code})" if code < 0 else "the model's process ended",
                place=self._place,
                hint="its rows go on without a result; the process is started anew",
            ) from None
        except (ValueError, msgpack.UnpackException):
            raise ChildGone("the model's process answered nonsense", place=self._place) from None
        return answer

    def _ready(self, reads: list[Any], writes: list[Any], deadline: float | None) -> None:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not any(select.select(reads, writes, [], left)):
            raise ModelTimeout(
                f"not done within {self._limit_s or START_S:g} s; its process was ended", place=self._place
            )

    def _write(self, pipe: IO[bytes], data: bytes, deadline: float | None) -> None:
        descriptor, view = pipe.fileno(), memoryview(data)
        os.set_blocking(descriptor, False)
        while view:
            self._ready([], [descriptor], deadline)
            with suppress(BlockingIOError):
                view = view[os.write(descriptor, view) :]

    def _read(self, pipe: IO[bytes], size: int, deadline: float | None) -> bytes:
        descriptor, parts = pipe.fileno(), bytearray()
        while len(parts) < size:
            self._ready([descriptor], [], deadline)
            part = os.read(descriptor, min(size - len(parts), 1 << 20))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)


# -- in the child ---------------------------------------------------------------------------------------------


def _read_frame(stream: IO[bytes]) -> dict[str, Any] | None:
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    body = stream.read(_HEAD.unpack(head)[0])
    message: dict[str, Any] = msgpack.unpackb(body, strict_map_key=False)
    return message


def serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """Answer until the source ends."""
    session: Session | None = None
    while (message := _read_frame(source)) is not None:
        answer: dict[str, Any]
        try:
            if session is None:
                options = SessionOptions(tuple(message["providers"]), message["threads"])
                session = Session(message["model"], options, place="")
                facts = {"inputs": session.inputs(), "outputs": session.outputs()}
                answer = {"providers": list(session.providers), **facts}
            else:
                names = tuple(message["outputs"])
                found = session.run(_unpack(message["inputs"]), names)
                answer = {"outputs": _pack(dict(zip(names, found, strict=True)))}
        except ModelError as error:
            answer = {"error": error.message}
        sink.write(_frame(answer))
        sink.flush()


def _end_with(parent: int) -> None:
    """End when the parent does, in the middle of a run too.

    The kernel's signal for that (PR_SET_PDEATHSIG) comes at the end of the thread that started the child, and a
    reload's thread ends soon.
    """
    while os.getppid() == parent:
        time.sleep(PARENT_LOOK_S)
    os._exit(0)


def main() -> None:
    """Run as the child: no core dump, and no life after the parent's."""
    import signal

    no_core_dumps()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent decides
    with os.fdopen(os.dup(1), "wb") as sink:
        os.dup2(2, 1)  # what a library prints is no answer
        serve(sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()
