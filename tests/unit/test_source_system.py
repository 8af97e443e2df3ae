"""The system source: samples of this machine."""

from collections import namedtuple

import psutil
import pytest

from forebay import quality as q
from forebay.blocks import Grade, Type
from forebay.config.fields import FieldOptions
from forebay.config.sources_live import METRICS, SOURCE_OPTIONS, SystemOptions
from forebay.sources import system
from forebay.sources.context import Backoff, SourceContext, Ticks
from forebay.sources.live import build_live
from forebay.sources.polled import DEVICE_ERROR, PolledRows


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(system, "_FIRST_S", 0.0)
    monkeypatch.setattr(Ticks, "seconds_left", lambda self: 0.0)


def samples(count, options=None, **context):
    source = system.SystemSource(options or SystemOptions(), SourceContext("self", "gateway", **context))
    chunks = []

    def emit(chunk):
        chunks.append(chunk)
        return len(chunks) < count

    source.run(emit, None)
    return [c.blocks[0] for c in chunks]


def cells(block):
    return {f.name: c.to_list(f.type)[0] for f, c in zip(block.schema.fields, block.columns, strict=True)}


def test_a_sample_is_one_row_of_what_the_machine_says():
    first, second = samples(2)
    row = cells(first)
    assert first.rows == 1
    assert first.schema.stream == "gateway"
    assert first.schema.stamped_by == "gateway"
    assert first.schema == second.schema
    assert 0 < row["memory_percent"] <= 100
    assert row["disk_root_free"] == pytest.approx(psutil.disk_usage("/").free, rel=0.05)
    assert {"cpu_percent", "cpu_load_1m", "memory_available", "net_sent"} <= row.keys()
    units = {f.name: f.unit for f in first.schema.fields}
    assert units["memory_available"] == "B"
    assert units["cpu_percent"] == "%"


@pytest.mark.parametrize("metric", METRICS)
def test_only_what_is_asked_for_is_sampled(metric):
    (block,) = samples(1, SystemOptions(metrics=(metric,)))
    prefix = {"cpu": "cpu", "memory": ("memory", "swap"), "disk": "disk", "net": "net"}.get(
        metric, "temperature"
    )
    assert all(name.startswith(prefix) for name in block.schema.names())


def test_a_temperature_that_is_gone_leaves_a_null(monkeypatch):
    make = namedtuple("shwtemp", "label current high critical")
    answers = [
        {"coretemp": [make("Core 0", 41.5, 90, 100), make("Core 0", 43.0, 90, 100)]},
        {},
    ]
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: answers.pop(0), raising=False)
    first, second = samples(2, SystemOptions(metrics=("temperatures",)))
    assert cells(first) == {"temperature_coretemp_core_0": 41.5, "temperature_coretemp_core_0_2": 43.0}
    assert cells(second) == dict.fromkeys(cells(first))
    assert second.columns[0].quality[0] == q.MISSING


def test_a_disk_that_is_not_mounted_is_left_out():
    (block,) = samples(1, SystemOptions(metrics=("disk",), disks=("/", "/no/such/mount")))
    assert block.schema.names() == ("disk_root_percent", "disk_root_free")


def test_what_the_pipeline_declares_goes_before():
    fields = {
        "load": FieldOptions(**{"from": "cpu_load_1m", "grade": "important", "decimals": 1, "unit": "proc"})
    }
    (block,) = samples(1, SystemOptions(metrics=("cpu",)), fields=fields)
    field = block.schema.fields[block.schema.index("load")]
    assert (field.grade, field.unit, field.given) == (Grade.IMPORTANT, "proc", "cpu_load_1m")
    assert "cpu_load_1m" not in block.schema.names()
    value = cells(block)["load"]
    assert value == round(value, 1)


def test_stop_ends_it_before_a_sample():
    source = system.SystemSource(SystemOptions(), SourceContext("self", "gateway"))
    source.stop()
    source.run(lambda chunk: pytest.fail("no sample expected"), None)


def test_polled_cells_keep_their_reasons():
    rows = PolledRows(SourceContext("s", "s", fields={"whole": FieldOptions(type=Type.I64)}), key="device")
    rows.add("device", Type.STR)
    for name in ("whole", "x"):
        rows.add(name, Type.F64)
    rows.add("big", Type.I64)
    rows.add("flag", Type.BOOL)
    block = rows.block(
        [1, 2, 3],
        [
            {"device": "a", "whole": 2.0, "x": float("nan"), "big": 2**64 - 1, "flag": True},
            {"device": "b", "whole": 2.5, "x": DEVICE_ERROR, "big": -1, "flag": DEVICE_ERROR},
            {"device": "c", "x": None},
        ],
    )
    codes = {
        f.name: [0, 0, 0] if c.quality is None else c.quality.tolist()
        for f, c in zip(block.schema.fields, block.columns, strict=True)
    }
    assert codes == {
        "device": [0, 0, 0],
        "whole": [q.GOOD, q.TYPE, q.MISSING],
        "x": [q.NAN, q.DEVICE_ERROR, q.NULL],
        "big": [q.OVERFLOW, q.GOOD, q.MISSING],
        "flag": [q.GOOD, q.DEVICE_ERROR, q.MISSING],
    }
    assert block.schema.key == "device"
    assert block.column("whole").to_list(Type.I64) == [2, None, None]


class Clock:
    now = 0

    def monotonic_ns(self):
        return self.now

    wall_ns = monotonic_ns


def test_ticks_keep_their_beat_and_leave_out_what_was_missed(monkeypatch):
    monkeypatch.undo()
    clock = Clock()
    ticks = Ticks(clock, 1_000_000_000)
    assert ticks.seconds_left() == 1.0
    clock.now = 1_300_000_000
    assert ticks.seconds_left() == pytest.approx(0.7)
    clock.now = 7_900_000_000
    assert ticks.seconds_left() == pytest.approx(0.1), "five missed moments are left out"


def test_backoff_grows_to_its_limit_with_jitter_and_starts_again():
    backoff = Backoff(1.0, 8.0, seed=1)
    waits = [backoff.seconds() for _ in range(6)]
    for wait, full in zip(waits, (1, 2, 4, 8, 8, 8), strict=True):
        assert full / 2 <= wait <= full
    assert len(set(waits)) == 6
    backoff.reset()
    assert backoff.seconds() <= 1


@pytest.mark.parametrize(
    "options",
    [
        {"type": "agent"},
        {"type": "system"},
        {"type": "modbus", "host": "h", "registers": [{"name": "a", "address": 0}]},
        {"type": "mqtt", "broker": "mqtt://h", "topics": ["a"]},
        {"type": "zmq", "endpoint": "ipc:///tmp/x"},
    ],
    ids=lambda o: o["type"],
)
def test_each_live_source_is_built_from_its_options(options):
    made = SOURCE_OPTIONS[options["type"]].model_validate(options)
    source = build_live(made, SourceContext("a", "b", facts=dict))
    assert source.replayable is False
    assert options["type"] in type(source).__name__.casefold()
