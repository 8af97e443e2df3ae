"""The commands' side of the local socket."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from forebay.control import SOCKET, short_address
from forebay.errors import ForebayError

TIMEOUT_S = 60.0  # a reload drains pipelines


class NotRunning(ForebayError):
    """No agent answers."""


def ask(folder: Path, op: str, *, timeout: float = TIMEOUT_S, **arguments: Any) -> Iterator[Any]:
    """Ask the agent of a spool; yield its results.

    Raises
    ------
    NotRunning
        There is none.
    ForebayError
        It refuses, or the connection broke.
    """
    try:
        with short_address(folder) as address, _connect(address, timeout) as connection:
            connection.sendall(json.dumps({"op": op, **arguments}).encode() + b"\n")
            with connection.makefile("rb") as stream:
                for line in stream:
                    yield _result(line)
    except TimeoutError:
        raise ForebayError("the agent does not answer", place=str(folder / SOCKET)) from None
    except (FileNotFoundError, ConnectionRefusedError):
        raise NotRunning("no agent runs here", place=str(folder), hint="start it: forebay run") from None
    except OSError as error:
        raise ForebayError(f"cannot ask the agent: {error.strerror}", place=str(folder / SOCKET)) from None


def ask_once(folder: Path, op: str, *, timeout: float = TIMEOUT_S, **arguments: Any) -> Any:
    """Ask for one result. Raises as `ask` does."""
    for result in ask(folder, op, timeout=timeout, **arguments):
        return result
    raise ForebayError("the agent ended before it answered", place=str(folder / SOCKET))


def _connect(address: str, timeout: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    connection.settimeout(timeout)
    try:
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def _result(line: bytes) -> Any:
    answer = json.loads(line)
    if not answer.get("ok"):
        raise ForebayError(str(answer.get("error")), hint="")
    return answer.get("result")
