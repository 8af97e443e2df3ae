"""Modbus devices as a source: TCP and RTU, polled, through pymodbus.

A poll of a device is one row. Registers that stand near each other are read in one request. What a device
answers with an exception, or not at all, is null(device_error) in that row: a silent device is seen at the
center. A line that is down is tried again with growing waits.

References
----------
MODBUS Application Protocol Specification V1.1b3: sections 4.4 (addresses), 6.1 to 6.4 (at most 125 registers
or 2,000 coils a request), 7 (exception codes).
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from forebay.blocks import Type
from forebay.config.sources_live import ModbusOptions, Order, RegisterKind, RegisterOptions
from forebay.errors import MissingExtra
from forebay.sources.context import Backoff, SourceContext, Stopper, Ticks
from forebay.sources.polled import DEVICE_ERROR, PolledRows
from forebay.stages import Chunk, Emit

log = logging.getLogger(__name__)

MAX_REGISTERS = 125
MAX_BITS = 2_000
ILLEGAL_ADDRESS = 2  # exception code: part of the range is not there

_FORMATS = {"i16": "h", "u16": "H", "i32": "i", "u32": "I", "i64": "q", "u64": "Q", "f32": "f", "f64": "d"}
_EXCEPTIONS = {
    1: "illegal function",
    2: "illegal address",
    3: "illegal value",
    4: "device failure",
    5: "acknowledged, not done",
    6: "device busy",
    10: "gateway path unavailable",
    11: "gateway: the device did not answer",
}


@dataclass(frozen=True, slots=True)
class Request:
    """One read of adjacent registers or coils, and the values that lie in it."""

    kind: RegisterKind
    address: int
    count: int
    registers: tuple[RegisterOptions, ...]


def plan(registers: Sequence[RegisterOptions], gap: int) -> list[Request]:
    """Group registers into as few requests as the protocol's limits and `gap` allow."""
    out: list[Request] = []
    for kind in dict.fromkeys(r.kind for r in registers):
        limit = MAX_BITS if kind in ("coil", "discrete") else MAX_REGISTERS
        group: list[RegisterOptions] = []
        end = 0
        for register in sorted((r for r in registers if r.kind == kind), key=lambda r: r.address):
            new_end = max(end, register.address + register.words)
            if group and (register.address - end > gap or new_end - group[0].address > limit):
                out.append(_request(kind, group))
                group, new_end = [], register.address + register.words
            group.append(register)
            end = new_end
        out.append(_request(kind, group))
    return out


def _request(kind: RegisterKind, group: Sequence[RegisterOptions]) -> Request:
    start = group[0].address
    end = max(r.address + r.words for r in group)
    return Request(kind, start, end - start, tuple(group))


def split(request: Request) -> list[Request]:
    """Return smaller requests for one that a device refused: first without gaps, then one by one."""
    tighter = plan(request.registers, gap=0)
    if len(tighter) == 1:
        tighter = [_request(request.kind, [r]) for r in request.registers]
    return tighter


def decode(words: Sequence[int], register: RegisterOptions, byte_order: Order, word_order: Order) -> Any:
    """Return the value of 16-bit registers in the field's unit.

    Parameters
    ----------
    words : integers 0..65535 (register.words,)
        In the order of their addresses.
    byte_order, word_order : Order
        Of the source, where the register has none.
    """
    ordered = words if (register.word_order or word_order) == "big" else words[::-1]
    letter = ">" if (register.byte_order or byte_order) == "big" else "<"
    data = struct.pack(f"{letter}{len(ordered)}H", *ordered)
    value = struct.unpack(f">{_FORMATS[register.type]}", data)[0]
    if register.bit is not None:
        return bool(value >> register.bit & 1)
    if register.type == "f32":
        # The shortest decimal that is this float32: 21.3, not 21.299999237060547, which only costs bytes.
        value = float(str(np.float32(value)))
    if register.scale == 1 and register.offset == 0:
        return value
    return _scaled(value, register)


def _scaled(value: float, register: RegisterOptions) -> float:
    """Scale without the dust of binary fractions: 215 * 0.1 is 21.5, not 21.500000000000004."""
    scaled = value * register.scale + register.offset
    return float(f"{scaled:.12g}")


def field_type(register: RegisterOptions) -> Type:
    """Return the type of a register's field."""
    if register.kind in ("coil", "discrete") or register.bit is not None:
        return Type.BOOL
    if register.type in ("f32", "f64") or register.scale != 1 or register.offset != 0:
        return Type.F64
    return Type.I64


