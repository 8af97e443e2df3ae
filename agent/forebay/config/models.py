"""Configuration section `models:` and the step `infer`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from forebay.config.base import ConfigPath, Duration, Options


class ModelsOptions(Options):
    """Where model bundles are and how they run."""

    dir: ConfigPath | None = None
    """Folder of bundles of your own, looked in before those that come with Forebay."""
    providers: Annotated[list[str], Field(min_length=1)] = Field(
        default_factory=lambda: ["CPUExecutionProvider"]
    )
    """ONNX Runtime execution providers, best first. One that is not there is said aloud and passed over."""
    threads: Annotated[int, Field(ge=1, le=64)] = 1
    """Threads within one run of a model."""
    verify: bool = True
    """Run each bundle's golden input at load and compare. The sha256 of every file is checked in any case."""
    time_limit: Duration = 30_000_000_000
    """Of one run of a model, 0 for none. What is not done by then goes on without a result and is counted; after
    three in a row the model rests for a minute."""
    idle: Duration = 600_000_000_000
    """Masking's detectors that saw no picture for so long give their memory back; the next picture waits while they
    are loaded and verified again. 0 keeps them."""
    trust: list[ConfigPath] = Field(default_factory=list)
    """Public key files of those whose signed bundles may be loaded."""
    require_signature: bool = False
    """Refuse a bundle that none of `trust` signed. Bundles that come with Forebay are trusted by being shipped."""

    @model_validator(mode="after")
    def _says_what_trust_means(self) -> Self:
        if self.trust and "require_signature" not in self.model_fields_set:
            raise ValueError(
                "`trust` names keys: say `require_signature: true` to refuse what they did not sign, or `false`"
            )
        return self


class PromoteOptions(Options):
    """When a candidate takes the place of the model in use. Beyond a bound it is set aside instead."""

    after: Duration
    """How long it must have run in the shadow while rows came; kept over restarts."""
    min_rows: Annotated[int, Field(ge=100, le=1_000_000_000)] = 1000
    """Rows of which both gave a score, at least; of detections: boxes that the model in use found meanwhile."""
    max_psi: Annotated[float, Field(gt=0, le=10)] = 0.2
    """Population stability index of the scores against those of the model in use; 0.1 is little, 0.25 much."""
    max_error_rate: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Share of rows (of detections: of pictures) on which it failed or was too slow."""
    max_latency_ratio: Annotated[float, Field(gt=0, le=1000)] = 2.0
    """Its time over that of the model in use, on the same rows."""
    probation: Duration | None = None
    """How long, after it took over, the model before it runs on beside it under the same bounds; beyond one, or
    when it fails three times in a row, that one serves again. As long as `after` if not given; `0` is none."""
    min_agreement: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Share of all boxes that the other model found too, overlapping by half and with the same label (with
    `field`). One that finds more than the model in use agrees less with it: look at the report first."""

    @property
    def probation_ns(self) -> int:
        """The probation, 0 for none."""
        return self.after if self.probation is None else self.probation


class InferOptions(Options):
    """Run a model on fields (`inputs`) or on an image field (`field`)."""

    model: Annotated[str, Field(min_length=1)]
    """Name of a bundle, or path of its folder relative to the configuration file."""
    isolated: bool = False
    """Run the model in a process of its own (about 60 MiB more), so that not even a crash in native code or an
    operator that never ends takes the agent with it."""
    shadow: str = ""
    """A candidate, `NAME@VERSION` or as `model`: it runs beside the model on the same rows or pictures, and its
    results go nowhere but into the report of `forebay models shadow`."""
    shadow_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the devices (the pipeline's `key`) that the candidate sees; with `field`, of the pictures."""
    promote: PromoteOptions | None = None
    """Let the candidate take over by itself, or be set aside by itself; otherwise it is only reported."""
    inputs: list[str] = Field(default_factory=list)
    """Numeric fields: those that an anomaly or forecast model watches together, or the one whose waveform a
    classification model labels."""
    field: str = ""
    """Field of encoded images in which a detection model looks."""
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Least score of a detection; the manifest's where it is not given."""
    output: str = ""
    """Name of the score's field (`anomaly`; of a forecast `surprise`), of the label's field (`label`, beside it
    `label_score`), or of the detections' stream (`{stream}_detections`)."""
    calibration: Annotated[int, Field(ge=32, le=1_000_000)] = 256
    """Readings of a series, after its window is full, from which the model learns before it gives a score."""
    memory: Annotated[int, Field(ge=64, le=1_000_000)] = 2000
    """Readings after which a series' past counts less and less, so that seasons are followed."""
    max_keys: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Devices with a state of their own; readings of further ones get no score and are counted."""
    every: Duration = 0
    """Look at most once in this time of the images' own stamps, per device; 0 is every image."""
    classes: list[str] = Field(default_factory=list)
    """Labels to keep; empty keeps all that the model knows."""
    tiles: Annotated[int, Field(ge=1, le=4)] = 1
    """Look also at N x N overlapping tiles, for small objects; costs N x N times more."""
    on_load: Literal["keep", "drop"] = "keep"
    """`drop`: images that came, by their own stamps, while the model was busy with those before are dropped and
    counted as filtered, so that a live camera is never far behind: the newest image wins. `keep`: none are, and
    the source waits."""
    read: bool = False
    """Read what stands in each box (a plate's number) into the field `text` of the detections. Where all that the
    model finds are plates, the field is of class `plate`, and masked as such. Needs the extra `ocr`."""
    resolution: Annotated[float, Field(gt=0, le=2)] | None = None
    """Model pixels per frame pixel of models of variable input size (`faces`: 0.8 finds faces of 24 pixels);
    less is faster and misses small objects."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if bool(self.inputs) == bool(self.field):
            raise ValueError("give either `inputs` (numeric fields) or `field` (an image field)")
        vision = {"threshold", "every", "classes", "tiles", "resolution", "on_load", "read"}
        series = {"calibration", "memory", "max_keys"}
        wrong = sorted(self.model_fields_set & (vision if self.inputs else series))
        if wrong:
            other, here = ("field", "inputs") if self.inputs else ("inputs", "field")
            hint = "; alarm on the score with an `alarm` step" if "threshold" in wrong else ""
            raise ValueError(f"`{wrong[0]}` goes with `{other}`, not with `{here}`{hint}")
        if not self.shadow and self.model_fields_set & {"shadow_share", "promote"}:
            raise ValueError("`shadow_share` and `promote` are about a candidate: name it with `shadow`")
        if self.inputs and self.promote and "min_agreement" in self.promote.model_fields_set:
            raise ValueError(
                "`promote.min_agreement` is about boxes: it goes with `field`, not with `inputs`"
            )
        if len(set(self.inputs)) != len(self.inputs):
            raise ValueError("`inputs` names a field twice")
        return self

    def models(self) -> tuple[str, ...]:
        """Return the models named: the one in use and, if there is one, its candidate."""
        return (self.model, self.shadow) if self.shadow else (self.model,)


STEP_OPTIONS: dict[str, type[Options]] = {"infer": InferOptions}
