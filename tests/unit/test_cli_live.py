"""What `forebay check --live` finds over the network, each with its place and what to do."""

from __future__ import annotations

import fcntl
import socket
import threading
from contextlib import contextmanager

import pytest
import zmq
from zmq.utils import z85

from forebay import keys
from forebay.cli import app
from forebay.config.sources_live import ModbusOptions
from forebay.sources.context import SourceContext
from forebay.sources.modbus import ModbusSource

CENTER, OWN = keys.generate("center"), keys.generate("own")
AGENT = """\
gateway: {id: g1}
sources:
  s: SOURCE
pipelines:
  p: {source: s}
spool: {dir: spool}
"""
FORWARD = "forward: {endpoints: ['tcp://127.0.0.1:PORT'], keys: {own: own.key, server: server.pub}}\n"


@pytest.fixture
def site(tmp_path):
    keys.write_pair(OWN, tmp_path)
    (tmp_path / "server.pub").write_text(keys.public_text(CENTER.public))
    return tmp_path


def live(capsys, site, text, port=0):
    (site / "agent.yaml").write_text(text.replace("PORT", str(port)))
    code = app.run(["check", str(site / "agent.yaml"), "--live"])
    return code, capsys.readouterr().out


@contextmanager
def receiver(secret, status=b"200"):
    """Shake hands with everybody, or with another `status` with nobody; yield the port."""
    context = zmq.Context()
    gate = context.socket(zmq.REP)
    gate.bind("inproc://zeromq.zap.01")
    server = context.socket(zmq.ROUTER)
    server.setsockopt(zmq.ZAP_DOMAIN, b"test")
    server.curve_server, server.curve_secretkey = True, z85.encode(secret)
    done = threading.Event()

    def judge():
        while not done.is_set():
            if gate.poll(50):
                version, request, *_ = gate.recv_multipart()
                gate.send_multipart([version, request, status, b"", b"", b""])

    thread = threading.Thread(target=judge)
    thread.start()
    try:
        yield server.bind_to_random_port("tcp://127.0.0.1")
    finally:
        done.set()
        thread.join()
        context.destroy(0)


SYSTEM = AGENT.replace("SOURCE", "{type: system}")


def test_a_receiver_that_takes_the_key_is_good(capsys, site):
    with receiver(CENTER.transport) as port:
        code, out = live(capsys, site, SYSTEM + FORWARD, port)
    assert (code, "error" in out) == (0, False), out


def test_a_gateway_that_is_not_enrolled_is_found(capsys, site):
    with receiver(CENTER.transport, b"400") as port:
        code, out = live(capsys, site, SYSTEM + FORWARD, port)
    assert code == 1
    assert ":7:23: forward.endpoints[0]: " in out
    assert "the receiver does not accept this gateway's key (there: forebay keys enroll" in out


def test_the_key_of_another_receiver_is_found(capsys, site):
    with receiver(keys.generate("other").transport) as port:
        code, out = live(capsys, site, SYSTEM + FORWARD, port)
    assert code == 1
    assert "the key handshake failed" in out