class ModbusSource:
    """Polls the devices of one line. See the module."""

    replayable = False

    def __init__(
        self,
        options: ModbusOptions,
        context: SourceContext,
        *,
        backoff: Backoff | None = None,
        connect: Callable[[], Any] | None = None,
    ) -> None:
        self._options, self._context = options, context
        self._stop = Stopper()
        self._backoff = backoff or Backoff()
        self._connect = connect or self._make_client
        self._rows = PolledRows(context, key="device" if options.devices else "")
        if options.devices:
            self._rows.add("device", Type.STR)
        for register in options.registers:
            self._rows.add(register.name, field_type(register), register.unit, register.description)
        self._devices: dict[str, int] = dict(options.devices) or {"": options.unit_id}
        requests = plan(options.registers, options.gap)
        self._requests = {name: list(requests) for name in self._devices}

    def run(self, emit: Emit, position: bytes | None) -> None:
        """See stages.Source."""
        client = self._connect()
        ticks = Ticks(self._context.clock, self._options.every)
        try:
            while not self._stop:
                connected = client.connect()
                answered = connected and self._poll_all(client, emit)
                if answered is None:
                    return
                if answered:
                    self._backoff.reset()
                    self._stop.wait(ticks.seconds_left())
                    continue
                client.close()
                wait = self._backoff.seconds()
                facts = {"source": self._context.name, "line": self._line}
                reason = "silence" if connected else "no connection"
                log.warning("no device answers", extra=facts | {"reason": reason, "retry_s": round(wait, 1)})
                if not self._emit(emit, {name: {} for name in self._devices}):
                    return
                self._stop.wait(max(wait, ticks.seconds_left()))
        finally:
            client.close()

    def stop(self) -> None:
        """See stages.Source."""
        self._stop.set()

    def try_once(self) -> str:
        """Return what is wrong with the line, empty when every device gives something. Hands nothing on."""
        client = self._connect()
        try:
            if not client.connect():
                return f"cannot connect to {self._line}"
            rows = {
                name or f"unit {unit}": self._poll(client, name, unit) for name, unit in self._devices.items()
            }
        finally:
            client.close()
        silent = [name for name, row in rows.items() if not row]
        if silent:
            return f"no answer on {self._line} from {', '.join(silent)}"
        refused = [
            f"{field} of {n}" for n, row in rows.items() for field, v in row.items() if v is DEVICE_ERROR
        ]
        return f"refused on {self._line}: {', '.join(refused)}" if refused else ""

    @property
    def _line(self) -> str:
        options = self._options
        return options.serial or f"{options.host}:{options.port}"

    def _poll_all(self, client: Any, emit: Emit) -> bool | None:
        """Poll each device and hand the rows on. Return whether any answered, None when it is time to end."""
        rows = {}
        for name, unit in self._devices.items():
            rows[name] = self._poll(client, name, unit)
            if self._stop:
                return None
        if not any(rows.values()):
            return False
        return True if self._emit(emit, rows) else None

    def _emit(self, emit: Emit, rows: dict[str, dict[str, Any]]) -> bool:
        """Hand on one row a device; values that it did not give are null(device_error)."""
        now = self._context.clock.wall_ns()
        failed = {r.name: DEVICE_ERROR for r in self._options.registers}
        named = {n: {"device": n} if self._options.devices else {} for n in rows}
        block = self._rows.block([now] * len(rows), [failed | named[n] | row for n, row in rows.items()])
        return emit(Chunk([block], nbytes=block.nbytes))

    def _poll(self, client: Any, name: str, unit: int) -> dict[str, Any]:
        """Return the values that a device gave, by field. Empty: it gave none."""
        row: dict[str, Any] = {}
        pending = list(self._requests[name])
        while pending and not self._stop:
            request = pending.pop(0)
            answer, code = self._read(client, request, unit)
            if answer is None and code is None:
                break  # silence: asking for the rest would wait as long each time
            if answer is not None:
                row |= self._values(request, answer)
            elif code == ILLEGAL_ADDRESS and len(request.registers) > 1:
                smaller = split(request)
                self._requests[name] = [
                    r for old in self._requests[name] for r in (smaller if old is request else [old])
                ]
                pending = smaller + pending
            else:
                self._refused(name, request, code)
                row |= {r.name: DEVICE_ERROR for r in request.registers}
        return row

    def _refused(self, name: str, request: Request, code: int | None) -> None:
        facts = {"source": self._context.name, "kind": request.kind, "address": request.address}
        reason = _EXCEPTIONS.get(code or 0, f"exception {code}")
        log.warning(
            "the device refuses", extra=facts | {"reason": reason} | ({"device": name} if name else {})
        )

    def _read(self, client: Any, request: Request, unit: int) -> tuple[list[Any] | None, int | None]:
        """Return registers or bits; or None and the exception code; or None twice if nothing valid came."""
        from pymodbus.exceptions import ModbusException

        ask = {
            "holding": client.read_holding_registers,
            "input": client.read_input_registers,
            "coil": client.read_coils,
            "discrete": client.read_discrete_inputs,
        }[request.kind]
        try:
            answer = ask(request.address, count=request.count, device_id=unit)
        except (ModbusException, OSError):
            if self._options.host:
                client.close()  # a late answer would be taken for that of the next request
            return None, None
        if answer.isError():
            return None, getattr(answer, "exception_code", None)
        values = answer.bits if request.kind in ("coil", "discrete") else answer.registers
        return (list(values), None) if len(values) >= request.count else (None, None)

    def _values(self, request: Request, answer: list[Any]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for register in request.registers:
            start = register.address - request.address
            if request.kind in ("coil", "discrete"):
                out[register.name] = bool(answer[start])
            else:
                words = answer[start : start + register.words]
                out[register.name] = decode(
                    words, register, self._options.byte_order, self._options.word_order
                )
        return out

    def _make_client(self) -> Any:
        try:
            from pymodbus.client import ModbusSerialClient, ModbusTcpClient
            from pymodbus.framer import FramerType
        except ImportError as error:
            raise MissingExtra("the modbus source", "industrial") from error
        # What it says of a line that is down we say ourselves, with its source.
        logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)
        options = self._options
        common: dict[str, Any] = {"timeout": options.timeout / 1e9, "retries": options.retries}
        if options.host:
            framer = FramerType.RTU if options.framing == "rtu" else FramerType.SOCKET
            return ModbusTcpClient(options.host, port=options.port, framer=framer, **common)
        try:
            import serial  # noqa: F401 - pymodbus fails late and unclearly without it
        except ImportError as error:
            raise MissingExtra("a serial Modbus line", "industrial") from error
        return ModbusSerialClient(
            options.serial,
            baudrate=options.baudrate,
            parity=options.parity[0].upper(),
            stopbits=options.stopbits,
            **common,
        )
