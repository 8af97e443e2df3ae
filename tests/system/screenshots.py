"""Pictures of the pages of a real agent and a real receiver, for docs/operations.md.

    python tests/system/screenshots.py FOLDER

Three sources with rows that move, a camera, masking, an alarm; then the same with the link cut. Needs chromium.
"""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import cv2
from browser import Browser
from plant import Plant, free_port, kill
from test_page import PHOTOS, opened
from test_service import eventually

CONFIG = """\
sources:
  pump: {type: file, path: pump.csv, follow: true}
  meter: {type: file, path: meter.csv, follow: true}
  yard: {type: file, path: photos, format: images, follow: true, settle: 100ms}
  me: {type: agent, every: 5s}
pipelines:
  pump:
    source: pump
    linger: 200ms
    fields:
      temperature: {unit: "°C", decimals: 2}
      flow: {unit: m3/h, decimals: 2}
      pressure: {unit: bar, decimals: 3}
    steps:
      - validate: {field: temperature, range: [-40, 150]}
      - deadband: {field: temperature, absolute: 0.05, max_silence: 10s}
      - alarm: {name: hot, when: "temperature > 88", lane: urgent}
  meter: {source: meter, linger: 200ms, fields: {power: {unit: kW, decimals: 1}}, steps: [resample: {every: 1s}]}
  yard: {source: yard}
  agent: {source: me, linger: 0s}
masking: {policy: base}
web: {listen: "127.0.0.1:%d"}
"""


def feed(folder: Path, stop: threading.Event) -> None:
    """Append rows that look like a pump's and a meter's, 20 a second each; one picture every 5 s."""
    pump, meter = (folder / "pump.csv").open("w", buffering=1), (folder / "meter.csv").open("w", buffering=1)
    pump.write("temperature,flow,pressure,note\n")
    meter.write("power\n")
    for row in range(1_000_000):
        hot = 12 if 500 < row < 700 else 0
        pump.write(
            f"{78 + hot + 3 * math.sin(row / 60):.2f},{41 + 2 * math.sin(row / 23):.2f},"
            f"{3.2 + math.sin(row / 41) / 10:.3f},ok\n"
        )
        meter.write(f"{320 + 40 * math.sin(row / 90) + row % 7:.1f}\n")
        if row % 100 == 0:
            shutil.copy(
                PHOTOS / ("astronaut.jpg" if row % 200 else "hopper.jpg"),
                folder / "photos" / f"{row:06d}.jpg",
            )
        if stop.wait(0.05):
            return


def shoot(browser: Browser, address: str, target: Path, *, phone: bool = False) -> None:
    """Take a picture of a page after it has looked a few times."""
    browser.size(*((390, 844) if phone else (1200, 800)), phone=phone)
    browser.goto(address)
    browser.wait_for("document.getElementById('facts')?.hidden === false")
    time.sleep(9)
    browser.shoot(target)
    picture = cv2.imread(str(target))
    if not phone:
        picture = cv2.resize(picture, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(target.with_suffix(".jpg")), picture, [cv2.IMWRITE_JPEG_QUALITY, 68])
    target.unlink()


def main(out: Path) -> None:
    """Run, look, cut the link, look again."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        plant, port, center_port = Plant(Path(made) / "plant"), free_port(), free_port()
        receiver = plant.folder / "receiver.yaml"
        receiver.write_text(receiver.read_text() + f'web: {{listen: "127.0.0.1:{center_port}"}}\n')
        (plant.folder / "photos").mkdir()
        plant.configure(CONFIG % port)
        stop = threading.Event()
        feeder = threading.Thread(target=feed, args=(plant.folder, stop))
        plant.start_receiver()
        agent = plant.start_agent()
        try:
            feeder.start()
            page = f"http://127.0.0.1:{port}/#token={opened(plant, port)}"
            eventually(lambda: plant.status()["streams"].get("pump", {}).get("delivered"), "rows")
            center = (
                f"http://127.0.0.1:{center_port}/#token={(plant.folder / 'web.token').read_text().strip()}"
            )
            with Browser(plant.folder / "browser") as browser:
                shoot(browser, page, out / "warm-up.png")
                time.sleep(25)
                shoot(browser, page, out / "agent.png")
                shoot(browser, page, out / "agent-phone.png", phone=True)
                shoot(browser, center, out / "receiver.png")
                shoot(browser, center, out / "receiver-phone.png", phone=True)
                plant.stop_receiver()
                eventually(lambda: plant.status()["link"]["state"] == "down", "the cut")
                time.sleep(15)
                shoot(browser, page, out / "agent-down.png")
                shoot(browser, page, out / "agent-down-phone.png", phone=True)
                assert not browser.errors, browser.errors
        finally:
            stop.set()
            feeder.join()
            kill(agent)
            plant.close()
    (out / "warm-up.jpg").unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
