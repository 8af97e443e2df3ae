"""The examples of docs/models.md are configurations that are taken, and its commands exist."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner

from forebay import shipped
from forebay.cli.app import cli
from forebay.config.models import InferOptions, ModelsOptions

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
EXAMPLES = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


def test_the_settings_of_the_page_are_taken() -> None:
    (section,) = (e["models"] for e in EXAMPLES if "models" in e)
    assert ModelsOptions.model_validate(section).require_signature


def test_the_manifest_of_the_page_is_sealed_as_it_stands(tmp_path: Path) -> None:
    (told,) = re.findall(r"```yaml\n(name: .*?)```", PAGE, re.DOTALL)
    made = shutil.copytree(shipped.path("models") / "sensor-anomaly", tmp_path / "pump-anomaly")
    (made / "golden.npz").unlink()
    (made / "manifest.yaml").write_text(told)
    result = CliRunner().invoke(cli, ["models", "seal", str(made), "--golden"])
    assert result.stdout.startswith("pump-anomaly@1.2.0#"), result.output
    assert "golden within 0" in result.stdout


def test_the_candidates_of_the_page_are_taken() -> None:
    (steps,) = (e["steps"] for e in EXAMPLES if "steps" in e)
    numbers, boxes = (InferOptions.model_validate(step["infer"]) for step in steps)
    assert numbers.promote is not None
    assert numbers.promote.min_rows == 10_000
    assert boxes.promote is not None
    assert boxes.promote.min_agreement == 0.8


def test_the_table_of_the_page_holds_the_numbers_that_were_measured() -> None:
    metrics = json.loads((shipped.path("models") / "sensor-anomaly" / "metrics.json").read_text())
    for name in ("sensor-anomaly, score", "z-score of the value", "z-score of the step"):
        row = " | ".join(f"{value:.3f}" for value in list(metrics[name].values())[1:])
        assert row in PAGE, name


def metrics_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shipped.path("models") / name / "metrics.json").read_text())
    return found


def card_of(name: str) -> str:
    return (shipped.path("models") / name / "CARD.md").read_text().replace("**", "")


def test_the_card_of_the_forecast_and_the_page_hold_the_numbers_that_were_measured() -> None:
    power, people, outdoor = (v for v in metrics_of("energy-forecast").values() if isinstance(v, dict))
    card, page = card_of("energy-forecast"), PAGE.replace("**", "")
    for method, told in (
        ("energy-forecast", "energy-forecast"),
        ("the last reading again", "the last reading again (persistence)"),
        ("mean of the last 6 readings", "mean of the last 6 readings"),
        ("linear regression on the same features", "linear regression on the same features"),
        ("energy-forecast, unseen series", "the turbine and the seven places that training never saw"),
        ("the last reading again, unseen series", "the last reading again, on those"),
    ):
        both = (f"{v[method]['MAE']:.2f} / {v[method]['RMSE']:.2f}" for v in (power, people, outdoor))
        assert f"{told} | {' | '.join(both)} |" in card
    for method in ("energy-forecast", "the last reading again", "linear regression on the same features"):
        errors = (f"{v[method]['MAE']:.2f}" for v in (power, people, outdoor))
        assert f"| {method} | {' | '.join(errors)} |" in page


def test_the_card_of_the_bearings_and_the_page_hold_the_numbers_that_were_measured() -> None:
    metrics, card = metrics_of("bearing-faults"), card_of("bearing-faults")
    for method, told in (
        ("bearing-faults", "bearing-faults"),
        (
            "strongest envelope line at the nominal speed",
            "strongest envelope line at the nominal speed, threshold fitted",
        ),
        (
            "rms, kurtosis, crest factor and logistic regression",
            "rms, kurtosis, crest factor and logistic regression",
        ),
    ):
        accuracy = f"{metrics[method]['accuracy']:.3f}"
        assert f"| {told} | {accuracy} | {metrics[method]['macro F1']:.3f} |" in card
        assert accuracy in PAGE
    for outside in metrics["outside of what it was trained on"].values():
        assert f"{outside['accuracy']:.3f}" in card


def test_the_card_of_the_anomalies_holds_the_numbers_that_were_measured() -> None:
    metrics, card = metrics_of("sensor-anomaly"), card_of("sensor-anomaly")
    rows = re.findall(r"^\| ([a-z][^|]+?) \| ([0-9. |]+) \|$", card, re.MULTILINE)
    assert len(rows) == 7
    measured = {" | ".join(f"{v:.3f}" for v in m.values() if isinstance(v, float)) for m in metrics.values()
                if isinstance(m, dict)}  # fmt: skip
    for name, numbers in rows:
        assert any(numbers in known for known in measured), name
