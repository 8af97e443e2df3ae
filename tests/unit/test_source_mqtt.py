"""The mqtt source against real brokers (amqtt; mosquitto where installed) and a scripted one, version 5."""

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections import deque
from datetime import UTC, datetime, timedelta

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import ValidationError

from forebay import quality as q
from forebay.blocks import Type
from forebay.config.fields import FieldOptions
from forebay.config.sources_live import MqttOptions, topic_filter, topic_names
from forebay.errors import ConfigError
from forebay.sources import mqtt
from forebay.sources.context import Backoff, SourceContext
from forebay.sources.messages import MessageDecoder, Rows, csv_objects, facts_of, json_objects, raw_object
from forebay.sources.mqtt import MqttSource, matches

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
USER = ("user root",) if os.geteuid() == 0 else ()  # else it could not read the keys in pytest's folders


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# -- brokers


class Amqtt:
    """amqtt in a thread; speaks 3.1.1 only."""

    def __init__(self, port):
        self.port, self._loop, self._up = port, asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self):
        from amqtt.broker import Broker

        broker = Broker(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}},
                "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            }
        )
        await broker.start()
        self._done = asyncio.Event()
        self._up.set()
        await self._done.wait()
        await broker.shutdown()

    def __enter__(self):
        logging.getLogger("amqtt").setLevel(logging.CRITICAL)
        logging.getLogger("transitions").setLevel(logging.CRITICAL)
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(10)
        assert not self._thread.is_alive()


class Mosquitto:
    """mosquitto as a process, its session store in a folder."""

    def __init__(self, port, folder, *more, last=None):
        self._last = last or port  # mosquitto opens its ports one after the other
        config = folder / "mosquitto.conf"
        config.write_text("\n".join([f"listener {port} 127.0.0.1", "allow_anonymous true", *USER, *more, ""]))
        self._arguments = [MOSQUITTO, "-c", str(config)]

    def __enter__(self):
        self._process = subprocess.Popen(
            self._arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._last)) == 0:
                    return self
            threading.Event().wait(0.01)
        raise AssertionError("mosquitto does not start")

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(10)


def _packet(kind, body):
    size, n = b"", len(body)
    while True:
        n, digit = n >> 7, n & 127
        size += bytes([digit | (128 if n else 0)])
        if not n:
            return bytes([kind]) + size + body


class Scripted:
    """A broker of MQTT 5 for one connection after another that does what the test says."""

    def __init__(self, connack=0, suback=1):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.acked, self.connects, self.subscribed = deque(), [], []
        self.changed = threading.Condition()
        self._connack, self._suback = connack, suback
        self._connection, self._open = None, True
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._open = False
        self.cut()
        self.server.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self.server.close()

    def _run(self):
        while self._open:
            try:
                self._connection, _ = self.server.accept()
            except OSError:
                return
            with self._connection as connection:
                try:
                    while self._answer(connection):
                        pass
                except OSError:
                    pass

    def _read(self, connection, count):
        data = b""
        while len(data) < count:
            piece = connection.recv(count - len(data))
            if not piece:
                raise ConnectionError
            data += piece
        return data

    def _answer(self, connection):
        (kind,) = self._read(connection, 1)
        size = shift = 0
        while True:
            (digit,) = self._read(connection, 1)
            size |= (digit & 127) << shift
            shift += 7
            if not digit & 128:
                break
        body = self._read(connection, size)
        with self.changed:
            if kind == 0x10:
                self.connects.append(body)
                connection.sendall(_packet(0x20, bytes([0, self._connack, 0])))
            elif kind == 0x82:
                self.subscribed.append(body)
                count = body.count(b"\x00\x01", 3) or 1
                connection.sendall(_packet(0x90, body[:2] + b"\x00" + bytes([self._suback]) * count))
            elif kind == 0x40:
                self.acked.append(struct.unpack(">H", body[:2])[0])
            elif kind == 0xC0:
                connection.sendall(b"\xd0\x00")
            self.changed.notify_all()
        return kind != 0xE0

    def publish(self, mid, topic, payload):
        body = struct.pack(">H", len(topic)) + topic + struct.pack(">H", mid) + b"\x00" + payload
        self._connection.sendall(_packet(0x32, body))

    def cut(self):
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)

    def until(self, condition):
        with self.changed:
            assert self.changed.wait_for(condition, timeout=30)


