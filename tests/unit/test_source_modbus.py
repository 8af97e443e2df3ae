"""The modbus source against a real pymodbus server, over TCP and over a serial line."""

import asyncio
import contextlib
import logging
import os
import select
import socket
import struct
import threading
import tty

import pytest
from pydantic import ValidationError
from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from forebay import quality as q
from forebay.blocks import Type
from forebay.config.sources_live import ModbusOptions, RegisterOptions
from forebay.sources.context import Backoff, SourceContext, Ticks
from forebay.sources.modbus import ModbusSource, decode, field_type, plan, split

WORDS = {
    0: [215, 0xFFFF, 0x1234, 0x5678],
    10: list(struct.unpack(">2H", struct.pack(">f", 21.3))),
    12: list(struct.unpack(">4H", struct.pack(">d", 1e100))),
    40: [7],
}


def device(unit):
    holding = [SimData(a, values=v, datatype=DataType.REGISTERS) for a, v in WORDS.items()]
    bits = [SimData(0, values=[True, False, True] + [False] * 13, datatype=DataType.BITS)]
    inputs = [SimData(5, values=[unit], datatype=DataType.REGISTERS)]
    return SimDevice(unit, (bits, bits, holding, inputs))


class Served:
    """A server in a thread of its own, stopped when left."""

    def __init__(self, make):
        self._make, self._loop, self._up = make, asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self):
        self._server = self._make()
        await self._server.serve_forever(background=True)
        self._up.set()
        self._done = asyncio.Event()
        await self._done.wait()
        await self._server.shutdown()

    def __enter__(self):
        self._thread.start()
        assert self._up.wait(5)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(5)
        assert not self._thread.is_alive()


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def server(free_port):
    make = lambda: ModbusTcpServer([device(1), device(2)], address=("127.0.0.1", free_port))  # noqa: E731
    with Served(make):
        yield free_port


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(Ticks, "seconds_left", lambda self: 0.0)
    logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)


def polls(count, options, **arguments):
    context = SourceContext("line", "meters", key=arguments.pop("key", ""))
    source = ModbusSource(options, context, backoff=Backoff(0.001, 0.01), **arguments)
    blocks = []

    def emit(chunk):
        blocks.append(chunk.blocks[0])
        return len(blocks) < count

    source.run(emit, None)
    return blocks


def cells(block):
    return {f.name: c.to_list(f.type) for f, c in zip(block.schema.fields, block.columns, strict=True)}


REGISTERS = [
    {"name": "t", "address": 0, "type": "i16", "scale": 0.1, "unit": "°C"},
    {"name": "neg", "address": 1, "type": "i16"},
    {"name": "wide", "address": 2, "type": "u32"},
    {"name": "swapped", "address": 2, "type": "u32", "word_order": "little"},
    {"name": "bytes", "address": 2, "byte_order": "little"},
    {"name": "f", "address": 10, "type": "f32"},
    {"name": "d", "address": 12, "type": "f64"},
    {"name": "third", "address": 2, "bit": 2},
    {"name": "coil", "address": 2, "kind": "coil"},
    {"name": "off", "address": 1, "kind": "discrete"},
    {"name": "unit", "address": 5, "kind": "input"},
]
VALUES = {
    "t": 21.5,
    "neg": -1,
    "wide": 0x12345678,
    "swapped": 0x56781234,
    "bytes": 0x3412,
    "f": 21.3,
    "d": 1e100,
    "third": True,
    "coil": True,
    "off": False,
    "unit": 1,
}


def options(port, **more):
    return ModbusOptions.model_validate(
        {"host": "127.0.0.1", "port": port, "timeout": "500ms", "retries": 0, "registers": REGISTERS} | more
    )


def test_every_kind_and_type_is_read(server):
    (block,) = polls(1, options(server, gap=2))
    assert {name: values[0] for name, values in cells(block).items()} == VALUES
    assert all(c.quality is None for c in block.columns)
    types = {f.name: f.type for f in block.schema.fields}
    assert (types["t"], types["neg"], types["f"], types["coil"]) == (Type.F64, Type.I64, Type.F64, Type.BOOL)
    assert block.schema.fields[0].unit == "°C"
    assert block.schema.stamped_by == "gateway"


