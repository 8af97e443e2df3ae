"""Every source of the product, fed with identifiers and faces of its own, so that a find tells where it came from."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import canaries as c
import cv2
import msgpack
import numpy as np
import zmq
from live import wait_until
from plant import Plant, free_port, kill

PHOTOS = Path(__file__).parents[2] / "config" / "demo" / "photos"
TEXT = ("csv", "jsonl", "tail", "mqtt", "modbus", "zmq")
PICTURES = ("images", "video")
SETS = 3  # of identifiers of every class, a source
OVERSIZED = 70 * 1024  # beyond what a text may be (64 KiB), within what a line may be

SOURCES = {
    "csv": "{type: file, path: input/people.csv, time: {field: ts, unit: ms}, max_line: 128KiB}",
    "jsonl": "{type: file, path: input/calls.jsonl, time: {field: ts, unit: ms}, max_line: 128KiB}",
    "tail": "{type: file, path: 'input/tail-*.jsonl', format: jsonl, follow: true, max_line: 128KiB}",
    "images": "{type: file, path: input/photos, format: images, follow: true, settle: 100ms}",
    "video": "{type: file, path: input/clip.avi, every: 2}",
    "mqtt": "{type: mqtt, broker: 'mqtt://127.0.0.1:%(mqtt)d', version: 3.1.1, topics: ['s/#'], client_id: gw, "
    "topic_field: topic}",
    "modbus": "{type: modbus, host: 127.0.0.1, port: %(modbus)d, every: 200ms, registers: %(registers)s}",
    "zmq": "{type: zmq, endpoint: 'ipc://%(folder)s/push'}",
    "system": "{type: system, every: 1s}",
}
BROKER = """
import asyncio, logging, sys
from amqtt.broker import Broker
logging.disable(logging.CRITICAL)
async def main():
    broker = Broker({
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{sys.argv[1]}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    })
    await broker.start()
    await asyncio.Event().wait()
asyncio.run(main())
"""  # a process of its own: it leaves sockets of clients that were killed to the collector
STEPS = {"jsonl": ", steps: [{deadband: {field: seconds, absolute: 0}}]", "csv": ", key: device"}


def sets_of(source: str) -> list[c.Canary]:
    """Return the identifiers of a source: registers hold numbers only, the machine's own figures none."""
    seed = 100 + list(SOURCES).index(source)
    if source == "modbus":
        numbers = {kind: c.ALL_MAKERS[kind] for kind in ("mobile", "bank_card")}
        return [c.Canary(x.kind, x.plain, x.plain) for x in c.make(2 * SETS, seed, numbers)]
    if source in PICTURES or source == "system":
        return [
            c.Canary("mobile", x, x)
            for x in (c.mobile(random.Random(seed)) for _ in range(source == "images"))
        ]
    return c.make(len(c.ALL_MAKERS) * SETS, seed, c.ALL_MAKERS)