# -- the source


class Running:
    """A source in a thread; `settle` says what the spool answers, None: nothing yet."""

    def __init__(
        self, port, settle=True, position=None, scheme="mqtt", host="127.0.0.1", base=None, **options
    ):
        made = MqttOptions.model_validate(
            {"broker": f"{scheme}://{host}:{port}", "topics": ["t/#"]} | options
        )
        context = SourceContext(
            "broker",
            "s",
            fields={"t": FieldOptions(unit="°C")},
            gateway="g1",
            **({"base": base} if base else {}),
        )
        self.source = MqttSource(made, context, backoff=Backoff(0.001, 0.05))
        self.chunks, self.settle, self.error = [], settle, None
        self.changed = threading.Condition()
        self._position = position
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            self.source.run(self._emit, self._position)
        except ConfigError as error:
            self.error = error

    def _emit(self, chunk):
        with self.changed:
            self.chunks.append(chunk)
            self.changed.notify_all()
        if self.settle is not None:
            chunk.done(self.settle)
        return True

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.source.stop()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def rows(self):
        return sum(b.rows for c in self.chunks for b in c.blocks)

    def until(self, condition):
        with self.changed:
            assert self.changed.wait_for(condition, timeout=30)

    def values(self, name):
        """Return what a field held, nulls left out."""
        blocks = [b for c in self.chunks for b in c.blocks if name in b.schema.names()]
        return [v for b in blocks for v in b.column(name).to_list(_type(b, name)) if v is not None]


def _type(block, name):
    return block.schema.fields[block.schema.index(name)].type


