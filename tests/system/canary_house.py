"""A gateway and a center with every source at once, everything that they write kept, and what befalls them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from canary_search import Needles, everything
from canary_sources import PHOTOS, Feeds
from live import wait_until
from plant import Plant, free_port, kill, rows_of

SABOTEUR = Path(__file__).with_name("saboteur.py")
FACES = {  # by the picture's height: the original, and eyes, nose and mouth in it
    512: ("astronaut.jpg", 512, (195, 90, 255, 170)),
    600: ("hopper.jpg", 600, (205, 170, 330, 310)),
    320: ("astronaut.jpg", 320, (126, 60, 156, 102)),
}
ALIKE = 0.4  # correlation with the original's edges beyond which a face is one; a filled one has none
_SHIFT = 8


class House:
    """Plant, feeds and evidence of one run."""

    def __init__(
        self,
        plant: Plant,
        library: Path,
        sources: tuple[str, ...],
        *,
        how: str = "nothing",
        rest: str = "",
        spool: str = "",
    ) -> None:
        self.plant, self.how = plant, how
        folder = plant.folder
        for name in ("home", "tee", "tools"):
            (folder / name).mkdir()
        self.fail = folder / "fail"
        plant.environment |= {
            "HOME": str(folder / "home"),
            "TEE_DIR": str(folder / "tee"),
            "FAIL_FILE": str(self.fail),
            "FAIL_PATH": "/spool/segment-",
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        }
        self._library = library
        self.feeds = Feeds(plant, sources)
        self.page_port = free_port()
        rest += f'\nweb: {{listen: "127.0.0.1:{self.page_port}"}}\nlog: {{level: debug}}\n'
        plant.configure(self.feeds.config(), rest=rest, spool=spool)
        self.agent: subprocess.Popen[bytes] | None = None

    # -- running --------------------------------------------------------------------------------------------

    def start(self, *options: str) -> None:
        """Start the agent, core dumps allowed as far as it is up to who starts it."""
        command = [sys.executable, str(SABOTEUR), self.how, "run", "agent.yaml", *options]
        self.agent = self._spawn("agent", command)

    def start_receiver(self, how: str = "nothing") -> None:
        """Start the receiver."""
        self.receiver = self._spawn(
            "receiver", [sys.executable, str(SABOTEUR), how, "receive", "receiver.yaml"]
        )

    def _spawn(self, log: str, command: list[str]) -> subprocess.Popen[bytes]:
        shell = [
            "sh",
            "-c",
            'ulimit -c unlimited; LD_PRELOAD="$0"; export LD_PRELOAD; exec "$@"',
            str(self._library),
        ]
        with (self.plant.folder / f"{log}.log").open("ab") as out:
            child = subprocess.Popen(
                [*shell, *command], cwd=self.plant.folder, env=self.plant.environment, stdout=out, stderr=out
            )
        self.plant.children.append(child)
        return child

    def accepted(self, kind: str = "accepted") -> dict[str, int]:
        """Return what was accepted of each stream, or another kind of the ledger's."""
        with contextlib.suppress(sqlite3.Error):  # being made
            ledger = f"SELECT stream, sum(readings) FROM ledger WHERE kind = '{kind}' GROUP BY stream"
            return dict(rows_of(self.plant.segment, ledger))
        return {}

    def wait_flow(
        self,
        names: tuple[str, ...] | None = None,
        *,
        more_than: dict[str, int] | None = None,
        kind: str = "accepted",
    ) -> None:
        """Wait until something of each source is durable, or more than there was."""
        names = self.feeds.names if names is None else names
        least = more_than or {}

        def flows() -> bool:
            assert self.agent is None or self.agent.poll() is None, self.plant.log()[-3000:]
            time.sleep(0.05)
            now = self.accepted(kind)
            return all(now.get(name, 0) > least.get(name, 0) for name in names)

        wait_until(flows, lambda: f"{names} {least} {self.accepted()}\n{self.plant.log()[-3000:]}")

    def wait_log(self, text: str, log: str = "agent") -> None:
        """Wait for a line of a log."""
        wait_until(lambda: text in self.plant.log(log), lambda: f"no `{text}`: {self.plant.log(log)[-3000:]}")

    def stop(self) -> None:
        """End agent and receiver as a service manager does."""
        for child in self.plant.children:
            if child.poll() is None:
                child.terminate()
        for child in self.plant.children:
            try:
                child.wait(60)
            finally:
                kill(child)

    # -- looking --------------------------------------------------------------------------------------------

    def tool(self, name: str, *arguments: object) -> str:
        """Run a command, whatever it returns, and keep what it printed as evidence."""
        said = self.plant.cli(*arguments, expect=None) + self.plant.last_error
        (self.plant.folder / "tools" / f"{name}.txt").write_text(said, "utf-8")
        return said

    def tools(self) -> None:
        """Let every tool look at what is on disk."""
        self.tool("status", "status", "agent.yaml", "--json")
        self.tool("stat", "spool", "stat", "spool", "--json")
        self.tool("verify", "spool", "verify", "spool", "--json")
        self.tool("report", "audit", "report", "agent.yaml", "--json")
        self.tool("support", "support", "agent.yaml", "-o", "tools/support.tar.gz", "--log", "agent.log")
        self.tool("export", "spool", "export", "spool", "--to", "tools/exported")
        for file in (self.plant.folder / "tools" / "exported").glob("*.fbb"):
            self.tool(f"decoded-{file.stem}", "decode", file)

    def look_inside(self) -> None:
        """Let every tool look at the running agent."""
        tapped = self.tool("tap", "tap", "agent.yaml", "--rows", 40, "--pipeline", "mqtt")
        recording = [line for line in tapped.splitlines() if line.startswith("{")]
        (self.plant.folder / "tools" / "recording.jsonl").write_text("\n".join(recording) + "\n")
        self.tool("replay", "replay", "agent.yaml", "--pipeline", "csv", "--json")
        self.tool(
            "replayed",
            "replay",
            "agent.yaml",
            "agent.yaml",
            "--pipeline",
            "mqtt",
            "-i",
            "tools/recording.jsonl",
            "--json",
        )
        self.tool("top", "status", "agent.yaml")
        token = (self.plant.spool / "web.token").read_text().strip()
        for path in (
            "",
            "metrics",
            "healthz",
            "readyz",
            "api/facts",
            "api/series",
            "api/still",
            "api/config",
        ):
            request = urllib.request.Request(
                f"http://127.0.0.1:{self.page_port}/{path}", headers={"Authorization": f"Bearer {token}"}
            )
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    body = answer.read()
            except urllib.error.HTTPError as error:
                body = error.read()
            (self.plant.folder / "tools" / f"page-{path.replace('/', '-')}").write_bytes(body)

    def search(self) -> tuple[dict[str, set[str]], int]:
        """Return what was found, `source kind` by place, and how many bytes were searched."""
        needles, size = Needles(self.feeds.needles()), 0
        found: dict[str, set[str]] = {}
        for place, data in self.evidence():
            size += len(data)
            hits = needles.find(data)
            if not place.startswith("tee/"):  # pages of a file in the order of writing: no whole pictures
                hits |= set(faces_in(data))
            if hits:
                found[place] = hits
        return found, size

    def evidence(self) -> Iterator[tuple[str, bytes]]:
        """Yield everything that agent, receiver and tools ever wrote."""
        return everything(self.plant.folder, ("input", "keys", "models"))

    def close(self) -> None:
        """End everything."""
        self.plant.close()
        self.feeds.close()


