"""Memory of an idle agent: with MQTT and Modbus sources, with the sensor model too, with vision too."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.gateway_site import ROOT, Site, free_port, memory
from benchmarks.model import Budget, Effort, Figure

_SOURCES = """
gateway: {id: gw-1}
masking: {policy: base}
spool: {dir: NAME/spool, sync: full}
forward: {endpoints: [ENDPOINT], keys: {own: keys/gateway.key, server: keys/center.pub}}
log: {level: error}
sources:
  line: {type: modbus, host: 127.0.0.1, port: MODBUS, every: 1s, registers: [
    {name: temperature, address: 0, scale: 0.1}, {name: flow, address: 1}, {name: level, address: 2}]}
  plant: {type: mqtt, broker: "mqtt://127.0.0.1:MQTT", version: 3.1.1, client_id: NAME, topics: ["plant/{dev}/state"]}
"""
_PIPELINES = """
pipelines:
  plant: {source: plant, key: dev}
  line:
    source: line
    steps:
      - validate: {fields: [temperature, flow, level], range: [-1000, 100000]}
"""
_MODEL = """
      - infer: {model: sensor-anomaly, inputs: [temperature, flow]}
"""
_CAMERA = "  camera: {type: file, path: pictures, format: images, follow: true, settle: 0s}\n"
_VISION = """
  camera:
    source: camera
    steps:
      - infer: {model: street-objects, field: image}
"""
_SETTLE_S = 20.0  # an agent gives back what its start and its first pictures left
_VARIANTS = (
    ("rss-idle", "memory of an idle agent with an MQTT and a Modbus source", 58.0, "", ""),
    ("rss-model", "the same with the sensor model", 88.0, _MODEL, ""),
    ("rss-vision", "the same with a camera: faces and plates masked, objects found", 120.0, _MODEL, _VISION),
)  # fmt: skip


def idle_memory(effort: Effort) -> list[Figure]:
    """Run the three agents at once, let them come to rest, look."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        ports = stack.enter_context(_field_devices())
        site = stack.enter_context(Site(folder))
        (folder / "pictures").mkdir()
        photos = sorted((ROOT / "config" / "demo" / "photos").glob("*.jpg"))
        shutil.copy(photos[0], folder / "pictures")
        agents = []
        for variant, _, _, model, vision in _VARIANTS:
            text = _SOURCES + (_CAMERA if vision else "") + _PIPELINES + model + vision
            for word, value in (("NAME", variant), ("MQTT", ports[0]), ("MODBUS", ports[1])):
                text = text.replace(f" {word}/", f" {variant}/").replace(
                    f"127.0.0.1:{word}", f"127.0.0.1:{value}"
                )
                text = text.replace(f"port: {word}", f"port: {value}").replace(
                    f"client_id: {word}", f"client_id: {value}"
                )
            agents.append(stack.enter_context(site.agent(text, f"{variant}.yaml")))
        time.sleep(_SETTLE_S)
        _await_rows(site, "camera")
        time.sleep(2.0)
        for agent, variant in zip(agents, _VARIANTS, strict=True):
            assert agent.poll() is None, f"the agent {variant[0]} ended"
        found = [memory(agent.pid) for agent in agents]
        _await_rows(site, "line")
    figures = [
        Figure(variant, what, rss / 1e6, "MB", Budget(most), note="RSS, 8 s after the start")
        for (variant, what, most, _, _), rss in zip(_VARIANTS, found, strict=True)
    ]
    figures[0].peers = {"an interpreter with its libraries imported": _bare_imports() / 1e6}
    return figures


def _bare_imports() -> int:
    """Return the memory of an interpreter that has imported what the two sources and the road cannot do without."""
    words = (
        "import zmq, msgpack, numpy, pydantic, zstandard, sqlite3, paho.mqtt.client, pymodbus.client; input()"
    )
    process = subprocess.Popen([sys.executable, "-c", words], stdin=subprocess.PIPE)
    try:
        before = 0
        while True:  # until it stands still
            time.sleep(0.5)
            now = memory(process.pid)
            if now == before:
                return now
            before = now
    finally:
        process.communicate(b"\n", timeout=20)


def _await_rows(site: Site, stream: str) -> None:
    """Wait until the receiver has rows of a stream: what is measured must have worked."""
    deadline = time.monotonic() + 60.0
    while True:
        ((there,),) = site.query(
            f"SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = '{stream}'"
        )
        if there and site.query(f"SELECT count(*) FROM {stream}")[0][0]:
            return
        assert time.monotonic() < deadline, f"the receiver got no row of {stream} in 60 s"
        time.sleep(0.2)


@contextmanager
def _field_devices() -> Iterator[tuple[int, int]]:
    ports = free_port(), free_port()
    command = [sys.executable, "-m", "benchmarks.field_devices", *map(str, ports)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdin is not None and process.stdout is not None  # noqa: PT018 - for the type checker
    try:
        assert process.stdout.readline().strip() == "up", "broker and Modbus server did not start"
        yield ports
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