class Publisher:
    """A client that publishes with QoS 1 and waits for the broker's word."""

    def __init__(self, port):
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="publisher")
        self._up = threading.Event()
        self._client.on_connect = lambda *_: self._up.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._up.wait(10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._client.disconnect()
        self._client.loop_stop()

    def __call__(self, topic, payload):
        self._client.publish(topic, payload, qos=1).wait_for_publish(10)


@pytest.fixture(params=["amqtt-3.1.1", "mosquitto-3.1.1", "mosquitto-5"])
def broker(request, tmp_path):
    """(port, version) of a running broker."""
    name, version = request.param.split("-")
    port = free_port()
    if name == "mosquitto" and MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    with Amqtt(port) if name == "amqtt" else Mosquitto(port, tmp_path):
        yield port, version


def subscribed(running, publish):
    """Publish until a first message arrives: a subscription may come after it."""
    for _ in range(200):
        publish("t/hello", b'{"hello": 1}')
        with running.changed:
            if running.changed.wait_for(lambda: running.rows() > 0, timeout=0.05):
                return
    raise AssertionError("nothing arrives")


def test_messages_of_a_real_broker_become_rows(broker):
    port, version = broker
    with (
        Running(
            port, version=version, topics=["t/{line}/{dev}/data", "t/hello"], topic_field="topic"
        ) as running,
        Publisher(port) as publish,
    ):
        subscribed(running, publish)
        publish("t/north/007/data", b'{"t": 21.5, "n": 1}')
        publish("t/south/008/data", b'[{"t": 1},\n {"t": 2}]')
        publish("t/south/008/other", b'{"t": 99}')
        running.until(lambda: len(running.values("t")) >= 3)
    assert running.values("t") == [21.5, 1.0, 2.0]
    assert running.values("dev") == ["007", "008", "008"]
    assert running.values("line") == ["north", "south", "south"]
    assert running.values("topic")[-3:] == ["t/north/007/data", "t/south/008/data", "t/south/008/data"]


@pytest.mark.parametrize("broker", ["mosquitto-3.1.1", "mosquitto-5"], indirect=True)
def test_a_broker_keeps_what_was_not_acknowledged(broker):  # amqtt forgets what is in flight
    port, version = broker
    with Publisher(port) as publish:
        with Running(port, settle=True, version=version) as first:
            subscribed(first, publish)
            first.settle = None
            publish("t/a", b'{"t": 1}')
            first.until(lambda: first.values("t"))
            mqtt_drain(first)
        publish("t/a", b'{"t": 2}')  # while nobody listens
        with Running(port, version=version) as second:
            second.until(lambda: len(second.values("t")) >= 2)
    assert second.values("t") == [1.0, 2.0]


def mqtt_drain(running):
    """Do not wait at the end for commits that never come."""
    running.source._outstanding = running.source._settled_count


@pytest.fixture
def scripted():
    with Scripted() as broker:
        yield broker


def test_puback_comes_after_the_commit_and_in_order(scripted):
    with Running(scripted.port, settle=None, in_flight=7, session_expiry="1h") as running:
        scripted.until(lambda: scripted.subscribed)
        for mid in (5, 6, 7):
            scripted.publish(mid, b"t/a", b'{"t": 1}')
        running.until(lambda: running.rows() == 3)
        assert not scripted.acked
        for chunk in running.chunks:
            chunk.done(True)
        scripted.until(lambda: len(scripted.acked) == 3)
    assert list(scripted.acked) == [5, 6, 7]
    connect = scripted.connects[0]
    assert connect[:7] == b"\x00\x04MQTT\x05"
    assert not connect[7] & 2, "clean start is off"
    assert b"\x11" + struct.pack(">I", 3600) in connect, "session expiry"
    assert b"\x21" + struct.pack(">H", 7) in connect, "receive maximum"
    assert b"forebay-g1-broker" in connect


def test_what_could_not_be_stored_is_fetched_again_by_a_new_connection(scripted):
    with Running(scripted.port, settle=False) as running:
        scripted.until(lambda: scripted.subscribed)
        scripted.publish(9, b"t/a", b'{"t": 1}')
        scripted.until(lambda: len(scripted.connects) >= 2)
        running.settle = True
        scripted.until(lambda: len(scripted.subscribed) >= 2)
        scripted.publish(1, b"t/a", b'{"t": 1}')
        scripted.until(lambda: scripted.acked)
    assert list(scripted.acked) == [1]


def test_an_acknowledgement_never_goes_to_another_connection(scripted):
    with Running(scripted.port, settle=None) as running:
        scripted.until(lambda: scripted.subscribed)
        scripted.publish(3, b"t/a", b'{"t": 1}')
        running.until(lambda: running.rows() == 1)
        scripted.cut()
        scripted.until(lambda: len(scripted.subscribed) >= 2)
        running.chunks[0].done(True)
        running.settle = True
        scripted.publish(4, b"t/a", b'{"t": 2}')
        scripted.until(lambda: scripted.acked)
    assert list(scripted.acked) == [4]


def test_poison_is_counted_and_acknowledged(scripted):
    with Running(scripted.port, max_message="1KiB") as running:
        scripted.until(lambda: scripted.subscribed)
        bad = [b"{broken", b"[1]", b'{"a": "' + b"x" * 2_000 + b'"}', b"\xff\xfe", b'{"a": "\xff"}']
        for mid, payload in enumerate(bad, start=1):
            scripted.publish(mid, b"t/a", payload)
        scripted.publish(90, b"t/\xff", b'{"t": 1}')
        scripted.publish(91, b"t/a", b"")
        scripted.publish(92, b"t/a", b'{"t": 1}')
        scripted.until(lambda: len(scripted.acked) == 8)
    counts = sum(
        (c.rejected_counts for c in running.chunks), start=running.chunks[0].rejected_counts.__class__()
    )
    assert counts["size"] == 1
    assert counts["utf8"] >= 2
    assert sum(counts.values()) == 6
    assert running.values("t") == [1.0]
    assert {r.place for c in running.chunks for r in c.rejected} == {"broker"}


def test_a_refused_connection_is_tried_again(scripted, caplog):
    scripted._connack = 0x86
    with Running(scripted.port):
        scripted.until(lambda: len(scripted.connects) >= 2)
        scripted._connack = 0
        scripted.until(lambda: scripted.subscribed)
    assert any(r.message == "the broker refuses the connection" for r in caplog.records)


def test_a_refused_subscription_is_said(scripted, caplog):
    scripted._suback = 0x87
    with Running(scripted.port):
        scripted.until(lambda: len(scripted.connects) >= 2)
        scripted._suback = 1
        scripted.until(lambda: len(scripted.subscribed) >= 2)
    assert any(r.message == "the broker refuses a subscription" for r in caplog.records)


def test_a_broker_that_is_not_there_is_waited_for():
    port = free_port()
    with Running(port, version="3.1.1") as running:
        threading.Event().wait(0.02)
        with Amqtt(port), Publisher(port) as publish:
            subscribed(running, publish)
            running.stop()


def test_a_full_queue_stops_the_reading(scripted, monkeypatch):
    monkeypatch.setattr(mqtt, "QUEUE_BYTES", 2_000)
    gate = threading.Event()
    with Running(scripted.port) as running:
        emit = running._emit
        monkeypatch.setattr(running, "_emit", emit)
        slow = running.source._chunk
        monkeypatch.setattr(running.source, "_chunk", lambda m: gate.wait(10) and slow(m))
        scripted.until(lambda: scripted.subscribed)
        for mid in range(1, 101):
            scripted.publish(mid, b"t/a", b'{"t": 1, "pad": "' + b"x" * 500 + b'"}')
        while not running.source._queue.full():
            threading.Event().wait(0.001)
        assert running.source._queue._bytes < 2_000 + 600
        gate.set()
        scripted.until(lambda: len(scripted.acked) == 100)
    assert running.rows() == 100


def test_types_outlive_a_restart(scripted):
    with Running(scripted.port) as first:
        scripted.until(lambda: scripted.subscribed)
        scripted.publish(1, b"t/a", b'{"x": 1.5}')
        first.until(lambda: first.rows() == 1)
    with Running(scripted.port, position=first.chunks[-1].position) as second:
        scripted.until(lambda: len(scripted.subscribed) >= 2)
        scripted.publish(1, b"t/a", b'{"x": 2}')
        second.until(lambda: second.rows() == 1)
    assert _type(second.chunks[0].blocks[0], "x") is Type.F64


def test_a_missing_password_ends_the_source_with_its_name():
    with Running(free_port(), username="u", password="env:FOREBAY_TEST_UNSET") as running:
        running._thread.join(10)
    assert "FOREBAY_TEST_UNSET is not set" in str(running.error)


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_tls_with_certificates_of_both_sides(tmp_path):
    certificates(tmp_path)
    port = free_port()
    lines = [f"cafile {tmp_path}/ca.pem", f"certfile {tmp_path}/server.pem", f"keyfile {tmp_path}/server.key"]
    plain = free_port()
    more = [*lines, "require_certificate true", f"listener {plain} 127.0.0.1"]
    tls = {"ca": "ca.pem", "cert": "client.pem", "key": "client.key"}
    with Mosquitto(port, tmp_path, *more, last=plain), Publisher(plain) as publish:
        with Running(port, scheme="mqtts", host="localhost", base=tmp_path, tls=tls) as running:
            subscribed(running, publish)
        with Running(port, scheme="mqtts", host="localhost", base=tmp_path) as distrusting:
            threading.Event().wait(0.05)
    assert not distrusting.chunks


def certificates(folder):
    """Write ca.pem and, signed by it, server and client certificates with keys."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def make(name, issuer=None, issuer_key=None):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        )
        if issuer is None:
            names = "digital_signature content_commitment key_encipherment data_encipherment key_agreement"
            usage = dict.fromkeys([*names.split(), "encipher_only", "decipher_only"], False)
            builder = builder.add_extension(
                x509.KeyUsage(**usage, key_cert_sign=True, crl_sign=True), critical=True
            )
        made = builder.sign(issuer_key or key, hashes.SHA256())
        (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / f"{name}.key").write_bytes(secret)
        return made, key

    ca, key = make("ca")
    make("server", ca, key)
    make("client", ca, key)


# -- payloads


NO_FACTS = facts_of({})
BY_X = facts_of({"d": "x"})


@pytest.mark.parametrize(
    ("payload", "facts", "objects"),
    [
        (b'{"a": 1}', BY_X, [b'{"a": 1,"d":"x"}']),
        (b" {\n} \r\n", BY_X, [b'{"d":"x"}']),
        (b'[{"a": [1, "]"]}, {}]', BY_X, [b'{"a": [1, "]"],"d":"x"}', b'{"d":"x"}']),
        (b'{"a": 1}', NO_FACTS, [b'{"a": 1}']),
        (b"", BY_X, []),
        (b"[]", BY_X, []),
        (b"7", BY_X, [b"7"]),
        (b"[1, 2", BY_X, [b"[1, 2"]),
    ],
)
def test_facts_of_the_topic_are_appended_to_each_object(payload, facts, objects):
    assert json_objects(payload, facts) == objects


def test_long_arrays_are_taken_whole():
    assert len(json_objects(b"[" + b",".join([b'{"a":1}'] * 5_000) + b"]", BY_X)) == 5_000


def test_csv_payloads_are_rows_of_the_columns():
    got = csv_objects(b'1.5,"a ""b""",007\n,x,1e3\r\n\n', ["t", "name", "id"], BY_X)
    assert got == [
        b'{"t":1.5,"name":"a \\"b\\"","id":"007","d":"x"}',
        b'{"t":null,"name":"x","id":1e3,"d":"x"}',
    ]
    with pytest.raises(ValueError, match="expected 2 cells, found 1"):
        csv_objects(b"1", ["a", "b"], NO_FACTS)
    for broken in (b'"1,2', b'"1"x,2', b"1," + b"2" * 140_000):
        with pytest.raises(ValueError, match="expected CSV"):
            csv_objects(broken, ["a", "b"], NO_FACTS)


@pytest.mark.parametrize(
    ("payload", "json"),
    [(b" 21.5\n", b"21.5"), (b"on", b'"on"'), (b"NaN", b'"NaN"'), (b"-0", b"-0"), (b"01", b'"01"')],
)
def test_a_raw_payload_is_one_value(payload, json):
    assert raw_object(payload, NO_FACTS) == b'{"value":' + json + b"}"


def test_facts_cannot_break_out_of_their_string():
    assert facts_of({"a": 'x","t":"y', "b": "ü\n"}).suffix == '"a":"x\\",\\"t\\":\\"y","b":"ü\\n"'.encode()


def decoded(objects, decoder=None):
    """Each row as its non-null cells by name, and the schema's fields by name."""
    decoder = decoder or MessageDecoder(SourceContext("m", "s"), None, 4096)
    rows = Rows()
    decoder.decode(objects, rows)
    out, fields = [], {}
    for block in rows.blocks:
        fields |= {f.name: f for f in block.schema.fields}
        cells = [c.to_list(f.type) for f, c in zip(block.schema.fields, block.columns, strict=True)]
        names = block.schema.names()
        out += [
            {n: v for n, v in zip(names, row, strict=True) if v is not None}
            for row in zip(*cells, strict=True)
        ]
    assert not rows.rejected
    return out, fields


@pytest.mark.parametrize(
    ("payload", "kept"),
    [
        (b'{"topic": 2}', {"topic_2": 2}),
        (b'{"topic": "forged"}', {"topic_2": "forged"}),
        (b'{"t\\u006fpic":"forged", "a":1}', {"topic_2": "forged", "a": 1}),
        (b'{"TOPIC": 1.5, "a": {"topic": 3}}', {"TOPIC_2": 1.5, "a.topic": 3}),
        (b'{"topic": 1, "topic_2": 2}', {"topic_2": 1, "topic_2_2": 2}),
        (b'{"topic": 1, "topic": 123456789012345678}', {"topic_2": 123456789012345678}),
        (b'{"topic": {"x": 1}}', {"topic.x": 1}),
        (b'{"topic": null, "a": "\\"topic\\":"}', {"a": '"topic":'}),
        ('{"größe": "a\ufdd0", "\u017ftate": 1}'.encode(), {"größe": "a\ufdd0", "\u017ftate_2": 1}),
        (b'[{"topic": NaN}, {"topic": 1e400}]', {"topic_2": float("inf")}),
    ],
)
def test_a_payload_cannot_displace_what_the_broker_says(payload, kept):
    rows, fields = decoded(json_objects(payload, facts_of({"topic": "t", "state": "s"})))
    assert rows[-1] == {"topic": "t", "state": "s"} | kept
    assert fields["topic"].type is Type.STR
    if "topic_2" in kept:
        assert fields["topic_2"].given == "topic"


def test_columns_of_csv_and_raw_values_keep_clear_of_facts_too():
    facts = facts_of({"value": "t"})
    assert decoded(csv_objects(b"1,2", ["value", "b"], facts))[0] == [{"value_2": 1, "b": 2, "value": "t"}]
    assert decoded([raw_object(b"7", facts)])[0] == [{"value_2": 7, "value": "t"}]


def test_a_field_beside_a_fact_keeps_its_name_after_a_restart():
    facts = facts_of({"topic": "t"})
    before = MessageDecoder(SourceContext("m", "s"), None, 4096)
    decoded(json_objects(b'{"topic": 2}', facts), before)
    after = MessageDecoder(SourceContext("m", "s"), None, 4096)
    after.restore(before.state())
    rows, _ = decoded([b'{"topic":"of another pattern"}', *json_objects(b'{"topic": 3}', facts)], after)
    assert rows == [{"topic": "of another pattern"}, {"topic_2": 3, "topic": "t"}]


def test_a_declared_field_and_the_key_are_those_of_the_fact():
    context = SourceContext("m", "s", {"line": FieldOptions(type="str", unit="no.")}, "dev")
    facts = facts_of({"line": "7", "dev": "pump-1"})
    rows, fields = decoded(json_objects(b'{"dev": 5, "line": 9}', facts), MessageDecoder(context, None, 4096))
    assert rows == [{"line": "7", "dev": "pump-1", "dev_2": 5, "line_2": 9}]
    assert (fields["line"].unit, fields["line_2"].unit) == ("no.", "")


@pytest.mark.parametrize(
    ("pattern", "topic", "fits"),
    [
        ("a/+/c", "a/b/c", True),
        ("a/+/c", "a/b/d", False),
        ("a/+/c", "a/b/c/d", False),
        ("a/#", "a/b/c", True),
        ("a/#", "a", True),
        ("#", "x", True),
        ("a/b", "a", False),
    ],
)
def test_filters_match_as_the_standard_says(pattern, topic, fits):
    assert matches(pattern.split("/"), topic.split("/")) is fits


def test_named_parts_of_a_topic_are_wildcards():
    assert topic_filter("plant/{line}/pump/{dev}/#") == "plant/+/pump/+/#"
    assert topic_names("plant/{line}/pump/{dev}/#") == {1: "line", 3: "dev"}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"broker": "localhost:1883"}, "expected `mqtt://HOST`"),
        ({"broker": "mqtt://h:0"}, "expected `mqtt://HOST`"),
        ({"topics": ["a/b+"]}, "whole levels"),
        ({"topics": ["a/#/b"]}, "whole levels"),
        ({"topics": ["a/{b"]}, "whole levels"),
        ({"topics": ["a/x{b}"]}, "whole levels"),
        ({"topics": [""]}, "whole levels"),
        ({"payload": "csv"}, "expected `columns`"),
        ({"columns": ["a"]}, "only with `payload: csv`"),
        ({"password": "env:X"}, "expected `username`"),
        ({"tls": {}}, "mqtts"),
        ({"broker": "mqtts://h", "tls": {"cert": "c"}}, "`cert` and `key` together"),
        ({"version": "4"}, "'5' or '3.1.1'"),
        ({"qos": 2}, "0 or 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(wrong, says):
    with pytest.raises(ValidationError, match=says):
        MqttOptions.model_validate({"broker": "mqtt://h", "topics": ["a"]} | wrong)


def test_the_version_may_be_written_as_a_number():
    made = MqttOptions.model_validate({"broker": "mqtts://[::1]", "topics": ["a"], "version": 5})
    assert made.version == "5"
    assert made.address() == ("::1", 8883, True)


def test_only_a_few_rejected_messages_are_told_one_by_one():
    rows = Rows()
    for _ in range(100):
        rows.reject("line", "x", 1, "d")
    assert rows.rejected_counts["line"] == 100
    assert len(rows.rejected) <= 16
    assert q.GOOD == 0
