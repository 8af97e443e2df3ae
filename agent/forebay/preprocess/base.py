"""What the steps share: fields that an option means, keys to slots, state per stream, saved state."""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import msgpack

from forebay.blocks import MAX_ROWS, MAX_WAVEFORM_ROWS, Block, Column, Schema, Type
from forebay.config.base import Options
from forebay.errors import ConfigError, ForebayError, InputError
from forebay.preprocess.arrays import U8, find, or_none
from forebay.preprocess.keys import KeySlots
from forebay.preprocess.state import Table

log = logging.getLogger(__name__)

NUMERIC = (Type.F64, Type.I64, Type.BOOL)
ALARM_SUFFIX = "_alarms"
ALARM_FIELDS = ("alarm", "state")
_STATE_VERSION = 1
# what unpacking and loading bytes that are not a state may raise
_DAMAGE = (ValueError, TypeError, KeyError, IndexError, AttributeError, msgpack.UnpackException)


def is_alarm(block: Block) -> bool:
    """Whether a block was made by an alarm step: steps behind it leave it alone."""
    return block.stream.endswith(ALARM_SUFFIX) and block.schema.names()[:2] == ALARM_FIELDS


class FieldChoice:
    """Which columns of a block a step works on.

    Fields that are named but not there (yet), or not numeric, are no error while data flows: they are
    logged once and kept in `absent` and `unfit`.
    """

    def __init__(self, step: str, names: tuple[str, ...], key: str) -> None:
        self._step = step
        self._names = names
        self._key = key
        self._schema: Schema | None = None
        self._chosen: list[int] = []
        self.absent: set[str] = set()
        self.unfit: set[str] = set()

    def of(self, schema: Schema) -> list[int]:
        """Return the positions of the chosen columns."""
        if schema is not self._schema:
            self._chosen = self._named(schema) if self._names else self._numeric(schema)
            self._schema = schema
        return self._chosen

    def _numeric(self, schema: Schema) -> list[int]:
        key = self._key or schema.key
        return [i for i, f in enumerate(schema.fields) if f.type in (Type.F64, Type.I64) and f.name != key]

    def _named(self, schema: Schema) -> list[int]:
        chosen = []
        for name in self._names:
            index = find(schema, name)
            if index < 0:
                self._once(self.absent, name, "is not in the data (yet)")
            elif schema.fields[index].type not in NUMERIC:
                self._once(self.unfit, name, f"is {schema.fields[index].type}, a number is needed")
            else:
                self.absent.discard(name)
                chosen.append(index)
        return chosen

    def _once(self, known: set[str], name: str, what: str) -> None:
        if name not in known:
            known.add(name)
            log.warning("step %s: field `%s` %s", self._step, name, what)


def pieces(block: Block, like: int) -> list[Block]:
    """Split a block to the row limit: that of a waveform if the input had as many rows."""
    limit = MAX_ROWS if like <= MAX_ROWS else MAX_WAVEFORM_ROWS
    if block.rows <= limit:
        return [block]
    return [block.take(slice(at, at + limit)) for at in range(0, block.rows, limit)]


