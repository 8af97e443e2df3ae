"""Compiles what the agent imports, once at set-up: uv installs sources only, and where
PYTHONDONTWRITEBYTECODE is set each start would compile them again (half of its CPU time).
"""

import compileall
import importlib
import pkgutil
from pathlib import Path

import forebay
import forebay_core

LATE = ("onnxruntime", "paho.mqtt.client", "pymodbus.client", "sqlite_utils", "cv2")  # imported on use

for package in (forebay, forebay_core):
    compileall.compile_dir(Path(package.__path__[0]), quiet=1)
# importing writes the bytecode of exactly what is used of the libraries
modules = [m.name for m in pkgutil.walk_packages(forebay.__path__, "forebay.") if "__main__" not in m.name]
for name in (*modules, *LATE):
    importlib.import_module(name)