def faces_in(data: bytes) -> Iterator[str]:
    """Yield `SOURCE face` for each picture in some bytes that shows one that was fed in."""
    for picture in pictures_in(data):
        name, height, (x1, y1, x2, y2) = FACES[picture.shape[0]]
        original = cv2.imread(str(PHOTOS / name))
        original = cv2.resize(original, (height, height)) if height == 320 else original
        if picture.shape != original.shape:
            continue
        one, other = (
            cv2.Laplacian(cv2.cvtColor(p, cv2.COLOR_BGR2GRAY), cv2.CV_32F) for p in (picture, original)
        )
        piece = one[y1:y2, x1:x2]
        # edges only: what lies between pages of a file garbles the colours of a picture; frames are shifted
        near = other[y1 - _SHIFT : y2 + _SHIFT, x1 - _SHIFT : x2 + _SHIFT]
        if piece.std() > 1 and cv2.matchTemplate(near, piece, cv2.TM_CCOEFF_NORMED).max() > ALIKE:
            yield f"{'video' if height == 320 else 'images'} face"


def pictures_in(data: bytes) -> Iterator[np.ndarray]:
    """Yield the JPEG pictures in some bytes that are as large as one that was fed in."""
    at = data.find(b"\xff\xd8\xff")
    while at >= 0:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8, offset=at), cv2.IMREAD_COLOR)
        if picture is not None and picture.shape[0] in FACES:
            yield picture
        at = data.find(b"\xff\xd8\xff", at + 3)


