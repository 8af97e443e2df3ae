"""Whether somebody listens at an endpoint."""

from __future__ import annotations

import socket

import pytest

from forebay.forward import reach, refuses
from forebay.forward.reach import reachable


def test_a_listener_is_reachable_and_refuses_nobody():
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        assert reachable(endpoint)
        assert not refuses(endpoint)
    assert not reachable(endpoint)
    assert refuses(endpoint)


def test_a_network_that_does_not_answer_in_time_is_neither(monkeypatch):
    def slow(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(reach.socket, "create_connection", slow)
    assert not reachable("tcp://192.0.2.1:5570")
    assert not refuses("tcp://192.0.2.1:5570")


@pytest.mark.parametrize("there", [True, False])
def test_a_local_socket_is_looked_for_as_a_file(tmp_path, there):
    path = tmp_path / "s"
    if there:
        path.touch()
    assert reachable(f"ipc://{path}") is there
    assert refuses(f"ipc://{path}") is not there