def test_several_devices_of_a_line_are_rows_with_a_key(server):
    registers = [{"name": "unit", "address": 5, "kind": "input"}]
    two = options(server, devices={"north": 1, "south": 2, "gone": 9}, registers=registers)
    first, second = polls(2, two)
    assert cells(first) == {"device": ["north", "south", "gone"], "unit": [1, 2, None]}
    assert first.schema.key == "device"
    assert first.column("unit").quality.tolist() == [q.GOOD, q.GOOD, q.DEVICE_ERROR]
    assert cells(second) == cells(first), "a device that is gone does not harm the others"


def test_a_register_that_is_not_there_does_not_spoil_its_neighbours(server):
    registers = [
        {"name": "a", "address": 0},
        {"name": "gap", "address": 3},
        {"name": "b", "address": 10},
        {"name": "none", "address": 17},
    ]
    first, second = polls(2, options(server, gap=10, registers=registers))
    for block in (first, second):
        row = {name: values[0] for name, values in cells(block).items()}
        assert row == {"a": 215, "gap": 0x5678, "b": WORDS[10][0], "none": None}
    assert first.column("none").quality.tolist() == [q.DEVICE_ERROR]


def test_a_line_that_is_down_is_seen_and_comes_back(free_port):
    blocks = []
    source = ModbusSource(options(free_port), SourceContext("l", "m"), backoff=Backoff(0.001, 0.01))
    with contextlib.ExitStack() as stack:

        def emit(chunk):
            blocks.append(chunk.blocks[0])
            if len(blocks) == 3:
                make = lambda: ModbusTcpServer(device(1), address=("127.0.0.1", free_port))  # noqa: E731
                stack.enter_context(Served(make))
            return len(blocks) < 50 and blocks[-1].columns[0].quality is not None

        source.run(emit, None)
    assert all(c.quality.tolist() == [q.DEVICE_ERROR] for b in blocks[:3] for c in b.columns)
    assert cells(blocks[-1])["neg"] == [-1]


def test_a_silent_device_is_given_up_after_the_timeout():
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        (block,) = polls(1, options(deaf.getsockname()[1], timeout="20ms"))
    assert all(c.quality.tolist() == [q.DEVICE_ERROR] for c in block.columns)


def test_bytes_that_are_no_modbus_are_a_device_error():
    with socket.socket() as rogue:
        rogue.bind(("127.0.0.1", 0))
        rogue.listen()

        def answer():
            connection, _ = rogue.accept()
            with connection:
                connection.recv(100)
                connection.sendall(os.urandom(600))

        thread = threading.Thread(target=answer)
        thread.start()
        (block,) = polls(1, options(rogue.getsockname()[1], timeout="20ms"))
        thread.join(5)
    assert block.columns[0].quality.tolist() == [q.DEVICE_ERROR]


@contextlib.contextmanager
def serial_line():
    """Two serial ports joined like a cable, as pseudo terminals."""
    ends = [os.openpty() for _ in range(2)]
    for fd in (fd for pair in ends for fd in pair):
        tty.setraw(fd)
    masters, done = [m for m, _ in ends], os.eventfd(0)

    def carry():
        while True:
            ready, _, _ = select.select([*masters, done], [], [])
            if done in ready:
                return
            for fd in ready:
                os.write(masters[1 - masters.index(fd)], os.read(fd, 4096))

    thread = threading.Thread(target=carry)
    thread.start()
    try:
        yield [os.ttyname(s) for _, s in ends]
    finally:
        os.eventfd_write(done, 1)
        thread.join(5)
        for fd in (done, *(fd for pair in ends for fd in pair)):
            os.close(fd)