# -- what befalls them ----------------------------------------------------------------------------------------

Fault = Callable[[House], None]


def nothing(house: House) -> None:
    """A day without trouble: delivered, looked at with every tool, stopped."""
    house.start_receiver()
    house.start()
    house.wait_flow()
    if {"mqtt", "csv"} <= set(house.feeds.names):
        house.look_inside()
    house.stop()
    with contextlib.closing(sqlite3.connect(house.plant.segment)) as db:
        assert db.execute("SELECT count(*) FROM audit_open").fetchone() == (0,)


def killed(house: House) -> None:
    """kill -9 wherever it is, four times, the receiver once."""
    house.start_receiver()
    for pause in (0.0, 0.13, 0.37, 0.71):
        house.start()
        house.wait_flow(())
        time.sleep(pause)
        if pause:
            house.wait_flow()
        assert house.agent is not None
        kill(house.agent)
        if pause == 0.37:
            kill(house.receiver)
    house.start_receiver()
    house.start()
    house.wait_flow()


def _ended(house: House) -> int:
    """Wait for the agent's end; return its status as the kernel tells it, for `Popen` keeps no word of a core."""
    found: list[int] = []

    def gone() -> bool:
        assert house.agent is not None
        pid, status = os.waitpid(house.agent.pid, os.WNOHANG)
        if not pid:
            time.sleep(0.02)
            return False
        house.agent.returncode = os.waitstatus_to_exitcode(status)
        found.append(status)
        return True

    wait_until(gone, lambda: f"the agent goes on: {house.plant.log()[-3000:]}")
    return found[0]


def dumped(house: House) -> None:
    """Signals that leave a core, with `ulimit -c unlimited`."""
    live = tuple(n for n in ("mqtt", "zmq") if n in house.feeds.names)
    for number in (signal.SIGABRT, signal.SIGSEGV, signal.SIGQUIT):
        before = house.accepted()
        house.start()
        house.wait_flow(live, more_than=before)
        assert house.agent is not None
        limits = Path(f"/proc/{house.agent.pid}/limits").read_text()
        (core,) = [line for line in limits.splitlines() if "core file" in line]
        assert core.split()[4:6] == ["0", "0"], core
        house.agent.send_signal(number)
        status = _ended(house)
        assert os.WIFSIGNALED(status)
        assert not os.WCOREDUMP(status), "a core was written, or handed to a program"
    assert not [p for p in house.plant.folder.rglob("core*") if p.is_file() and "tools" not in p.parts]


@contextlib.contextmanager
def failing(house: House, number: int) -> Iterator[None]:
    """Let writes to the spool's segments fail with an errno."""
    house.fail.write_text(str(number))
    try:
        yield
    finally:
        house.fail.unlink()


def fails_with(number: int) -> Fault:
    """Return the fault of a spool whose writes fail with an errno."""

    def fault(house: House) -> None:
        house.start()
        house.wait_flow()
        with failing(house, number):
            house.wait_log("spool cannot write")
            time.sleep(0.5)
        house.wait_log("spool works again")
        house.wait_flow(("mqtt", "zmq"), more_than=house.accepted())
        with failing(house, number):  # and once more into the dark
            time.sleep(0.3)
            assert house.agent is not None
            kill(house.agent)

    fault.__doc__ = f"Writes to the spool fail: {os.strerror(number)}."
    return fault


def disk_full(house: House) -> None:
    """A small disk of its own, filled to the last byte while everything flows, then freed."""
    house.start()
    house.wait_flow()
    filler = house.plant.spool / "filler"
    with (
        filler.open("wb", buffering=0) as file,
        contextlib.suppress(OSError),
    ):  # nothing is left for the close
        while True:
            file.write(bytes(16 * 1024))
    wait_until(
        lambda: "spool cannot write" in house.plant.log() or "spool is full" in house.plant.log(),
        lambda: house.plant.log()[-3000:],
    )
    filler.unlink()
    house.wait_log("spool works again")


