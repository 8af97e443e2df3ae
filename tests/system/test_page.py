"""The local page in a real browser, on a real agent."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from plant import Plant, free_port, kill
from test_service import PATIENCE_S, append, arrived, eventually

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync")  # fmt: skip

CONFIG = """\
sources:
  pump: {type: file, path: a.csv, format: csv, follow: true, time: {field: ts, unit: s}}
  camera: {type: file, path: photos, format: images, follow: true, settle: 100ms}
pipelines:
  pump: {source: pump, linger: 20ms, fields: {value: {unit: bar}}, steps: [deadband: {field: value, absolute: 0}]}
  camera: {source: camera}
masking: {policy: base}
web: {listen: "127.0.0.1:%d"}
"""
PHOTOS = Path(__file__).parents[2] / "config" / "demo" / "photos"


def browse(plant: Plant, address: str, *what: str) -> str:
    """Return what the browser prints of a page after it has run for a while."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={plant.folder}/browser", "--virtual-time-budget=9000", *what, address],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.stdout


def opened(plant: Plant, port: int) -> str:
    """Wait for the page; return its token."""
    eventually(lambda: "local page on" in plant.log()[plant._log_start :], "the page")
    eventually(lambda: answers(port), "the page's answer")
    return (plant.spool / "web.token").read_text().strip()


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=PATIENCE_S):
            return True
    except urllib.error.URLError:
        return False


def rss_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1])


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: make system-packages, as root")
def test_a_browser_shows_what_flows(plant):
    port = free_port()
    (plant.folder / "photos").mkdir()
    append(plant, "a", 0, 500)
    plant.configure(CONFIG % port)
    plant.start_receiver()
    child = plant.start_agent()
    try:
        eventually(arrived(plant, "pump", 500), "rows")
        token = opened(plant, port)
        page = f"http://127.0.0.1:{port}/"
        asked = urllib.request.Request(page + "api/series", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:  # from now on somebody looks
            assert answer.status == 200
        append(plant, "a", 500, 1000)
        shutil.copy(PHOTOS / "astronaut.jpg", plant.folder / "photos")
        eventually(lambda: plant.status()["streams"].get("camera", {}).get("delivered"), "the picture")
        shown = browse(plant, f"{page}#token={token}", "--dump-dom")
        assert "gw-1" in shown
        assert "pump · value" in shown
        assert ">deadband<" in shown
        assert 'class="up">up<' in shown
        assert "blob:http" in shown, "the last masked picture"
        shut = browse(plant, page, "--dump-dom")
        assert "gw-1" not in shut
        assert "web.token" in shut
        assert "Troubles" in shown
    finally:
        kill(child)


def test_the_page_is_light(plant):
    port = free_port()
    append(plant, "a", 0, 100)
    (plant.folder / "photos").mkdir()

    def settled(config: str) -> int:
        plant.configure(config, forward=False)
        child = plant.start_agent()
        try:
            eventually(lambda: "agent runs" in plant.log()[plant._log_start :], "the agent")
            eventually(lambda: plant.status()["streams"].get("pump", {}).get("read", 0) >= 200, "rows")
            if "web:" in config:
                token = opened(plant, port)
                for path in ("", "page.js", "api/facts", "api/series", "api/config", "metrics") * 5:
                    address = f"http://127.0.0.1:{port}/{path}"
                    asked = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})
                    with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
                        answer.read()
            return rss_kib(child.pid)
        finally:
            kill(child)

    without = settled((CONFIG % port).replace(f'web: {{listen: "127.0.0.1:{port}"}}\n', ""))
    with_page = settled(CONFIG % port)
    assert with_page - without <= 8 * 1024, f"the page costs {with_page - without} KiB"
    print(f"RSS {without} KiB without, {with_page} KiB with the page")


def test_the_receiver_has_a_page_metrics_and_feeds_its_watchdog(plant):
    port = free_port()
    append(plant, "a", 0, 300)
    (plant.folder / "photos").mkdir()
    receiver = plant.folder / "receiver.yaml"
    receiver.write_text(receiver.read_text() + f'web: {{listen: "127.0.0.1:{port}"}}\n')
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    address = f"\0forebay-test-{os.getpid()}-{time.monotonic_ns()}"
    manager.bind(address)
    manager.settimeout(PATIENCE_S)
    plain = plant.environment
    plant.environment = plain | {"NOTIFY_SOCKET": "@" + address[1:], "WATCHDOG_USEC": "3000000"}
    plant.start_receiver()
    plant.environment = plain
    try:
        assert "READY=1" in manager.recv(4096).decode()
        assert "WATCHDOG=1" in manager.recv(4096).decode()
    finally:
        manager.close()
    once = CONFIG.replace("follow: true, ", "").replace('web: {listen: "127.0.0.1:%d"}\n', "")
    plant.configure(once)
    plant.once()
    token = (plant.folder / "web.token").read_text().strip()

    def get(path: str) -> str:
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
            return answer.read().decode()

    facts = json.loads(get("/api/facts"))
    assert facts["gateways"]["gw-1"]["batches"] == facts["stored_batches"] > 0
    assert "forebay_receiver_gateways 1" in get("/metrics")
    assert json.loads(get("/readyz"))["ok"]
    if CHROMIUM is not None:
        shown = browse(plant, f"http://127.0.0.1:{port}/#token={token}", "--dump-dom")
        assert "dc-1 · receiver" in shown
        assert "<td>gw-1</td>" in shown