class Worker(ABC):
    """A step's work on one stream."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    @abstractmethod
    def process(self, block: Block) -> list[Block]:
        """See stages.Step."""

    def flush(self) -> list[Block]:
        """See stages.Step."""
        return []

    def dump(self) -> dict[str, Any] | None:
        """Return the state as msgpack takes it, None if the worker keeps nothing."""
        return None

    def load(self, saved: dict[str, Any]) -> None:
        """Take over a saved state."""
        raise ValueError("this step keeps no state")

    def bypassed(self) -> int:
        """Rows whose key had no slot."""
        return 0


class StreamStep:
    """A step made of one worker for each stream that comes by; meets stages.Step.

    A pipeline has one stream, and a second one where an earlier step made it (`{stream}_window`); their
    states never mix. Alarm blocks pass untouched.

    Parameters
    ----------
    name : str
        The step's name in YAML.
    options : Options
        Its options; a saved state is taken back only under the same.
    key : str
        Name of the key column, empty for the schema's own.
    make : callable
        Returns a new worker.
    """

    def __init__(self, name: str, options: Options, key: str, make: Callable[[], Worker]) -> None:
        self.name = name
        self._make = make
        self._workers: dict[str, Worker] = {}
        told = f"{name}\n{key}\n{options.model_dump_json()}".encode()
        self._fingerprint = hashlib.sha256(told).digest()[:16]

    @property
    def workers(self) -> Iterator[Worker]:
        """The workers so far."""
        return iter(self._workers.values())

    @property
    def bypassed(self) -> int:
        """Rows that passed without state, because there are more keys than may be remembered."""
        return sum(worker.bypassed() for worker in self.workers)

    @property
    def counts(self) -> Counter[str]:
        """What the step counted since the start, e.g. `late` rows or `missing:FIELD` cells."""
        total: Counter[str] = Counter()
        for worker in self.workers:
            total.update(worker.counts)
        return total

    def process(self, block: Block) -> list[Block]:
        """See stages.Step."""
        if is_alarm(block) or block.rows == 0:
            return [block]
        return self._worker(block.stream).process(block)

    def flush(self) -> list[Block]:
        """See stages.Step."""
        return [block for worker in self.workers for block in worker.flush()]

    def state(self) -> bytes | None:
        """See stages.Step."""
        saved = {stream: worker.dump() for stream, worker in self._workers.items()}
        kept = {stream: state for stream, state in saved.items() if state is not None}
        if not kept:
            return None
        body = {"version": _STATE_VERSION, "step": self.name, "options": self._fingerprint, "streams": kept}
        packed: bytes = msgpack.packb(body, use_bin_type=True)
        return packed

    def restore(self, state: bytes) -> None:
        """See stages.Step. Raises ConfigError for another configuration, InputError for a damaged state."""
        try:
            body = msgpack.unpackb(state, raw=False, strict_map_key=False)
            same = (body["version"], body["step"], body["options"]) == (
                _STATE_VERSION, self.name, self._fingerprint,
            )  # fmt: skip
            if not same:
                raise ConfigError(
                    f"the saved state of step {self.name} is of another configuration or version",
                    hint="the step starts anew; nothing is to be done if its options were changed",
                )
            workers: dict[str, Worker] = {}
            for stream, saved in body["streams"].items():
                workers[stream] = self._make()
                workers[stream].load(saved)
        except ForebayError:
            raise
        except (
            ValueError,
            TypeError,
            KeyError,
            IndexError,
            AttributeError,
            msgpack.UnpackException,
        ) as error:
            raise InputError(
                f"the saved state of step {self.name} is damaged: {type(error).__name__}"
            ) from None
        self._workers = workers

    def _worker(self, stream: str) -> Worker:
        if stream not in self._workers:
            self._workers[stream] = self._make()
        return self._workers[stream]


class KeyedWorker(Worker):
    """A worker with one table of state arrays for each field, and slots for keys."""

    def __init__(self, key: str, max_keys: int) -> None:
        super().__init__()
        self.slots = KeySlots(key, max_keys)
        self.tables: dict[str, Table] = {}

    @abstractmethod
    def new_table(self) -> Table:
        """Return an empty table."""

    def table(self, field: str) -> Table:
        """Return the table of a field with room for all keys."""
        if field not in self.tables:
            self.tables[field] = self.new_table()
        self.tables[field].fit(max(len(self.slots), 1))
        return self.tables[field]

    def dump(self) -> dict[str, Any] | None:
        """See Worker."""
        tables = {field: table.dump(len(self.slots)) for field, table in self.tables.items()}
        return {"keys": self.slots.dump(), "tables": tables}

    def load(self, saved: dict[str, Any]) -> None:
        """See Worker."""
        self.slots.load(saved["keys"])
        for field, arrays in saved["tables"].items():
            self.tables[field] = self.new_table()
            self.tables[field].load(arrays)

    def bypassed(self) -> int:
        """See Worker."""
        return self.slots.bypassed


def column_with(column: Column, codes: U8) -> Column:
    """Return a numeric column with other quality codes."""
    return Column(column.values, None, or_none(codes))
