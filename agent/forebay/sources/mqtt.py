"""An MQTT broker as a source: a message is acknowledged when it is durable here.

Delivery
--------
- QoS 1: PUBACK goes out after the commit of the chunk that holds the message, in the order of arrival. The
  session is persistent, so that the broker keeps what comes while the agent is away. What was not yet
  acknowledged when a connection ends, the broker sends again: a crash between commit and PUBACK stores such a
  message twice. That is MQTT's promise (at least once), and nothing here hides it.
- Back-pressure: at most `in_flight` messages are unacknowledged (version 5: receive maximum; 3.1.1: the
  broker's limit). Beyond QUEUE_BYTES nothing more is read from the socket.
- A message that is no row is counted, and acknowledged with the chunk that counts it: poison does not come
  again for ever.

Threads: `run` serves the connection (keep-alive goes on while the pipeline is busy), a helper decodes and
hands on, and may block there.
"""

from __future__ import annotations

import logging
import os
import select
import ssl
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from forebay import secrets
from forebay.config.sources_live import MqttOptions, TlsOptions, topic_filter, topic_names
from forebay.errors import InputError, MissingExtra
from forebay.sources.context import Backoff, SourceContext, Stopper
from forebay.sources.messages import (
    Facts,
    MessageDecoder,
    Rows,
    csv_objects,
    facts_of,
    json_objects,
    raw_object,
)
from forebay.stages import Chunk, Emit

log = logging.getLogger(__name__)

QUEUE_BYTES = 16 * 1024**2
MESSAGES_A_CHUNK = 1_000
CONNECT_S = 10.0
DRAIN_S = 3.0  # how long `stop` waits for commits whose PUBACK spares a redelivery
MAX_PACKET = 65 * 1024**2  # version 5: longer ones than any `max_message` the broker leaves out
_MISC_S = 1.0  # paho looks after keep-alive when asked; once a second is its own rhythm


@dataclass(slots=True)
class _Message:
    generation: int  # of the connection: `mid` means nothing on another
    mid: int
    qos: int
    topic: str | None  # None: not UTF-8
    payload: bytes


class _Queue:
    """What was received and not yet handed on."""

    def __init__(self) -> None:
        self._items: deque[_Message] = deque()
        self._bytes = 0
        self._ready = threading.Condition()
        self._closed = False

    def put(self, message: _Message) -> None:
        with self._ready:
            self._items.append(message)
            self._bytes += len(message.payload)
            self._ready.notify()

    def take(self, limit: int) -> list[_Message]:
        """Wait for messages; an empty list says that the queue is closed."""
        with self._ready:
            while not self._items and not self._closed:
                self._ready.wait()
            out = [] if self._closed else [self._items.popleft() for _ in range(min(limit, len(self._items)))]
            self._bytes -= sum(len(m.payload) for m in out)
            return out

    def full(self) -> bool:
        return self._bytes >= QUEUE_BYTES

    def clear(self) -> None:
        """Forget all: the connection has ended, and the broker sends it again."""
        with self._ready:
            self._items.clear()
            self._bytes = 0

    def close(self) -> None:
        with self._ready:
            self._closed = True
            self._ready.notify_all()


