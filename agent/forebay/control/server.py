"""The agent's side of the local socket."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from forebay.control import MAX_REQUEST, SOCKET, short_address
from forebay.errors import ForebayError

log = logging.getLogger("forebay.control")

MOST_CLIENTS = 8
CLIENT_TIMEOUT_S = 10.0

Operation = Callable[[dict[str, Any]], Iterator[Any]]


class ControlServer:
    """Answers requests, each connection in a thread of its own. `operations` yield one result or several."""

    def __init__(self, folder: Path, operations: Mapping[str, Operation]) -> None:
        self._operations = dict(operations)
        self._stopping = threading.Event()
        self._clients = threading.Semaphore(MOST_CLIENTS)
        self._path = folder / SOCKET
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._path.unlink(missing_ok=True)  # the spool's lock says that no other agent owns it
            with short_address(folder) as address:
                old = os.umask(0o177)
                try:
                    self._socket.bind(address)
                finally:
                    os.umask(old)
            self._socket.listen(MOST_CLIENTS)
            self._socket.settimeout(0.5)
        except BaseException:
            self._socket.close()
            raise
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    @property
    def stopping(self) -> threading.Event:
        """Set when the server ends: operations that go on for long look at it."""
        return self._stopping

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End. Connections are cut."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(2.0)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            except OSError as error:
                log.warning("a request could not be taken error=%s", type(error).__name__)
                self._stopping.wait(0.5)
                continue
            if not self._clients.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(
                target=self._serve, args=(connection,), name="control-client", daemon=True
            ).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(CLIENT_TIMEOUT_S)
            with connection, connection.makefile("rwb") as stream:
                for answer in self._answers(stream.readline(MAX_REQUEST)):
                    stream.write(json.dumps(answer, ensure_ascii=False, default=str).encode() + b"\n")
                    stream.flush()
        except OSError:
            log.debug("a client of the local socket went away")
        finally:
            self._clients.release()

    def _answers(self, line: bytes) -> Iterator[dict[str, Any]]:
        try:
            request = json.loads(line)
            operation = self._operations.get(str(request.get("op"))) if isinstance(request, dict) else None
            if operation is None:
                yield {"ok": False, "error": "expected an operation", "hint": ", ".join(self._operations)}
                return
            for result in operation(request):
                yield {"ok": True, "result": result}
        except ForebayError as error:
            yield {"ok": False, "error": str(error), "hint": error.hint}
        except ValueError:
            yield {"ok": False, "error": "expected one JSON object a line", "hint": ""}
        except Exception as error:
            log.exception("a request failed in a way nobody foresaw")
            yield {"ok": False, "error": f"unexpected {type(error).__name__}", "hint": "see the agent's log"}
