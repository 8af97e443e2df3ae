"""The local page in a real browser, on a real agent."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser
from plant import Plant, free_port, kill
from test_service import PATIENCE_S, append, arrived, eventually

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


NEEDS_CHROMIUM = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium here: make system-packages, as root"
)


@pytest.fixture
def browser(plant):
    with Browser(plant.folder / "browser") as made:
        yield made


@pytest.mark.slow
@NEEDS_CHROMIUM
def test_a_browser_shows_what_flows(plant, browser):
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
        browser.size(1200, 900)
        browser.goto(f"{page}#token={token}")
        browser.wait_for("document.body.innerText.includes('gw-1')")  # from now on somebody looks
        append(plant, "a", 500, 1000)
        shutil.copy(PHOTOS / "astronaut.jpg", plant.folder / "photos")
        browser.wait_for("document.querySelector('#series summary')?.textContent === 'pump (2)'")
        browser.wait_for(
            "[...document.querySelectorAll('figcaption')].some(c => c.textContent.includes('bar'))"
        )
        browser.wait_for(
            "[...document.querySelectorAll('#flow text')].some(t => t.textContent === 'deadband')"
        )
        browser.wait_for("document.querySelector('#link b.up')?.textContent === 'up'")
        browser.wait_for("document.getElementById('still').src.startsWith('blob:')")
        browser.wait_for("document.getElementById('still').naturalWidth > 0")
        browser.wait_for("document.body.innerText.includes('does not fill')")
        browser.wait_for(
            "document.getElementById('config').textContent.includes('gw-1')"
        )  # asked for by itself
        assert browser.evaluate("document.getElementById('config').textContent").count("gw-1") == 1
        assert not browser.evaluate("location.hash"), "the token is taken out of the address"
        plant.stop_receiver()
        browser.wait_for("document.querySelector('#link b.down')")
        browser.wait_for("document.body.innerText.includes('What to do: nothing if it comes back')")
        assert not browser.errors
    finally:
        kill(child)


@pytest.mark.slow
@NEEDS_CHROMIUM
def test_a_phone_shows_alarms_and_everything_fits_its_width(plant, browser):
    port = free_port()
    (plant.folder / "photos").mkdir()
    append(plant, "a", 0, 100)
    alarm = "alarm: {when: 'value > 60', name: too much}"
    plant.configure((CONFIG % port).replace("deadband: {field: value, absolute: 0}", alarm))
    child = plant.start_agent()
    try:
        token = opened(plant, port)
        append(plant, "a", 100, 300)
        eventually(lambda: plant.status()["streams"].get("pump_alarms", {}).get("read"), "an alarm")
        browser.size(390, 844, phone=True)
        browser.goto(f"http://127.0.0.1:{port}/#token={token}")
        browser.wait_for("document.querySelector('#alarms td.down')?.textContent === 'raised'")
        assert "too much" in browser.text(), "raised before anybody looked"
        when = browser.evaluate("document.querySelector('#alarms tr td:last-child').textContent")
        assert re.fullmatch(r"([0-9]{4}-[0-9]{2}-[0-9]{2} )?[0-9]{2}:[0-9]{2}:[0-9]{2}", when)
        browser.wait_for("document.querySelectorAll('#flow .card').length === 2")
        assert browser.evaluate("document.documentElement.scrollWidth") <= 390
        assert not browser.errors
    finally:
        kill(child)


@pytest.mark.slow
@NEEDS_CHROMIUM
def test_without_the_token_a_browser_sees_no_fact(plant, browser):
    port = free_port()
    (plant.folder / "photos").mkdir()
    append(plant, "a", 0, 10)
    plant.configure(CONFIG % port, forward=False)
    child = plant.start_agent()
    try:
        opened(plant, port)
        browser.goto(f"http://127.0.0.1:{port}/#token=wrong")
        browser.wait_for("document.body.innerText.includes('That is not the token')")
        assert "gw-1" not in browser.text()
        assert "web.token" in browser.text()
    finally:
        kill(child)


def test_the_page_is_light(plant):
    port = free_port()
    append(plant, "a", 0, 100)
    (plant.folder / "photos").mkdir()

    def settled(config: str) -> int:
        plant.configure(config, rest="log: {level: debug}", forward=False)
        child = plant.start_agent()
        try:
            eventually(lambda: "agent runs" in plant.log()[plant._log_start :], "the agent")
            eventually(lambda: plant.status()["streams"].get("pump", {}).get("read", 0) >= 200, "rows")
            # An agent gives up the pages that only its start needed, once: both are looked at after that.
            eventually(
                lambda: "library pages that are not in use were given up" in plant.log()[plant._log_start :],
                "its settling",
            )
            if "web:" in config:
                token = opened(plant, port)
                for path in (
                    "",
                    "page.js",
                    "api/facts",
                    "api/series",
                    "api/alarms",
                    "api/config",
                    "metrics",
                ) * 5:
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
        with Browser(plant.folder / "browser") as browser:
            browser.goto(f"http://127.0.0.1:{port}/#token={token}")
            browser.wait_for("document.getElementById('name')?.textContent === 'dc-1 · receiver'")
            browser.wait_for("document.querySelector('#flow td')?.textContent === 'gw-1'")
            assert not browser.errors