def listens(port: int) -> bool:
    """Return whether somebody takes connections."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


def bare(canary: c.Canary) -> str:
    """Return an identifier as it stands in a cell of its own; one that any number may look like has its word there."""
    needs_word = canary.kind in ("imei", "passport", "landline", "name", "address", "gps")
    return c.SENTENCES[canary.kind].format(canary.written) if needs_word else canary.plain


def escaped(text: str) -> str:
    """Return a text with each character as `\\uXXXX`."""
    return "".join(f"\\u{ord(sign):04x}" for sign in text)


def notes_of(canaries: list[c.Canary]) -> list[str]:
    """Return texts that hold the identifiers: in sentences, in JSON, in JSON within JSON, escaped, as keys."""
    out = []
    for place, canary in enumerate(canaries):
        said = c.SENTENCES[canary.kind].format(canary.written)
        style = place % 5
        if style == 1:
            said = json.dumps({"text": said, "n": place})
        elif style == 2:
            said = json.dumps({"inner": json.dumps({said: [said]})})
        elif style == 3 and canary.kind != "name":
            said = json.dumps({"text": "?"}).replace("?", escaped(said))
        out.append(said)
    return out


class Feeds:
    """All sources of one run. Files are there before the agent; brokers and servers live until `close`."""

    def __init__(self, plant: Plant, names: tuple[str, ...]) -> None:
        self.plant, self.names = plant, names
        self.canaries = {name: sets_of(name) for name in names}
        self._ports = {"mqtt": free_port(), "modbus": free_port(), "folder": plant.folder}
        self._input = plant.folder / "input"
        self._input.mkdir()
        self._stop, self._stack = threading.Event(), ExitStack()
        self.told: dict[str, int] = dict.fromkeys(names, 0)
        for name in names:
            getattr(self, f"_{name}", lambda: None)()

    def config(self) -> str:
        """Return the keys `sources` and `pipelines`."""
        fields = [f"{{name: r{n}, address: {4 * n}, type: u64}}" for n in range(2 * SETS)]
        fields.append(f"{{name: level, address: {8 * SETS}}}")
        facts = self._ports | {"registers": f"[{', '.join(fields)}]"}
        lines = [
            "sources:",
            *(f"  {n}: {SOURCES[n] % facts if '%' in SOURCES[n] else SOURCES[n]}" for n in self.names),
        ]
        lines += [
            "pipelines:",
            *(f"  {n}: {{source: {n}, linger: 20ms{STEPS.get(n, '')}}}" for n in self.names),
        ]
        return "\n".join(lines)

    def needles(self) -> list[tuple[bytes, str]]:
        """Return what must not be found, with `source kind` for each."""
        out = []
        for name, canaries in self.canaries.items():
            out += [(needle, f"{name} {x.kind}") for x in canaries for needle in c.needles(x)]
        for name in PICTURES:
            if name in self.names:
                out += [(piece, f"{name} face") for piece in self._pieces[name]]
        return out

    def close(self) -> None:
        """End brokers, servers and senders."""
        self._stop.set()
        self._stack.close()

    # -- files ----------------------------------------------------------------------------------------------

    def _csv(self) -> None:
        found = self.canaries["csv"]
        lines = ["ts,device,note,number,contact"]
        for place, (canary, note) in enumerate(zip(found, notes_of(found), strict=True)):
            number = canary.plain if canary.plain.isdigit() and canary.kind != "imei" else place
            lines.append(
                f'{1000 + place},{bare(canary)},"{note.replace(chr(34), chr(34) * 2)}",{number},{bare(canary)}'
            )
        for canary in found:  # broken rows: too many cells, a quote that is never closed, no number, too long
            said = canary.written
            lines += [f"2000,{said},{said},1,2,3,4", f'2001,d,"{said},1,2', f"t{said},d,x,1,2"]
        lines += [f"2002,d,{found[1].written}{'x' * OVERSIZED},1,{found[1].plain}"]
        lines += [f"2003,d,{found[1].written}{'x' * 2 * OVERSIZED},1,2", f"2004,d,a\0{found[1].written},1,2"]
        raw = ("\n".join(lines) + "\n").encode() + b"2005,d,\xff\xfe" + found[0].written.encode() + b",1,2\n"
        (self._input / "people.csv").write_bytes(raw)

    def _records(self, name: str) -> list[bytes]:
        found = self.canaries[name]
        out = []
        for place, (canary, note) in enumerate(zip(found, notes_of(found), strict=True)):
            row: dict[str, Any] = {
                "ts": 1000 + place,
                "seconds": place % 7,
                "note": note,
                "list": [bare(canary)],
            }
            row |= {"deep": {"er": {"x": bare(canary)}}}
            if canary.plain.isdigit() and len(canary.plain) < 19 and canary.kind != "imei":
                row["number"] = int(canary.plain)
            if place < 4:
                row[canary.plain] = place  # a key is stored with each schema
            out.append(json.dumps(row, ensure_ascii=place % 2 == 0).encode())
        first = found[1].written
        out += [
            json.dumps({"ts": 1, "note": f"a\0\ud800 {first}"}).encode(),
            json.dumps({"ts": 1, "note": first + "x" * OVERSIZED}).encode(),
            json.dumps({"ts": first, "note": "no time"}).encode(),
        ]
        return out

    def _broken(self, name: str) -> list[bytes]:
        said = [x.written.encode() for x in self.canaries[name]]
        out = [b'{"ts": 1, "note": "' + s for s in said] + [
            b'{"ts": 1, ' + said[0] + b": 1}",
            b'["' + said[1] + b'"]',
        ]
        return [
            *out,
            b'{"ts": 1, "note": "\xff\xfe' + said[1] + b'"}',
            b'{"note": "' + said[1] + b"x" * 2 * OVERSIZED,
        ]

    def _jsonl(self) -> None:
        lines = self._records("jsonl") + self._broken("jsonl")
        (self._input / "calls.jsonl").write_bytes(b"\n".join(lines) + b"\n")

    def _tail(self) -> None:
        """Follow files whose names are identifiers, too; a thread appends and rotates."""
        lines = self._records("tail") + self._broken("tail")
        path = self._input / f"tail-{self.canaries['tail'][1].plain}.jsonl"
        path.write_bytes(b"\n".join(lines) + b"\n")

        def append() -> None:
            turn = 0
            while not self._stop.wait(0.05):
                with path.open("ab") as file:
                    file.write(lines[turn % len(lines)] + b"\n")
                turn += 1

        self._thread(append)

    def _images(self) -> None:
        folder = self._input / "photos"
        folder.mkdir()
        self._pieces = getattr(self, "_pieces", {})
        shutil.copy(PHOTOS / "astronaut.jpg", folder)
        raw = (PHOTOS / "astronaut.jpg").read_bytes()
        self._pieces["images"] = _pieces(raw)
        number = self.canaries["images"][0].plain
        shutil.copy(PHOTOS / "hopper.jpg", folder / f"{number}.jpg")
        self._pieces["images"] += _pieces((PHOTOS / "hopper.jpg").read_bytes())
        (folder / f"broken-{number}.jpg").write_bytes(raw[: len(raw) // 2])

    def _video(self) -> None:
        self._pieces = getattr(self, "_pieces", {})
        frame = cv2.resize(
            cv2.imread(str(PHOTOS / "astronaut.jpg")), (320, 320), interpolation=cv2.INTER_AREA
        )
        path = self._input / "clip.avi"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, (320, 320))
        for shift in range(6):
            writer.write(np.roll(frame, shift, axis=1))
        writer.release()
        read = cv2.VideoCapture(str(path))
        pieces = _pieces(path.read_bytes())
        while (got := read.read())[0]:  # frames as the decoder hands them to the agent
            rows = (got[1][row, 130:152].tobytes() for row in range(65, 100, 4))
            pieces += [row for row in rows if len(set(row)) > 24]
        self._pieces["video"] = pieces

    # -- live sources ---------------------------------------------------------------------------------------

    def _mqtt(self) -> None:
        port = self._ports["mqtt"]
        broker = subprocess.Popen([sys.executable, "-c", BROKER, str(port)], env=self.plant.environment)
        self._stack.callback(kill, broker)
        wait_until(lambda: listens(port), lambda: "the broker does not listen")
        from paho.mqtt import client as paho
        from paho.mqtt.enums import CallbackAPIVersion

        client = paho.Client(CallbackAPIVersion.VERSION2, "sender")
        client.connect("127.0.0.1", port)
        client.loop_start()
        self._stack.callback(lambda: (client.disconnect(), client.loop_stop()))
        found = self.canaries["mqtt"]
        messages = self._records("mqtt") + self._broken("mqtt")[-4:]

        def send() -> None:
            turn = 0
            while not self._stop.wait(0.03):
                number = found[1 + len(c.ALL_MAKERS) * (turn % SETS)].plain
                client.publish(f"s/{number}", messages[turn % len(messages)], qos=1)
                turn += 1

        self._thread(send)

    def _modbus(self) -> None:
        from pymodbus.server import ModbusTcpServer
        from pymodbus.simulator import DataType, SimData, SimDevice

        logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)
        words = []
        for canary in self.canaries["modbus"]:
            number = int(canary.plain)
            words += [number >> shift & 0xFFFF for shift in (48, 32, 16, 0)]
        words.append(42)
        bits = [SimData(0, values=[False] * 16, datatype=DataType.BITS)]
        table = [SimData(0, values=words, datatype=DataType.REGISTERS)]
        device = SimDevice(1, (bits, bits, table, table))

        async def serve() -> Callable[[], Any]:
            server = ModbusTcpServer([device], address=("127.0.0.1", self._ports["modbus"]))
            await server.serve_forever(background=True)
            return server.shutdown

        self._stack.enter_context(Looped(serve))

    def _zmq(self) -> None:
        messages = self._records("zmq") + self._broken("zmq")[-4:]
        messages.append(msgpack.packb({"raw": self.canaries["zmq"][0].written.encode(), "note": "bytes"}))

        def send() -> None:
            with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
                dealer.setsockopt(zmq.LINGER, 0)
                dealer.setsockopt(zmq.SNDTIMEO, 200)
                dealer.connect(f"ipc://{self.plant.folder}/push")
                turn = 0
                while not self._stop.wait(0.03):
                    try:
                        dealer.send_multipart([b"", messages[turn % len(messages)]])
                        turn += 1
                        while dealer.poll(0):
                            dealer.recv_multipart()
                    except zmq.Again:
                        continue

        self._thread(send)

    def _thread(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work)
        thread.start()

        def end() -> None:
            self._stop.set()
            thread.join(20)

        self._stack.callback(end)


def _pieces(raw: bytes) -> list[bytes]:
    pieces = (raw[at : at + 64] for at in range(2_000, len(raw) - 64, 997))
    return [piece for piece in pieces if len(set(piece)) > 24]  # an index or a black line is in many files


class Looped:
    """An asyncio server in a thread of its own: `start` returns what shuts it down."""

    def __init__(self, start: Callable[[], Any]) -> None:
        self._start, self._loop, self._up = start, asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._done = asyncio.Event()
        shutdown = await self._start()
        self._up.set()
        await self._done.wait()
        await shutdown()

    def __enter__(self) -> Looped:
        self._thread.start()
        assert self._up.wait(20), "the server does not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(20)
