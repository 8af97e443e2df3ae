"""A real browser, driven over a pipe by the Chrome DevTools protocol: no library, no port."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync")  # fmt: skip
PATIENCE_S = 120.0


class Browser:
    """One page of one window. `goto`, then `wait_for`, `evaluate`, `shoot`; a context manager."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None, "no chromium here"
        hear_theirs, self._say = os.pipe()
        self._hear, say_theirs = os.pipe()

        def hand_over() -> None:  # what it reads is descriptor 3, what it writes 4
            os.dup2(hear_theirs, 10)
            os.dup2(say_theirs, 11)
            os.dup2(10, 3)
            os.dup2(11, 4)

        self._child = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"],
            preexec_fn=hand_over, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(hear_theirs)
        os.close(say_theirs)
        self._number, self._rest, self.errors = 0, b"", []  # type: int, bytes, list[str]
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._call("Runtime.enable")
        self._call("Page.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.wait()
        os.close(self._say)
        os.close(self._hear)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        order = {"id": self._number, "method": method, "params": parameters}
        session = getattr(self, "_session", None)
        body = json.dumps(order | ({"sessionId": session} if session else {})).encode() + b"\0"
        os.write(self._say, body)
        while True:
            told = self._message()
            if told.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.errors.append(json.dumps(told["params"])[:500])
            if told.get("id") == self._number:
                assert "error" not in told, told
                answer: dict[str, Any] = told["result"]
                return answer

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._hear, 1 << 16)
            assert more, "the browser has gone"
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """Make the window so large."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )

    def goto(self, address: str) -> None:
        """Open a page."""
        self._call("Page.navigate", url="about:blank")
        self._call("Page.navigate", url=address)

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        told = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def wait_for(self, script: str) -> None:
        """Wait until an expression is true; while a page loads it may fail."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.evaluate(f"(() => {{ try {{ return !!({script}) }} catch {{ return false }} }})()"):
            assert time.monotonic() < deadline, (script, self.text()[:3000])
            time.sleep(0.1)

    def text(self) -> str:
        """Return what can be read on the page."""
        return str(self.evaluate("document.body?.innerText ?? ''"))

    def shoot(self, target: Path, *, whole: bool = True) -> None:
        """Take a picture of the page, the part below the window too."""
        shown = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        target.write_bytes(base64.b64decode(shown["data"]))
