"""`forebay` with a clock around each run of a model: `python -m benchmarks.video_agent FACTS.json run ...`."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from forebay.cli import main
from forebay.infer.session import Session


class Clock:
    """CPU seconds in ONNX Runtime, of all threads. One thread runs a model, so the thread's own clock has it all."""

    def __init__(self) -> None:
        self.seconds, self._lock = 0.0, threading.Lock()
        self._run = Session._plain_run

    def run(self, session: Session, *given: Any) -> Any:
        """Stand for Session._plain_run."""
        begun = time.thread_time()
        try:
            return self._run(session, *given)
        finally:
            with self._lock:
                self.seconds += time.thread_time() - begun


if __name__ == "__main__":
    facts, clock = Path(sys.argv.pop(1)), Clock()
    Session._plain_run = lambda session, *given: clock.run(session, *given)  # type: ignore[method-assign]
    try:
        main()
    finally:
        facts.write_text(json.dumps({"model_s": clock.seconds}))