class MqttSource:
    """Messages of a broker. See the module."""

    replayable = False

    def __init__(
        self, options: MqttOptions, context: SourceContext, *, backoff: Backoff | None = None
    ) -> None:
        self._options, self._context = options, context
        self._backoff = backoff or Backoff()
        self._stop = Stopper()
        self._queue = _Queue()
        self._decoder = MessageDecoder(context, options.time, options.max_message)
        self._topics = [(topic_filter(t).split("/"), topic_names(t)) for t in options.topics]
        self._known_facts: dict[str, Facts] = {}
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._settled: deque[tuple[Sequence[_Message], bool]] = deque()
        self._outstanding = 0  # chunks handed on and not settled; changed by the helper, read by `run`
        self._settled_count = 0
        self._generation = 0
        self._failure: BaseException | None = None
        self._facts = {"source": context.name}

    def run(self, emit: Emit, position: bytes | None) -> None:
        """See stages.Source."""
        if position is not None:
            try:
                self._decoder.restore(position)
            except InputError as error:
                log.warning("field types start anew", extra=self._facts | {"reason": error.message})
        helper = threading.Thread(target=self._hand_on, args=(emit,), name=f"mqtt-{self._context.name}")
        helper.start()
        try:
            while not self._stop:
                client = self._connect()
                if client is not None:
                    self._serve(client)
                    self._queue.clear()
                if not self._stop:
                    self._stop.wait(self._backoff.seconds())
        finally:
            self._stop.set()
            self._queue.close()
            helper.join()
        if self._failure is not None:
            raise self._failure

    def __del__(self) -> None:
        # Not earlier: a commit may be told to `_settle` after `run` has ended.
        os.close(self._wake)

    def stop(self) -> None:
        """See stages.Source."""
        self._stop.set()
        os.eventfd_write(self._wake, 1)

    # -- handing on (helper thread) ------------------------------------------------------------------------

    def _hand_on(self, emit: Emit) -> None:
        try:
            while messages := self._queue.take(MESSAGES_A_CHUNK):
                chunk = self._chunk(messages)
                chunk.done = partial(self._settle, messages)
                self._outstanding += 1
                if not emit(chunk):
                    self._outstanding -= 1  # it was not taken: nobody will settle it
                    break
        except BaseException as error:  # noqa: BLE001 - raised again by `run`, in the source's own thread
            self._failure = error
        self.stop()

    def _settle(self, messages: Sequence[_Message], durable: bool) -> None:
        """Chunk.done: note it and wake the connection's thread. Never blocks."""
        self._settled.append((messages, durable))
        os.eventfd_write(self._wake, 1)

    def _chunk(self, messages: Sequence[_Message]) -> Chunk:
        rows = Rows()
        objects: list[bytes] = []
        for message in messages:
            self._add(message, objects, rows)
        self._decoder.decode(objects, rows)
        return Chunk(
            rows.blocks,
            self._decoder.state(),
            rows.rejected,
            rows.rejected_counts,
            nbytes=rows.nbytes,
            wants_reply=self._options.qos > 0,
        )

    def _add(self, message: _Message, objects: list[bytes], rows: Rows) -> None:
        place, length = self._context.name, len(message.payload)
        if message.topic is None:
            rows.reject("utf8", place, length, "the topic is not UTF-8")
            return
        if length > self._options.max_message:
            rows.reject("size", place, length, "longer than `max_message`")
            return
        try:
            facts = self._facts_of(message.topic)
            if self._options.payload == "json":
                objects += json_objects(message.payload, facts)
            elif self._options.payload == "csv":
                objects += csv_objects(message.payload, self._options.columns, facts)
            else:
                objects.append(raw_object(message.payload, facts))
        except UnicodeDecodeError:
            rows.reject("utf8", place, length, "the payload is not UTF-8")
        except ValueError:
            rows.reject("line", place, length, f"expected rows of {len(self._options.columns)} cells")

    def _facts_of(self, topic: str) -> Facts:
        """Return what a topic says of its messages."""
        known = self._known_facts.get(topic)
        if known is None:
            facts = {self._options.topic_field: topic} if self._options.topic_field else {}
            levels = topic.split("/")
            for pattern, names in self._topics:
                if names and matches(pattern, levels):
                    facts |= {name: levels[i] for i, name in names.items()}
                    break
            if (
                len(self._known_facts) >= 10_000
            ):  # topics are the sender's words: no unbounded memory for them
                self._known_facts.clear()
            known = self._known_facts[topic] = facts_of(facts)
        return known

    # -- the connection (source thread) --------------------------------------------------------------------

    def _connect(self) -> Any:
        """Return a client that has sent CONNECT, None if the broker cannot be reached."""
        self._generation += 1
        client = self._make_client()
        host, port, encrypted = self._options.address()
        try:
            if encrypted:
                client.tls_set_context(tls_context(self._options.tls, self._context.base))
            client.connect(host, port, **self._session())
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror or type(error).__name__
            facts = {"broker": f"{host}:{port}", "reason": reason}
            log.warning("cannot reach the broker", extra=self._facts | facts)
            return None
        return client

    def _make_client(self) -> Any:
        try:
            from paho.mqtt import client as paho
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError as error:
            raise MissingExtra("the mqtt source", "mqtt") from error
        options = self._options
        version = paho.MQTTv5 if options.version == "5" else paho.MQTTv311
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=options.client_id or f"forebay-{self._context.gateway}-{self._context.name}",
            clean_session=None if options.version == "5" else False,
            protocol=version,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_S
        if options.username:
            password = None
            if options.password is not None:
                password = secrets.resolve(options.password, self._context.base).decode()
            client.username_pw_set(options.username, password)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _session(self) -> dict[str, Any]:
        """Return the arguments of CONNECT that differ by version."""
        options = self._options
        out: dict[str, Any] = {"keepalive": options.keepalive // 1_000_000_000}
        if options.version == "5":
            from paho.mqtt import properties as paho_properties
            from paho.mqtt.packettypes import PacketTypes

            make: Any = paho_properties.Properties
            properties = make(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = options.session_expiry // 1_000_000_000
            properties.ReceiveMaximum = options.in_flight
            properties.MaximumPacketSize = MAX_PACKET
            out |= {"clean_start": False, "properties": properties}
        return out

    def _on_connect(self, client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            log.error("the broker refuses the connection", extra=self._facts | {"reason": str(reason)})
            client.disconnect()
            return
        log.info("connected", extra=self._facts)
        self._backoff.reset()
        client.subscribe([(topic_filter(t), self._subscription()) for t in self._options.topics])

    def _subscription(self) -> Any:
        """Return the quality of service, as each version wants it."""
        if self._options.version != "5":
            return self._options.qos
        from paho.mqtt.subscribeoptions import SubscribeOptions

        return SubscribeOptions(qos=self._options.qos)

    def _on_subscribe(self, client: Any, _data: Any, _mid: int, reasons: Any, _properties: Any) -> None:
        for topic, reason in zip(self._options.topics, reasons, strict=False):
            if reason.is_failure:
                log.error(
                    "the broker refuses a subscription",
                    extra=self._facts | {"topic": topic, "reason": str(reason)},
                )
        if all(reason.is_failure for reason in reasons):
            client.disconnect()

    def _on_message(self, _client: Any, _data: Any, message: Any) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = None
        self._queue.put(_Message(self._generation, message.mid, message.qos, topic, bytes(message.payload)))

    def _serve(self, client: Any) -> None:
        """Read, acknowledge and keep alive until the connection ends or it is time to stop."""
        clock = self._context.clock
        deadline: int | None = None  # set by a stop: wait so long for commits
        while client.socket() is not None:
            if self._stop:
                deadline = deadline or clock.monotonic_ns() + int(DRAIN_S * 1e9)
                if self._settled_count >= self._outstanding or clock.monotonic_ns() > deadline:
                    break
            self._await_events(client, reading=not self._stop and not self._queue.full())
            if not self._acknowledge(client):
                break
            if client.socket() is not None:
                client.loop_misc()
        self._say_goodbye(client)

    def _await_events(self, client: Any, *, reading: bool) -> None:
        poller = select.poll()
        sock = client.socket()
        poller.register(self._wake, select.POLLIN)
        wanted = (select.POLLIN if reading else 0) | (select.POLLOUT if client.want_write() else 0)
        poller.register(sock, wanted)
        # Decrypted bytes may wait in the TLS layer where poll does not see them.
        pending = reading and getattr(sock, "pending", lambda: 0)() > 0
        events = dict(poller.poll(0 if pending else 1_000 * (0.1 if self._stop else _MISC_S)))
        if self._wake in events:
            os.eventfd_read(self._wake)
        happened = events.get(sock.fileno(), 0)
        # A connection that has ended is always read: that is how paho learns of it.
        if pending or happened & (select.POLLIN | select.POLLHUP | select.POLLERR):
            client.loop_read()
        if happened & select.POLLOUT:
            client.loop_write()

    def _acknowledge(self, client: Any) -> bool:
        """Send the PUBACKs that are due. False: a commit failed, only a new connection brings it again."""
        alive = True
        while self._settled:
            messages, durable = self._settled.popleft()
            self._settled_count += 1
            # Those of an earlier connection the broker has sent again, under other numbers.
            current = [m for m in messages if m.generation == self._generation and m.qos > 0]
            if current and not durable:
                log.warning("messages were not stored; the broker will send them again", extra=self._facts)
                alive = False
            for message in current if durable else ():
                client.ack(message.mid, message.qos)
        return alive

    def _say_goodbye(self, client: Any) -> None:
        sock = client.socket()
        if sock is None:
            log.warning("the connection to the broker has ended", extra=self._facts)
            return
        client.disconnect()
        for _ in range(100):  # what is queued goes first; a peer that does not read is left at once
            if client.socket() is None or not client.want_write():
                break
            client.loop_write()


def tls_context(tls: TlsOptions, base: Path) -> ssl.SSLContext:
    """Return what a connection is encrypted with. Raises OSError, and SSLError for files that do not fit."""
    context = ssl.create_default_context(cafile=None if tls.ca is None else str(base / tls.ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.cert is not None and tls.key is not None:
        context.load_cert_chain(base / tls.cert, base / tls.key)
    return context


def matches(pattern: Sequence[str], levels: Sequence[str]) -> bool:
    """Tell whether the levels of a topic match those of a filter."""
    for i, wanted in enumerate(pattern):
        if wanted == "#":
            return True
        if i >= len(levels) or (wanted not in ("+", levels[i])):
            return False
    return len(pattern) == len(levels)
