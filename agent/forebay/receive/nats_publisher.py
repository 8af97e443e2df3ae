"""Publish messages to NATS JetStream and wait until it has them, from a thread that is not asyncio's."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import RetentionPolicy, StorageType, StreamConfig

from forebay.errors import ForebayError

log = logging.getLogger("forebay.receive")

_IN_FLIGHT = 256  # messages that wait for their acknowledgement at once
_FAILURES = (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class NatsOptions:
    """Where JetStream is and which stream takes what is published. Durations in seconds."""

    servers: tuple[str, ...]
    stream: str
    subject: str  # prefix; the stream is made for `subject.>`
    duplicates_s: float
    timeout_s: float
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    credentials: str | None = None
    ca: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """What is published."""

    subject: str
    body: bytes
    headers: dict[str, str]


class Publisher:
    """A connection with its own thread and event loop. Lost connections come back by themselves."""

    def __init__(self, options: NatsOptions) -> None:
        self._options = options
        self.place = f"nats {', '.join(options.servers)}"
        self._client = Client()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nats", daemon=True)
        self._thread.start()
        try:
            self._wait(self._start(), 2 * options.timeout_s)
        except BaseException:
            self.close()
            raise

    @property
    def max_bytes(self) -> int:
        """Longest message that the server takes, headers included."""
        return self._client.max_payload

    def publish(self, messages: Sequence[Message]) -> None:
        """Publish all and return when JetStream has acknowledged each.

        Raises
        ------
        ForebayError
            At least one was not acknowledged in time; others may be stored.
        """
        # A batch of many messages gets the time of one for each window of them.
        windows = 1 + len(messages) // _IN_FLIGHT
        self._wait(self._publish(messages), windows * self._options.timeout_s)

    def close(self) -> None:
        """Close the connection and end the thread."""
        try:
            self._wait(self._client.close(), self._options.timeout_s)
        except ForebayError as error:
            log.debug("the connection did not close in time: %s", error)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(self._options.timeout_s)
        if not self._thread.is_alive():
            self._loop.close()

    def _wait(self, work: Any, timeout_s: float) -> Any:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s)
        except _FAILURES as error:
            future.cancel()
            # Its text may name a user or a server's answer: its kind says enough.
            raise ForebayError(
                f"JetStream did not take what was published ({type(error).__name__})",
                place=self.place,
                hint="is the server up, with JetStream enabled, and may this user publish?",
                retryable=True,
            ) from None

    async def _start(self) -> None:
        o = self._options
        tls = ssl.create_default_context(cafile=o.ca) if o.ca else None
        await self._client.connect(
            servers=list(o.servers),
            name="forebay-receiver",
            error_cb=_told,
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            connect_timeout=max(1, int(o.timeout_s)),
            tls=tls,
            user=o.user,
            password=o.password,
            token=o.token,
            user_credentials=o.credentials,
        )
        self._jetstream = self._client.jetstream(timeout=o.timeout_s)
        try:
            await self._jetstream.stream_info(o.stream)
        except nats.js.errors.NotFoundError:
            await self._jetstream.add_stream(
                StreamConfig(
                    name=o.stream,
                    subjects=[f"{o.subject}.>"],
                    storage=StorageType.FILE,
                    retention=RetentionPolicy.LIMITS,
                    duplicate_window=o.duplicates_s,
                )
            )

    async def _publish(self, messages: Sequence[Message]) -> None:
        free = asyncio.Semaphore(_IN_FLIGHT)

        async def one(message: Message) -> None:
            async with free:
                await self._jetstream.publish(
                    message.subject, message.body, stream=self._options.stream, headers=message.headers
                )

        for outcome in await asyncio.gather(*map(one, messages), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome


async def _told(error: Exception) -> None:
    log.warning("connection to NATS: %s", type(error).__name__)
