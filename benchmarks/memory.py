"""Memory of an idle agent: with MQTT and Modbus sources, with the sensor model too, with one detector, with three."""

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
masking: {policy: POLICY}
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
_MASKED = """
  camera: {source: camera}
"""
_VISION = """
  camera:
    source: camera
    steps:
      - infer: {model: street-objects, field: image}
"""
_FACES_ONLY = "name: faces-only\nversion: 1\nundeclared: {image: mask}\nimages: {plate: pass}\n"
_SETTLE_S = 6.0
_REST_S = 16.0  # after the first picture; an agent gives back what it left within 12 s
_VARIANTS = (
    ("rss-idle", "memory of an idle agent with an MQTT and a Modbus source", 58.0, "", ""),
    ("rss-model", "the same with the sensor model", 88.0, _MODEL, ""),
    ("rss-vision-one", "the same with a camera and one detector: faces masked", 120.0, _MODEL, _MASKED),
    ("rss-vision", "the same with three: faces and plates masked, objects found", 120.0, _MODEL, _VISION),
)  # fmt: skip


def idle_memory(effort: Effort) -> list[Figure]:
    """Run the agents at once, let them come to rest, look."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        ports = stack.enter_context(_field_devices())
        site = stack.enter_context(Site(folder))
        (folder / "pictures").mkdir()
        (folder / "faces.yaml").write_text(_FACES_ONLY)
        photos = sorted((ROOT / "config" / "demo" / "photos").glob("*.jpg"))
        shutil.copy(photos[0], folder / "pictures")
        agents = []
        for variant, _, _, model, vision in _VARIANTS:
            text = _SOURCES + (_CAMERA if vision else "") + _PIPELINES + model + vision
            text = text.replace("POLICY", "faces.yaml" if vision == _MASKED else "base")
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
        assert site.query("SELECT count(*) FROM camera WHERE image IS NULL") == [(0,)], (
            "a picture was not masked"
        )
        time.sleep(_REST_S)
        for agent, variant in zip(agents, _VARIANTS, strict=True):
            assert agent.poll() is None, f"the agent {variant[0]} ended"
        found = [memory(agent.pid) for agent in agents]
        _await_rows(site, "line")
    figures = [
        Figure(
            variant, what, rss / 1e6, "MB", Budget(most), note=f"RSS, {_REST_S:.0f} s after the first picture"
        )
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
