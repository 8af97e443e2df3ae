"""Bundles: what is verified, and what is refused."""

from __future__ import annotations

import hashlib
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from forebay import shipped
from forebay.errors import ModelError
from forebay.infer.bundle import check_golden, find, load, open_session, read_manifest
from forebay.infer.onnx_file import examine
from forebay.infer.session import Session, SessionOptions, SessionPool
from forebay.memory import release_free_heap, resident

SHIPPED = (
    "bearing-faults",
    "energy-forecast",
    "faces",
    "faces-near",
    "plates-cn",
    "sensor-anomaly",
    "street-objects",
    "text-lines",
)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the smallest bundle, to be damaged."""
    return Path(shutil.copytree(find("sensor-anomaly"), tmp_path / "copy"))


def reseal(folder: Path, **changes: object) -> None:
    """Write the hashes anew, as somebody who may change the manifest would."""
    manifest = yaml.safe_load((folder / "manifest.yaml").read_text())
    names = [p.name for p in folder.iterdir() if p.name != "manifest.yaml"]
    manifest["files"] = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in names}
    (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest | changes))


def field(number: int, payload: bytes) -> bytes:
    """Encode one length-delimited protobuf field."""
    length, out = len(payload), bytearray()
    while length > 127:
        out.append(length & 127 | 128)
        length >>= 7
    tag = number << 3 | 2
    head = bytes([tag]) if tag < 128 else bytes([tag & 127 | 128, tag >> 7])
    return head + bytes(out) + bytes([length]) + payload


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_bundle_verifies_and_gives_its_golden_output(name: str) -> None:
    loaded = load(find(name))
    session = open_session(loaded, SessionPool(), SessionOptions(), verify=False)
    assert check_golden(loaded, session) < 0.01
    assert loaded.manifest.name == name
    assert loaded.model == f"{name}@{loaded.manifest.version}#{loaded.sha256[:8]}"


def test_all_shipped_bundles_are_the_named_ones_and_no_package() -> None:
    folder = shipped.path("models")
    assert sorted(p.parent.name for p in folder.glob("*/manifest.yaml")) == sorted(SHIPPED)
    assert not list(folder.rglob("__init__.py"))


@pytest.mark.parametrize("name", ["model.onnx", "CARD.md", "LICENCE", "golden.npz"])
def test_a_changed_byte_in_any_file_is_refused(bundle: Path, name: str) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(ModelError, match=r"expected sha256 \w+\.\.\., found \w+") as caught:
        load(bundle)
    assert caught.value.place.endswith(name)
    assert caught.value.hint


def test_a_file_that_is_not_listed_is_refused(bundle: Path) -> None:
    (bundle / "weights.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match="does not list"):
        load(bundle)


def test_a_listed_file_that_is_missing_is_refused(bundle: Path) -> None:
    (bundle / "CARD.md").unlink()
    with pytest.raises(ModelError, match="missing"):
        load(bundle)


def test_a_link_is_refused_even_to_the_right_bytes(bundle: Path, tmp_path: Path) -> None:
    shutil.move(bundle / "model.onnx", tmp_path / "elsewhere.onnx")
    (bundle / "model.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(ModelError, match="found a link"):
        load(bundle)


@pytest.mark.parametrize("place", ["initializer", "attribute", "subgraph", "function"])
def test_external_data_is_refused_wherever_it_hides(bundle: Path, place: str) -> None:
    tensor = field(8, b"w") + field(13, field(1, b"location") + field(2, b"../../etc/passwd"))
    graph = field(5, tensor)
    node = field(5, field(5, tensor))
    extra = {
        "initializer": field(7, graph),
        "attribute": field(7, field(1, node)),
        "subgraph": field(7, field(1, field(5, field(6, graph)))),
        "function": field(25, field(7, node)),
    }[place]
    model = bundle / "model.onnx"
    model.write_bytes(model.read_bytes() + extra)
    reseal(bundle)
    with pytest.raises(ModelError, match="another file, which no hash covers"):
        load(bundle)


def test_data_location_external_alone_is_seen() -> None:
    assert examine(field(7, field(5, bytes([14 << 3, 1])))).external
    assert not examine(field(7, field(5, bytes([14 << 3, 0])))).external


@pytest.mark.parametrize("data", [b"\xff" * 40, b"not a model at all", field(7, b"x" * 9)[:-3], b"\x0b\x0c"])
def test_what_is_no_protobuf_is_named_so(bundle: Path, data: bytes) -> None:
    (bundle / "model.onnx").write_bytes(data)
    reseal(bundle)
    with pytest.raises(ModelError, match=r"not an ONNX file|expected opset"):
        load(bundle)


def test_deep_nesting_ends_in_an_error_not_in_recursion() -> None:
    data = field(5, b"")
    for _ in range(200):
        data = field(1, field(5, field(6, data)))
    with pytest.raises(ValueError, match="nested too deeply"):
        examine(field(7, data))


def test_another_opset_than_stated_is_refused(bundle: Path) -> None:
    reseal(bundle, opset=12)
    with pytest.raises(ModelError, match="expected opset 12, found 17"):
        load(bundle)


def test_a_graph_with_other_inputs_than_stated_is_refused(bundle: Path) -> None:
    inputs = [{"name": "window", "shape": ["n", 30]}]
    reseal(bundle, inputs=inputs)
    with pytest.raises(
        ModelError, match=r"input `window`: expected float32\['n', 30\], found tensor\(float\)"
    ):
        open_session(load(bundle), SessionPool(), SessionOptions())
    reseal(bundle, inputs=[{"name": "nothing", "shape": [1]}])
    with pytest.raises(ModelError, match="no input `nothing`"):
        open_session(load(bundle), SessionPool(), SessionOptions())


def test_a_graph_that_the_runtime_cannot_load_is_a_model_error(bundle: Path) -> None:
    opset = field(8, field(1, b"") + bytes([2 << 3, 17]))
    (bundle / "model.onnx").write_bytes(opset + field(7, field(2, b"empty")))
    reseal(bundle)
    with pytest.raises(ModelError, match="cannot load the graph"):
        open_session(load(bundle), SessionPool(), SessionOptions())


def test_another_golden_output_is_refused_unless_checking_is_off(bundle: Path) -> None:
    with np.load(bundle / "golden.npz") as stored:
        arrays = {k: stored[k] for k in stored.files}
    arrays["out/error/value"] = arrays["out/error/value"] + 0.1
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    (bundle / "golden.npz").write_bytes(buffer.getvalue())
    reseal(bundle)
    with pytest.raises(ModelError, match="differs from its golden value"):
        open_session(load(bundle), SessionPool(), SessionOptions())
    open_session(load(bundle), SessionPool(), SessionOptions(), verify=False)


def test_a_golden_file_with_pickles_or_noise_is_refused(bundle: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **{"in/window": np.array([{}], dtype=object)})
    for data in (buffer.getvalue(), b"noise"):
        (bundle / "golden.npz").write_bytes(data)
        reseal(bundle)
        with pytest.raises(ModelError, match="not a readable"):
            open_session(load(bundle), SessionPool(), SessionOptions())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "poetry"}, "task"),
        ({"surprise": 1}, "surprise"),
        ({"version": "one"}, "version"),
        ({"decoder": "ssd"}, "do not go with task"),
        ({"preprocessing": {"kind": "series-window", "window": 0}}, "window"),
    ],
)
def test_a_wrong_manifest_names_the_key(bundle: Path, change: dict[str, object], message: str) -> None:
    reseal(bundle, **change)
    with pytest.raises(ModelError, match=message):
        read_manifest(bundle)


def test_broken_yaml_names_line_and_column(bundle: Path) -> None:
    (bundle / "manifest.yaml").write_text("name: [a\nversion: }")
    with pytest.raises(ModelError, match="not valid YAML") as caught:
        read_manifest(bundle)
    assert caught.value.place.endswith(":2:8")


def test_the_own_folder_comes_before_the_shipped_one_and_paths_are_relative_to_the_base(
    tmp_path: Path,
) -> None:
    own = shutil.copytree(find("sensor-anomaly"), tmp_path / "own" / "sensor-anomaly")
    assert find("sensor-anomaly", bundles_dir=tmp_path / "own") == Path(own)
    assert find("./own/sensor-anomaly", base=tmp_path).resolve() == Path(own)
    with pytest.raises(ModelError, match="no bundle `face`") as caught:
        find("face")
    assert "faces-near" in caught.value.hint


def test_one_session_is_shared_by_content_and_options() -> None:
    pool, loaded = SessionPool(), load(find("sensor-anomaly"))
    first = open_session(loaded, pool, SessionOptions())
    assert open_session(loaded, pool, SessionOptions(), verify=False) is first
    assert open_session(loaded, pool, SessionOptions(threads=2), verify=False) is not first


def test_a_wrong_input_is_a_model_error_without_its_values() -> None:
    loaded = load(find("sensor-anomaly"))
    session = Session(loaded.files["model.onnx"], SessionOptions(), place="here")
    with pytest.raises(ModelError, match=r"failed on window float64\[2, 26\]") as caught:
        session.run({"window": np.full((2, 26), 4711.0)}, ("error",))
    assert "4711" not in str(caught.value)


# y = w[int(x)], float32 [n], three zeros in w, opset 17
_LOOKUP = bytes.fromhex(
    "080812003a6a0a170a01781201692204436173742a090a02746f1807a001020a110a01770a016912017922064761746865721201672a"
    "15080310014201774a0c0000000000000000000000005a100a0178120b0a09080112050a0312016e62100a0179120b0a09080112050a"
    "0312016e42040a001011"
)


@pytest.mark.parametrize("limit_ns", [0, 60_000_000_000])
def test_the_runtime_itself_prints_nothing_of_a_run_that_fails(
    limit_ns: int, capfd: pytest.CaptureFixture[str]
) -> None:
    session = Session(_LOOKUP, SessionOptions(limit_ns=limit_ns), place="here")
    session.run({"x": np.ones(1, np.float32)}, ("y",))
    with pytest.raises(ModelError, match="failed on x"):
        session.run({"x": np.full(1, 471147, np.float32)}, ("y",))  # "idx=471147 must be within ..."
    assert capfd.readouterr() == ("", "")


def test_why_the_runtime_cannot_load_a_graph_is_said() -> None:
    with pytest.raises(
        ModelError, match=r"cannot load the graph: \w+: .*No Op registered for Wather"
    ) as caught:
        Session(_LOOKUP.replace(b"Gather", b"Wather"), SessionOptions(), place="here")
    assert "onnxruntime_src" not in str(caught.value)


def test_a_provider_that_is_not_there_is_said_aloud(caplog: pytest.LogCaptureFixture) -> None:
    loaded = load(find("sensor-anomaly"))
    session = open_session(loaded, SessionPool(), SessionOptions(("NoSuchProvider",)))
    assert session.providers == ("CPUExecutionProvider",)
    assert "NoSuchProvider is not available" in caplog.text


def test_a_detector_s_memory_is_given_back_after_runs_of_many_shapes() -> None:
    loaded = load(find("faces"))
    session = open_session(loaded, SessionPool(), SessionOptions(), verify=False)
    rng, after = np.random.default_rng(1), []
    for number in range(1, 161):
        height, width = (int(side) * 32 for side in rng.integers(1, 7, 2))
        session.run({"input.1": np.zeros((1, 3, height, width), np.float32)}, ("537",))
        if number % 80 == 0:
            release_free_heap()
            after.append(resident()[0])
    assert after[1] - after[0] < 4 << 20