def test_a_serial_line_is_read_as_rtu():
    with serial_line() as (near, far):
        make = lambda: ModbusSerialServer([device(1), device(2)], port=far, framer=FramerType.RTU)  # noqa: E731
        with Served(make):
            serial = ModbusOptions.model_validate(
                {"serial": near, "baudrate": 115200, "timeout": "1s", "registers": REGISTERS, "gap": 2}
            )
            (block,) = polls(1, serial)
    assert {name: values[0] for name, values in cells(block).items()} == VALUES


def register(**fields):
    return RegisterOptions.model_validate({"name": "x", "address": 0} | fields)


def test_requests_are_few_and_within_the_limits():
    many = [register(name=f"r{i}", address=i) for i in range(300)]
    assert [(r.address, r.count) for r in plan(many, 0)] == [(0, 125), (125, 125), (250, 50)]
    coils = [register(name=f"c{i}", address=i, kind="coil") for i in range(0, 2001, 8)]
    assert [(r.address, r.count) for r in plan(coils, 8)] == [(0, 1993), (2000, 1)]
    near = [register(name="a", type="f64"), register(name="b", address=12), register(name="c", address=13)]
    assert [(r.address, r.count) for r in plan(near, 8)] == [(0, 14)]
    assert [(r.address, r.count) for r in plan(near, 7)] == [(0, 4), (12, 2)]
    overlapping = [register(name="a", address=0, type="f64"), register(name="b", address=1)]
    assert [(r.address, r.count) for r in plan(overlapping, 0)] == [(0, 4)]


def test_a_refused_request_is_split_down_to_single_values():
    near = [register(name="a", address=0), register(name="b", address=1), register(name="c", address=5)]
    (whole,) = plan(near, 8)
    assert [(r.address, r.count) for r in split(whole)] == [(0, 2), (5, 1)]
    assert [(r.address, r.count) for r in split(split(whole)[0])] == [(0, 1), (1, 1)]


@pytest.mark.parametrize(
    ("fields", "words", "value"),
    [
        ({"type": "u16"}, [0xFFFF], 65535),
        ({"type": "i16"}, [0x8000], -32768),
        ({"type": "i32"}, [0xFFFF, 0xFFFE], -2),
        ({"type": "u64"}, [0xFFFF] * 4, 2**64 - 1),
        ({"type": "i64", "word_order": "little"}, [1, 0, 0, 0], 1),
        ({"type": "u32", "byte_order": "little", "word_order": "little"}, [0x7856, 0x3412], 0x12345678),
        ({"type": "u16", "scale": 0.1}, [215], 21.5),
        ({"type": "i16", "scale": 0.01, "offset": -40}, [100], -39.0),
        ({"bit": 15}, [0x8000], True),
    ],
)
def test_values_are_decoded_as_declared(fields, words, value):
    declared = register(**fields)
    got = decode(words, declared, "big", "big")
    assert got == value
    assert type(got) is {Type.I64: int, Type.F64: float, Type.BOOL: bool}[field_type(declared)]


A = {"name": "a", "address": 0}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"host": "h", "serial": "/dev/x"}, "either `host` or `serial`"),
        ({}, "either `host` or `serial`"),
        ({"serial": "/dev/x", "framing": "tcp"}, "`framing: rtu`"),
        ({"host": "h", "unit_id": 2, "devices": {"a": 1}}, "either `unit_id` or `devices`"),
        ({"host": "h", "devices": {"a": 1, "b": 1}}, "same unit id"),
        (
            {"host": "h", "registers": [A, {"name": "A", "address": 1}]},
            "different name",
        ),
        (
            {"host": "h", "registers": [A | {"address": 65535, "type": "f32"}]},
            "beyond address 65535",
        ),
        (
            {"host": "h", "registers": [A | {"kind": "coil", "scale": 2}]},
            "true or false",
        ),
        ({"host": "h", "registers": [A | {"type": "i16", "bit": 2}]}, "`type: u16`"),
    ],
)
def test_options_that_do_not_fit_are_refused(wrong, says):
    with pytest.raises(ValidationError, match=says):
        ModbusOptions.model_validate({"registers": [A]} | wrong)
