"""Write a bundle's golden.npz and the sha256 of its files into manifest.yaml.

    python models/seal.py models/faces [--golden]

With --golden the output that the model gives now becomes the expected one: look at it first.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import yaml

KEPT = 256  # values of an output that are kept


def golden(folder: Path, manifest: dict[str, Any]) -> None:
    """Run a seeded input made of flat patches (it packs well) and keep some of the outputs' values."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for tensor in manifest["inputs"]:
        shape = [d if isinstance(d, int) else {"n": 1}.get(d, 96) for d in tensor["shape"]]
        if manifest["task"] in ("anomaly", "forecast", "classification"):
            value = rng.normal(0, 2, (8, shape[1]))
        else:
            low, high = (-1.0, 1.0) if shape[-1] == 3 else (0.0, 255.0)
            patches = rng.uniform(low, high, [s if s <= 3 else -(-s // 16) for s in shape])
            for axis, s in enumerate(shape):
                if s > 3:
                    patches = np.repeat(patches, 16, axis=axis).take(range(s), axis=axis)
            value = patches
        arrays[f"in/{tensor['name']}"] = value.astype(np.float32)
    session = ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    inputs = {k.removeprefix("in/"): v for k, v in arrays.items()}
    names = [t["name"] for t in manifest["outputs"]]
    for name, value in zip(names, session.run(names, inputs), strict=True):
        flat = value.reshape(-1)
        index = np.unique(np.linspace(0, len(flat) - 1, KEPT).astype(np.int64))
        arrays[f"out/{name}/index"], arrays[f"out/{name}/value"] = index, flat[index]
    np.savez_compressed(folder / "golden.npz", **arrays)


def main() -> None:
    """Seal one or more bundles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--golden", action="store_true")
    options = parser.parse_args()
    for folder in options.folders:
        path = folder / "manifest.yaml"
        text = path.read_text(encoding="utf-8")
        if options.golden:
            golden(folder, yaml.safe_load(text))
        names = sorted(p.name for p in folder.iterdir() if p.name not in ("manifest.yaml", "manifest.sig"))
        lines = [f"  {n}: {hashlib.sha256((folder / n).read_bytes()).hexdigest()}" for n in names]
        text = re.sub(r"(?m)^files:.*\n(?:  .*\n)*", "files:\n" + "\n".join(lines) + "\n", text)
        path.write_text(text, encoding="utf-8")
        print(f"{folder.name}: {len(names)} files")


if __name__ == "__main__":
    main()
