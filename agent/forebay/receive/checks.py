"""From frames to a checked batch. Hostile bytes cost bounded memory and a typed reply, never more."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from forebay.blocks import MAX_WAVEFORM_ROWS, Schema
from forebay.errors import WireError
from forebay.keys import SecretKey
from forebay.receive.sink import Incoming
from forebay.wire.atrest import is_locked, open_at_center
from forebay.wire.columns import decode_columns
from forebay.wire.envelope import Context, Envelope, body_id, content_tag
from forebay.wire.messages import Batch
from forebay.wire.schema import parse_schema

MAX_DECODED_BYTES = 256 * 1024 * 1024
CACHED_BODIES = 4096
_MAX_BODY_BYTES = 1024 * 1024


class MissingBodies(Exception):
    """The batch names bodies that are not known here."""

    def __init__(self, ids: list[bytes]) -> None:
        super().__init__()
        self.ids = ids


class Damaged(Exception):
    """The bytes are not what their tag says: sending them again may help."""


class Bodies:
    """Schema and context bodies by id: a bounded cache over the sink's own table."""

    def __init__(self, load: Callable[[bytes], bytes | None]) -> None:
        self._load = load
        self._raw: OrderedDict[bytes, bytes] = OrderedDict()
        self._schemas: dict[bytes, Schema] = {}
        self._contexts: dict[bytes, Context] = {}

    def add(self, body: bytes) -> None:
        """Take a body that an agent sent. Raises WireError if it is too long."""
        if len(body) > _MAX_BODY_BYTES:
            raise WireError(f"expected a body of at most {_MAX_BODY_BYTES} bytes")
        self._keep(body_id(body), body)

    def _keep(self, key: bytes, body: bytes) -> None:
        self._raw[key] = body
        self._raw.move_to_end(key)
        while len(self._raw) > CACHED_BODIES:
            old, _ = self._raw.popitem(last=False)
            self._schemas.pop(old, None)
            self._contexts.pop(old, None)

    def raw(self, key: bytes) -> bytes | None:
        """Return a body, None if nobody has sent it yet."""
        body = self._raw.get(key)
        if body is None:
            body = self._load(key)
            if body is not None:
                self._keep(key, body)
        return body

    def schema(self, key: bytes) -> Schema:
        """Return the schema of a known body. Raises WireError."""
        if key not in self._schemas:
            self._schemas[key] = parse_schema(self._raw[key])
        return self._schemas[key]

    def context(self, key: bytes) -> Context:
        """Return the context of a known body. Raises WireError."""
        if key not in self._contexts:
            self._contexts[key] = Context.parse(self._raw[key])
        return self._contexts[key]


def policy_accepted(context: Context, required: Sequence[str]) -> bool:
    """Whether a batch was masked under one of the policies required: by full hash, or by name.

    A policy that was given a hash for its name is not the one of that hash.
    """
    if not required or context.policy_hash in required:
        return True
    return context.policy in required and len(context.policy) < len(context.policy_hash)


def read_batch(
    head: Batch, data: bytes, frame_bytes: int, bodies: Bodies, key: SecretKey | None = None
) -> Incoming:
    """Check a batch from outside in: tag, lock (opened with this receiver's `key`), envelope, bodies, payload.

    Raises
    ------
    Damaged
        The tag does not match.
    MissingBodies
        Schema or context must be sent first.
    WireError
        It will never be readable.
    """
    if content_tag(data) != head.tag:
        raise Damaged("the content tag does not match")
    if key is not None and is_locked(data):  # `spool.seal: center`; the tag is over the locked bytes
        data = open_at_center(data, key.transport, key.public.transport)
    envelope = Envelope.unpack(data)
    raw = {key: bodies.raw(key) for key in (envelope.schema_id, envelope.context_id)}
    missing = [key for key, body in raw.items() if body is None]
    if missing:
        raise MissingBodies(missing)
    schema, context = bodies.schema(envelope.schema_id), bodies.context(envelope.context_id)
    block = decode_columns(envelope.payload, schema, max_rows=MAX_WAVEFORM_ROWS, max_bytes=MAX_DECODED_BYTES)
    if block.rows != envelope.rows:
        raise WireError(f"expected {envelope.rows} rows as the envelope says, found {block.rows}")
    return Incoming(
        gateway=context.gateway,
        lane=head.lane,
        epoch=head.epoch,
        seq=head.seq,
        tag=head.tag,
        data=data,
        wire_bytes=frame_bytes,
        envelope=envelope,
        schema=schema,
        schema_body=raw[envelope.schema_id] or b"",
        context=context,
        context_body=raw[envelope.context_id] or b"",
        block=block,
    )
