"""Options of the preprocessing steps: what is refused, and with what words."""

from typing import Any

import pytest
from pydantic import ValidationError

from forebay.config.preprocess import STEP_OPTIONS


@pytest.mark.parametrize(
    ("step", "options", "says"),
    [
        ("validate", {"field": "t"}, "at least one of"),
        ("validate", {"range": [5, 5]}, "lowest < highest"),
        ("validate", {"range": [5]}, "range"),
        ("validate", {"max_rate": "5"}, "rate such as"),
        ("validate", {"max_rate": "0/s"}, "above 0"),
        ("validate", {"stuck": "0s"}, "longer than 0s"),
        ("validate", {"required": True}, "which field"),
        ("validate", {"field": "t", "fields": ["u"], "range": [0, 1]}, "not both"),
        ("validate", {"fields": ["u", "U"], "range": [0, 1]}, "named twice"),
        ("validate", {"field": "", "range": [0, 1]}, "at least 1 character"),
        ("validate", {"rnage": [0, 1]}, "Extra inputs"),
        ("validate", {"range": [0, float("nan")]}, "finite"),
        ("scale", {}, "give either"),
        ("scale", {"factor": 2, "raw": [0, 1], "to": [0, 1]}, "give either"),
        ("scale", {"raw": [0, 1]}, "belong together"),
        ("scale", {"raw": [1, 1], "to": [0, 1]}, "must differ"),
        ("scale", {"factor": 0}, "must not be 0"),
        ("deadband", {"max_silence": "1s"}, "`absolute` and/or `relative`"),
        ("deadband", {"absolute": -1}, "greater than or equal to 0"),
        ("deadband", {"relative": 0.02}, "such as `2%`"),
        ("deadband", {"absolute": 1, "max_silence": "0s"}, "longer than 0s"),
        ("hampel", {"window": 6}, "odd"),
        ("hampel", {"window": 1}, "greater than or equal to 3"),
        ("hampel", {"sigmas": 0}, "greater than 0"),
        ("hampel", {"action": "drop"}, "mark"),
        ("window", {}, "either `size`"),
        ("window", {"size": 4, "every": "1s"}, "either `size`"),
        ("window", {"size": 4, "slide": 5}, "from 1 to `size`"),
        ("window", {"size": 4, "slide": "5s"}, "number of rows"),
        ("window", {"every": "0s"}, "longer than 0s"),
        ("window", {"every": "10s", "slide": "3s"}, "must divide `every`, which is 10s"),
        ("window", {"every": "10s", "slide": 3}, "a duration with its unit"),
        ("window", {"every": "1d", "slide": "1s"}, "at most 1000 times"),
        ("window", {"size": 4, "stats": ["kurtos"]}, "did you mean `kurtosis`"),
        ("window", {"size": 4, "stats": ["p101"]}, "no statistic"),
        ("window", {"size": 4, "stats": ["mean", "mean"]}, "named twice"),
        ("window", {"size": 4, "stats": []}, "at least 1"),
        ("window", {"size": 4, "stats": ["zero_crosings"]}, "did you mean `zero_crossings`"),
        ("window", {"size": 64, "rate": 25600}, "such as `50Hz`"),
        ("window", {"size": 64, "rate": "0Hz"}, "above 0Hz"),
        ("window", {"size": 64, "bands": [["1kHz", "10Hz"]]}, "lowest < highest"),
        ("window", {"size": 64, "bands": [["1Hz", "2Hz"], ["1Hz", "2000mHz"]]}, "named twice"),
        (
            "window",
            {"size": 64, "rate": "1kHz", "bands": [["10Hz", "501Hz"]]},
            "501Hz is beyond half of `rate`",
        ),
        ("window", {"size": 64, "rate": "1kHz", "envelope": {"band": ["1Hz", "1kHz"]}}, "beyond half"),
        ("window", {"size": 64, "tones": ["50Hz", "0.05kHz"]}, "must differ"),
        ("window", {"size": 64, "tones": ["0Hz"]}, "above 0Hz"),
        ("window", {"size": 64, "envelope": {"band": ["5Hz", "5Hz"]}}, "lowest < highest"),
        ("window", {"size": 64, "envelope": {"band": ["1Hz", "5Hz"], "tones": [0]}}, "above 0Hz"),
        ("window", {"size": 64, "hysteresis": -1}, "greater than or equal to 0"),
        ("window", {"size": 64, "zero": "median"}, "mean"),
        ("smooth", {"tau": "0s"}, "longer than 0s"),
        ("smooth", {}, "Field required"),
        ("gaps", {"every": "0s"}, "longer than 0s"),
        ("gaps", {"every": "1s", "factor": 0.5}, "greater than or equal to 1"),
        ("gaps", {"every": "1s", "fill": 0}, "would not show"),
        ("gaps", {"every": "1s", "fill": 101}, "less than or equal to 100"),
        ("resample", {"every": "0s"}, "longer than 0s"),
        ("resample", {"every": "1s", "max_gap": "10ms"}, "from 1 to 1000 times"),
        ("resample", {"every": "1s", "max_gap": "1d"}, "from 1 to 1000 times"),
        ("resample", {"every": "1s", "method": "mean", "max_gap": "2s"}, "for `linear` and `last`"),
        ("alarm", {"when": "t >"}, "column 4"),
        ("alarm", {"when": "t > 3", "clear": "t = 3"}, "write `==`"),
        ("alarm", {"when": "t > 3", "lane": "fast"}, "urgent"),
        ("select", {"fields": []}, "at least 1"),
        ("rename", {"fields": {"a": "x", "b": "X"}}, "same name"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(step: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        STEP_OPTIONS[step].model_validate(options)
    assert says in str(caught.value)


def test_the_designs_example_is_understood() -> None:
    validate = STEP_OPTIONS["validate"].model_validate(
        {"field": "temperature", "range": [-40, 150], "max_rate": "5/s", "stuck": "10min"}
    )
    assert validate.model_dump(exclude_unset=True) == {
        "field": "temperature", "range": (-40.0, 150.0), "max_rate": "5/s", "stuck": "10m",
    }  # fmt: skip
    STEP_OPTIONS["deadband"].model_validate(
        {"field": "temperature", "absolute": 0.1, "relative": "1 %", "max_silence": "60s"}
    )
    STEP_OPTIONS["alarm"].model_validate({"when": "anomaly > 0.9 for 5s", "lane": "urgent"})


@pytest.mark.parametrize("step", STEP_OPTIONS)
def test_every_option_is_described_in_the_schema(step: str) -> None:
    schema = STEP_OPTIONS[step].model_json_schema()
    assert schema["description"]
    for name, option in schema["properties"].items():
        assert option.get("description"), name


def test_waveform_options_survive_being_written_and_read() -> None:
    options = {
        "size": 64, "rate": "25.6kHz", "bands": [[0, "0.5Hz"], ["1kHz", "12.8kHz"]], "tones": ["24.7Hz"],
        "envelope": {"band": ["2kHz", "10kHz"], "tones": ["97.31Hz"]}, "zero": "mean",
    }  # fmt: skip
    given = STEP_OPTIONS["window"].model_validate(options)
    assert given.model_dump(exclude_unset=True)["bands"] == (("0Hz", "0.5Hz"), ("1000Hz", "12800Hz"))
    assert STEP_OPTIONS["window"].model_validate(given.model_dump(exclude_unset=True)) == given


def test_options_survive_being_written_and_read() -> None:
    given = STEP_OPTIONS["window"].model_validate({"every": "10s", "slide": "5s", "stats": ["p99.9", "mean"]})
    assert STEP_OPTIONS["window"].model_validate(given.model_dump(exclude_unset=True)) == given