def dead_lettered(house: House) -> None:
    """The receiver answers PERMANENT."""
    house.start_receiver("refuse")
    house.start()
    house.wait_flow()

    def buried() -> bool:
        with contextlib.suppress(sqlite3.Error):
            return bool(rows_of(house.plant.segment, "SELECT 1 FROM dead_letter LIMIT 1"))
        return False

    wait_until(buried, lambda: house.plant.log()[-3000:])


def refused(house: House) -> None:
    """The receiver wants another policy."""
    path = house.plant.folder / "receiver.yaml"
    path.write_text(
        path.read_text().replace("allow: keys/allowed", "allow: keys/allowed, require_policy: [strict]")
    )
    house.start_receiver()
    house.start()
    house.wait_flow()
    house.wait_log("batches wait on their gateway", "receiver")


def receiver_down(house: House) -> None:
    """Nobody answers."""
    house.start()
    house.wait_flow()


def policy_broken(house: House) -> None:
    """The policy is broken at a reload, then missing at a start in safe mode."""
    policy = house.plant.folder / "p.yaml"
    house.start()
    house.wait_flow()
    kept = house.plant.spool / "last-good.json"  # of a configuration that ran well for 10 s
    wait_until(kept.exists, lambda: house.plant.log()[-3000:])
    policy.write_text("name: p\nversion: 2\nextends: base\nclasses: {mobile: {operator: pas}}\n")
    assert house.agent is not None
    house.agent.send_signal(signal.SIGHUP)
    house.wait_log("was not reloaded")
    house.wait_flow(("mqtt", "zmq"), more_than=house.accepted())
    policy.unlink()
    house.agent.send_signal(signal.SIGHUP)
    house.wait_flow(("mqtt", "zmq"), more_than=house.accepted())
    kill(house.agent)
    house.start("--safe-mode")
    house.wait_log("safe mode")
    time.sleep(1)


def crashes(house: House) -> None:
    """Parts of the agent die and quote data: a pipeline leaves a report, a source a line in the log."""
    house.start()
    house.wait_flow()

    def reported() -> bool:
        return any((house.plant.spool / "crashes").glob("*.json")) or "nobody foresaw" in house.plant.log()

    wait_until(reported, lambda: house.plant.log()[-3000:])


def detectors_fail(house: House) -> None:
    """Detectors of text and pictures fail every other time and quote data."""
    house.start_receiver()
    house.start()
    house.wait_flow(kind="read")  # by chance the detector fails at both photographs, and none is accepted
    house.wait_flow(tuple(name for name in house.feeds.names if name != "images"))


def model_damaged(house: House) -> None:
    """The faces' model is damaged while the agent runs, before the first picture comes."""
    photos, aside = house.plant.folder / "input" / "photos", house.plant.folder / "input" / "aside"
    photos.rename(aside)
    photos.mkdir()
    house.start_receiver()
    house.start()
    house.wait_flow(("mqtt", "csv"))
    model = house.plant.folder / "models" / "faces" / "model.onnx"
    raw = bytearray(model.read_bytes())
    raw[len(raw) // 2 :] = bytes(len(raw) - len(raw) // 2)
    model.write_bytes(raw)
    for path in sorted(aside.iterdir()):
        shutil.copy(path, photos)
    wait_until(lambda: "images" in house.plant.status()["streams"], lambda: house.plant.log()[-3000:])


def spool_damaged(house: House) -> None:
    """Segments are garbled while the agent is down: quarantine, salvage, repair."""
    house.start()
    house.wait_flow()
    assert house.agent is not None
    kill(house.agent)
    segment = house.plant.segment
    raw = bytearray(segment.read_bytes())
    for at in range(8192, len(raw) - 200, max(4096, len(raw) // 12)):
        raw[at : at + 64] = bytes(range(64))
    segment.write_bytes(raw)
    house.start()
    house.wait_flow(("mqtt", "zmq"))
    kill(house.agent)
    house.tool("repair", "spool", "repair", "spool", "--json")
    house.start_receiver()
    house.start()
    house.wait_flow(("mqtt", "zmq"), more_than=house.accepted())