def test_something_else_than_a_receiver_is_found(capsys, site, monkeypatch):
    monkeypatch.setattr("forebay.cli.live_links.CONNECT_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as other:
        code, out = live(capsys, site, SYSTEM + FORWARD, other.getsockname()[1])
    assert code == 1
    assert "nothing there speaks as a receiver does" in out


def test_files_that_are_no_keys_are_found(capsys, site):
    (site / "own.key").write_text("x")
    (site / "server.pub").write_text("forebay-key: 1\nname: center\n")
    code, out = live(capsys, site, SYSTEM + FORWARD, 1)
    assert code == 1
    assert "forward.keys.own: expected a Forebay key file of format 1 (make one with" in out
    assert "forward.keys.server: expected `transport-public` of 32 bytes in base64" in out


def test_an_allow_list_without_a_key_that_can_be_used_is_told(capsys, site):
    (site / "allowed").mkdir()
    receiver_text = (
        "center: {id: dc}\nlisten: {endpoint: 'tcp://127.0.0.1:0', key: own.key, allow: allowed}\n"
    )
    receiver_text = receiver_text.replace(":0'", f":{free_port()}'")
    receiver_text += "sinks: {store: {type: sqlite, path: center.db}}\n"
    code, out = live(capsys, site, receiver_text)
    assert code == 0
    assert "warning: " in out
    assert "listen.allow: nobody is enrolled: every gateway is refused (forebay keys enroll" in out
    (site / "allowed/g1.pub").write_text("x")
    assert "g1.pub: expected a Forebay key file" in live(capsys, site, receiver_text)[1]


def test_the_port_of_the_page_is_tried(capsys, site):
    with socket.create_server(("127.0.0.1", 0)) as other:
        web = f"web: {{listen: '127.0.0.1:{other.getsockname()[1]}'}}\n"
        code, out = live(capsys, site, SYSTEM + web)
    assert code == 0
    assert ":7:15: web.listen: the port is in use" in out


BUS = "{type: modbus, host: 127.0.0.1, port: PORT, timeout: 200ms, retries: 0, registers: [{name: t, address: 0}]}"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_line_and_a_broker_that_cannot_be_reached_are_found(capsys, site):
    port = free_port()
    code, out = live(capsys, site, AGENT.replace("SOURCE", BUS), port)
    assert code == 1
    assert f": sources.s: cannot connect to 127.0.0.1:{port} (look at cable" in out
    code, out = live(capsys, site, AGENT.replace("SOURCE", BROKER), port)
    assert code == 1
    assert "sources.s: cannot connect: Connection refused (look at the broker's address" in out


BROKER = "{type: mqtt, broker: 'mqtt://127.0.0.1:PORT', topics: [a]}"


def test_a_broker_that_refuses_says_why_and_one_that_is_none_is_found(capsys, site, monkeypatch):
    monkeypatch.setattr("forebay.cli.live_links.CONNECT_TIMEOUT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        answer_once(server, bytes([0x20, 3, 0, 0x87, 0]))  # CONNACK of version 5: not authorized
        code, out = live(capsys, site, AGENT.replace("SOURCE", BROKER), server.getsockname()[1])
        assert code == 1
        assert "sources.s: the broker refuses the connection: Not authorized (look at" in out
        answer_once(server, bytes([0x20, 3, 0, 0, 0]))
        assert live(capsys, site, AGENT.replace("SOURCE", BROKER), server.getsockname()[1])[0] == 0
        answer_once(server, b"")
        out = live(capsys, site, AGENT.replace("SOURCE", BROKER), server.getsockname()[1])[1]
        assert "it does not answer as a broker does" in out


def answer_once(server, data):
    """Answer the next client's first bytes."""

    def answer():
        client, _ = server.accept()
        with client:
            client.recv(1000)
            client.sendall(data)
            client.settimeout(20)
            while data and client.recv(1000):  # until it goes
                pass

    threading.Thread(target=answer, daemon=True).start()


def test_devices_are_left_alone_while_the_agent_runs(capsys, site):
    (site / "spool").mkdir()
    with (site / "spool/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, out = live(capsys, site, AGENT.replace("SOURCE", BUS), free_port())
    assert code == 0
    assert "note     the agent runs, so its devices and brokers were not tried" in out


class Bus:
    """Answers as a pymodbus client does: unit 1 everything, unit 2 an exception, others nothing."""

    def connect(self):
        return True

    def close(self):
        pass

    def read_holding_registers(self, _address, *, count, device_id):
        if device_id > 2:
            raise OSError("timed out")
        return Answer(device_id == 2, [0] * count)

    read_input_registers = read_coils = read_discrete_inputs = read_holding_registers


class Answer:
    exception_code = 2

    def __init__(self, failed, registers):
        self.failed, self.registers = failed, registers

    def isError(self):
        return self.failed


@pytest.mark.parametrize(
    ("devices", "says"),
    [
        ({"a": 1}, ""),
        ({"a": 1, "b": 2}, "refused on h:502: t of b"),
        ({"a": 1, "c": 3}, "no answer on h:502 from c"),
    ],
)
def test_one_look_at_a_line_names_what_is_wrong(devices, says):
    options = ModbusOptions.model_validate(
        {"type": "modbus", "host": "h", "devices": devices, "registers": [{"name": "t", "address": 0}]}
    )
    assert ModbusSource(options, SourceContext("s", "s"), connect=Bus).try_once() == says
