"""`forebay infer` and `forebay models` end to end, in this process."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from forebay import shipped
from forebay.cli.infer import draw, infer_command
from forebay.cli.models import models_group
from forebay.cli.series_picture import HEIGHT, WIDTH, SeriesPicture
from forebay.infer.bundle import find
from forebay.infer.vision import Detection

DEMO = shipped.path("config") / "demo"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(infer_command, [str(a) for a in arguments])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """The first 4,000 rows of the recording, one value of one turbine made a fault."""
    with (DEMO / "la-haute-borne-2014-01-02.csv").open() as lines:
        rows = list(islice(csv.reader(lines), 4001))
    rows[3601][rows[0].index("temperature")] = "-273"
    path = tmp_path / "wind.csv"
    with path.open("w", newline="") as out:
        csv.writer(out).writerows(rows)
    return path


def test_a_table_gives_one_object_a_row_and_finds_the_fault(table: Path) -> None:
    result = run("sensor-anomaly", table, "--json", "--key", "turbine")
    assert result.exit_code == 0
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(rows) == 4000
    assert rows[0].keys() == {"row", "ts", "turbine", "anomaly", "model"}
    assert rows[0]["anomaly"] is None
    assert rows[3600]["anomaly"] > 0.9
    assert np.mean([(r["anomaly"] or 0) > 0.9 for r in rows]) < 0.05


def test_a_table_is_written_with_its_score_and_summed_up(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "scored.csv"
    result = run("sensor-anomaly", table, "--inputs", "temperature,power", "--key", "turbine", "-o", out)
    assert result.exit_code == 0
    assert "4000 rows" in result.stdout
    assert "on temperature, power" in result.stdout
    with out.open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 4000
    assert float(rows[3600]["anomaly"]) > 0.9
    assert rows[0]["anomaly"] == ""


def test_a_table_is_drawn_with_its_anomalies_marked(table: Path, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    out = tmp_path / "series.png"
    result = run("sensor-anomaly", table, "--inputs", "temperature,power", "--key", "turbine", "-o", out)
    assert result.exit_code == 0
    picture = cv2.imread(str(out))
    assert picture.shape == (4 * 2 * HEIGHT, WIDTH, 3), "four turbines, two fields each"
    marked = (picture == (180, 180, 255)).all(axis=2).any(axis=1)
    assert marked.any()
    assert ((picture == (120, 80, 30)).all(axis=2).any(axis=0)).mean() > 0.9, "the line goes all the way"
    assert (
        run("sensor-anomaly", table, "--inputs", "power", "-o", tmp_path / "no" / "series.png").exit_code == 1
    )


def test_devices_beyond_what_can_be_looked_at_are_named_and_odd_series_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    picture = SeriesPicture(["a"], 0.9)
    assert picture.draw().shape == (HEIGHT, WIDTH, 3)
    for device in range(20):
        picture.add(f"d{device}", [None if device == 1 else 5.0], 1.0 if device == 2 else None)
    assert len(picture.left_out) == 4
    drawn = picture.draw()
    assert drawn.shape == (16 * HEIGHT, WIDTH, 3)
    marked = (drawn == (180, 180, 255)).all(axis=2).any(axis=1).nonzero()[0]
    assert set((marked // HEIGHT).tolist()) == {2}


def test_broken_rows_are_named_and_left_out(table: Path) -> None:
    lines = table.read_text().splitlines()
    lines[10] = "2014-01-01,too,short"
    lines[20] = lines[20] + ",one more"
    lines[30] = lines[30].replace("R80", "\x00R80")
    table.write_text("\n".join(lines))
    result = run("sensor-anomaly", table, "--inputs", "power", "--json")
    assert result.exit_code == 0
    assert f"{table}:11: expected 9 cells" in result.stderr
    assert len(result.stdout.splitlines()) == 3998


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--inputs", "nope"), "no column `nope`"),
        (("--key", "nope"), "no column `nope`"),
    ],
)
def test_an_unknown_column_is_an_error_with_the_known_ones(
    table: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = run("sensor-anomaly", table, *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "wind_speed" in result.stderr


def test_cells_without_a_number_are_missing_readings_and_their_columns_are_still_numbers(table: Path) -> None:
    with table.open() as lines:
        rows = list(csv.DictReader(lines))
    for n, row in enumerate(rows):
        row["power"] = ("NaN", "", "null", "nan", row["power"])[n % 5] if n % 40 < 5 else row["power"]
    with table.open("w", newline="") as out:
        writer = csv.DictWriter(out, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    result = run("sensor-anomaly", table, "--key", "turbine", "--json")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 4000
    assert "power" in run("sensor-anomaly", table, "--key", "turbine").stdout.splitlines()[-1]


def test_a_forecast_gives_residuals_and_how_surprising_they_are(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "residuals.csv"
    result = run("energy-forecast", table, "--inputs", "power", "--key", "turbine", "--json", "-o", out)
    assert result.exit_code == 0
    last = json.loads(result.stdout.splitlines()[-1])
    assert last.keys() == {"row", "ts", "turbine", "power_residual", "surprise", "model"}
    assert 0 <= last["surprise"] <= 1
    with out.open() as lines:
        rows = list(csv.DictReader(lines))
    assert float(rows[-1]["power_residual"]) == last["power_residual"]
    assert "with surprise >= 0.9" in run("energy-forecast", table, "--inputs", "power").stdout


@pytest.fixture
def vibration(tmp_path: Path) -> Path:
    """Three windows and a half of white noise at 12 kHz."""
    path = tmp_path / "bearing.csv"
    noise = np.random.default_rng(0).normal(size=14_336)
    with path.open("w") as out:
        out.write("ts,acceleration\n")
        out.writelines(f"{i / 12_000:.9f},{v:.4f}\n" for i, v in enumerate(noise))
    return path


def test_a_classification_gives_a_label_at_the_end_of_each_window(vibration: Path) -> None:
    result = run("bearing-faults", vibration, "--json")
    assert result.exit_code == 0
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    labelled = {r["row"]: r["label"] for r in rows if r["label"] is not None}
    assert list(labelled) == [4096, 8192, 12_288]
    assert set(labelled.values()) <= {"normal", "outer_race", "inner_race", "ball", "unsure"}
    assert all(0 < r["label_score"] <= 1 for r in rows if r["label"] is not None)
    told = run("bearing-faults", vibration).stdout.splitlines()
    assert len(told) == 4
    assert "14336 rows, 3 with a label" in told[-1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--calibration", "64"), "means nothing to a model of task classification"),
        (("--threshold", "0.5"), "has labels, no score"),
        (("-o", "series.png"), "has labels, no score"),
    ],
)
def test_what_does_not_go_with_labels_is_a_named_error(
    vibration: Path, more: tuple[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(vibration.parent)
    result = run("bearing-faults", vibration, *more)
    assert result.exit_code == 1
    assert message in result.stderr


def test_a_table_is_not_written_into_a_video(table: Path, tmp_path: Path) -> None:
    result = run("sensor-anomaly", table, "-o", tmp_path / "series.mp4")
    assert result.exit_code == 2
    assert "drawn as .png or .jpg" in result.stderr
    assert not (tmp_path / "series.mp4").exists()


def test_a_folder_given_without_a_separator_is_told_how(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(find("sensor-anomaly"), "mine")
    assert "for the folder say ./mine" in run("mine", table).stderr
    assert run("./mine", table).exit_code == 0


def test_the_input_is_never_overwritten(table: Path) -> None:
    before = table.read_bytes()
    result = run("sensor-anomaly", table, "-o", table)
    assert result.exit_code == 1
    assert "would be overwritten" in result.stderr
    assert table.read_bytes() == before


@pytest.mark.parametrize("name", ["series.csv", "series.png", "drawn.png", "drawn.avi"])
def test_an_output_in_a_folder_that_is_not_there_is_a_named_error(
    table: Path, tmp_path: Path, name: str
) -> None:
    source = table if name.startswith("series") else tmp_path / f"given{Path(name).suffix}"
    source.touch()
    out = tmp_path / "nowhere" / name
    result = run("sensor-anomaly" if source == table else "faces", source, "-o", out)
    assert (result.exit_code, result.stderr) == (1, f"error: {out}: cannot be written: no such folder\n")


def test_a_model_that_fails_on_rows_is_a_failure(table: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(find("sensor-anomaly"), tmp_path / "failing"))
    graph = (Path(__file__).parents[1] / "data" / "models" / "stuck_fails.onnx").read_bytes()
    (bundle / "model.onnx").write_bytes(graph)
    manifest = yaml.safe_load((bundle / "manifest.yaml").read_text())
    manifest["files"]["model.onnx"] = hashlib.sha256(graph).hexdigest()
    (bundle / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    rows = [f"{i},{i % 7 if i < 600 else 3}" for i in range(700)]
    table.write_text("\n".join(["ts,level", *rows]))
    result = run(bundle, table, "--json")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 700, "every row is there"
    assert "the model failed on" in result.stderr


def test_an_image_gives_boxes_as_json_and_a_drawn_picture(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    out = tmp_path / "drawn.png"
    result = run("faces", DEMO / "photos" / "astronaut.jpg", "--json", "-o", out)
    assert result.exit_code == 0
    (line,) = result.stdout.splitlines()
    found = json.loads(line)
    assert found.keys() == {"label", "score", "box"}
    assert found["label"] == "face"
    x1, y1, x2, y2 = found["box"]
    drawn, plain = cv2.imread(str(out)), cv2.imread(str(DEMO / "photos" / "astronaut.jpg"))
    changed = (drawn != plain).any(axis=2)
    assert changed[round(y2), round(x1) + 5 : round(x2) - 5].all()  # the lower edge
    assert not changed[round(y1) + 20 : round(y2) - 20, round(x1) + 20 : round(x2) - 20].any()


@pytest.mark.parametrize("box", [(140.0, 40.0, 158.0, 80.0), (0.0, 0.0, 9.0, 9.0), (2.0, 95.0, 8.0, 99.0)])
def test_the_label_of_a_box_at_the_edge_stands_in_the_picture(box: tuple[float, float, float, float]) -> None:
    pytest.importorskip("cv2")
    edge, middle = (
        draw(np.zeros((100, 160, 3), np.uint8), [Detection("Person", 0.5, where)])
        for where in (box, (20.0, 40.0, 60.0, 80.0))
    )
    # older OpenCV leaves no pixel of a smoothed line quite white
    white = [int((drawn.min(axis=2) > 150).sum()) for drawn in (edge, middle)]
    assert white[0] == white[1] > 0, "as many pixels of its letters as in the middle"


def test_a_video_gives_its_frame_numbers(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    path, out = tmp_path / "in.avi", tmp_path / "out.avi"
    frame = cv2.imread(str(DEMO / "photos" / "astronaut.jpg"))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, (512, 512))
    for picture in (frame, np.zeros_like(frame), frame):
        writer.write(picture)
    writer.release()
    result = run("faces-near", path, "--json", "-o", out)
    assert result.exit_code == 0
    assert [json.loads(line)["frame"] for line in result.stdout.splitlines()] == [0, 2]
    assert out.stat().st_size > 1000


def test_a_video_that_ends_early_is_a_named_error_and_no_drawn_video_is_left(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    path, out = tmp_path / "in.avi", tmp_path / "out.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 64))
    for number in range(30):
        writer.write(np.random.default_rng(number).integers(0, 255, (64, 64, 3), np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = run("faces-near", path, "-o", out, "--progress")
    assert result.exit_code == 1
    assert f"{path}: the video ends after" in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["in.avi"]


@pytest.mark.parametrize(
    ("name", "data"), [("x.jpg", b"noise"), ("x.mp4", b"noise"), ("x.csv", b""), ("y.csv", b"a,a\n1,2")]
)
def test_a_broken_input_is_a_named_error(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    result = run("faces-near" if not name.endswith("csv") else "sensor-anomaly", path)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert str(path) in result.stderr


def test_an_unknown_model_names_the_known_ones() -> None:
    result = run("facs", DEMO / "photos" / "astronaut.jpg")
    assert result.exit_code == 1
    assert (
        "known bundles: bearing-faults, energy-forecast, faces, faces-near, plates-cn, sensor-anomaly, "
        "street-objects, text-lines" in result.stderr
    )


def test_models_list_names_all_that_are_shipped() -> None:
    result = CliRunner().invoke(models_group, ["list", "--json"])
    assert result.exit_code == 0
    facts = [json.loads(line) for line in result.stdout.splitlines()]
    assert [f["name"] for f in facts] == [
        "bearing-faults",
        "energy-forecast",
        "faces",
        "faces-near",
        "plates-cn",
        "sensor-anomaly",
        "street-objects",
        "text-lines",
    ]
    assert {f["licence"] for f in facts} == {"MIT", "Apache-2.0"}


def test_models_verify_tells_good_from_tampered(tmp_path: Path) -> None:
    assert CliRunner().invoke(models_group, ["verify"]).exit_code == 0
    copy = shutil.copytree(find("faces-near"), tmp_path / "faces-near")
    with (Path(copy) / "model.onnx").open("ab") as model:
        model.write(b"\0")
    result = CliRunner().invoke(models_group, ["verify", "faces-near", "--dir", str(tmp_path), "--json"])
    assert result.exit_code == 1
    facts = json.loads(result.stdout)
    assert facts["ok"] is False
    assert "expected sha256" in facts["error"]
