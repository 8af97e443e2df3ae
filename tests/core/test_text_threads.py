"""The first scans of a process may come from several threads at once: each pipeline has its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from forebay_core import IMPLEMENTATION

RACE = """
import sys, threading
import numpy as np
from forebay_core.text import scan
from forebay_core.text_tables import ALL_CLASSES, CLASSES
sys.setswitchinterval(1e-6)
text = "姓名：王建强，住址：广东省惠州市惠城区云山西路12号。".encode()
data, offsets = np.frombuffer(text, np.uint8), np.array([0, len(text)], np.int64)
gate, found = threading.Barrier(6), []
def first():
    gate.wait()
    found.append([CLASSES[code] for code in scan(data, offsets, ALL_CLASSES, 0)[1]])
threads = [threading.Thread(target=first) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert found == [["name", "address"]] * 6, found
"""

WITHOUT_TABLES = """
import sys
import numpy as np
from forebay_core import _text
from forebay_core.text_tables import ALL_CLASSES, CLASSES
def found(text):
    data, offsets = np.frombuffer(text.encode(), np.uint8), np.array([0, len(text.encode())], np.int64)
    return [CLASSES[code] for code in _text.scan(data, offsets, ALL_CLASSES, 0)[1]]
sys.modules["forebay_core.text_people"] = None  # they cannot be made
assert found("call 13812345678 today") == ["mobile"]
for _ in range(2):
    try:
        raise SystemExit(f"passed as {found('姓名：王建强')}")
    except ModuleNotFoundError:
        pass
del sys.modules["forebay_core.text_people"]
assert found("姓名：王建强") == ["name"]
"""


def run(code: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]


def test_first_scans_of_several_threads_neither_hang_nor_miss():
    for _ in range(3):
        run(RACE)


@pytest.mark.skipif(IMPLEMENTATION != "compiled", reason="the twin has its tables from the start")
def test_a_text_passes_no_scan_whose_tables_cannot_be_made():
    run(WITHOUT_TABLES)
