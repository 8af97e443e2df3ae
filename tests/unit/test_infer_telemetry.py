"""The model runtime must not phone home, nor write about this machine into the user's folder."""

from __future__ import annotations

import os
import subprocess
import sys

CODE = """
from forebay.infer.vision import load_detector
load_detector("faces-near")
"""


def test_loading_a_model_leaves_nothing_in_the_home(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ORT_", "CI", "GITHUB_", "XDG_"))}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    environment.pop("PYTEST_CURRENT_TEST", None)
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert [str(p) for p in tmp_path.rglob("*") if p.is_file()] == []
