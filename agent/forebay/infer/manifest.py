"""The manifest of a model bundle: what it is, where it comes from, what goes in and what comes out."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from forebay.config.base import Options

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,100}$")]
BundleName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,60}$")]
Version = Annotated[str, StringConstraints(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")]
Triple = Annotated[list[float], Field(min_length=3, max_length=3)]

REQUIRED_FILES = ("model.onnx", "CARD.md", "LICENCE")


def version_key(version: str) -> tuple[int, ...]:
    """Return a version as numbers, for comparing."""
    return tuple(int(part) for part in re.findall(r"[0-9]+", version))


class Task(StrEnum):
    """What a model does."""

    ANOMALY = "anomaly"
    FORECAST = "forecast"
    CLASSIFICATION = "classification"
    DETECTION = "detection"


class Tensor(Options):
    """An input or output of the graph."""

    name: str
    """Name in the graph."""
    dtype: Literal["float32", "float64", "int64", "uint8"] = "float32"
    """Type of the elements."""
    shape: list[int | str]
    """Dimensions; a name stands for one that varies."""
    unit: str = ""
    """What a number means."""


class SeriesPreprocessing(Options):
    """Windows of one numeric series, normalised by what the series is used to (forebay_core.series)."""

    kind: Literal["series-window"]
    """Windows of the last differences and two levels."""
    window: Annotated[int, Field(ge=2, le=4096)]
    """Differences in a window."""


class WaveformPreprocessing(Options):
    """Consecutive readings of one field, as they are."""

    kind: Literal["waveform"]
    """One window after the other, without overlap."""
    window: Annotated[int, Field(ge=16, le=65536)]
    """Readings in a window."""
    rate_hz: Annotated[float, Field(gt=0)]
    """Readings a second that the model was trained on."""
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Relative difference of a window's rate beyond which it gives no label."""


class ImagePreprocessing(Options):
    """From a BGR frame to the model's input."""

    kind: Literal["image"]
    """A frame."""
    layout: Literal["nchw", "nhwc"]
    """Planes or pixels."""
    colour: Literal["bgr", "rgb"]
    """Order of the channels that the model wants."""
    fit: Literal["stretch", "letterbox", "scale"]
    """To a fixed size, stretched or with borders, or scaled to a size of the frame's own shape."""
    mean: Triple = Field(default_factory=lambda: [0.0, 0.0, 0.0])
    """Subtracted from each channel, in the order blue, green, red."""
    scale: Triple = Field(default_factory=lambda: [1.0, 1.0, 1.0])
    """Multiplied with each channel after that."""
    size: list[int] = Field(default_factory=list)
    """Height and width of the input (stretch, letterbox)."""
    multiple: Annotated[int, Field(ge=1)] = 1
    """Height and width must be multiples of this (scale)."""
    max_side: Annotated[int, Field(ge=32, le=4096)] = 1280
    """Longest side of one run (scale); larger frames are cut into tiles."""
    resolve: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Model pixels per frame pixel that the smallest wanted object needs (scale)."""
    min_side: Annotated[int, Field(ge=32, le=4096)] = 320
    """Frames with a shorter long side are enlarged to this (scale)."""
    overview: int = 0
    """Long side of a further run that finds objects too large for the fine one; 0: none (scale)."""
    pad: float = 0.0
    """What stands around the frame, as the model sees it, after `mean` and `scale` (letterbox, scale). YOLO
    models are trained with grey 114: 0.447 where `scale` is 1/255."""

    @model_validator(mode="after")
    def _size_fits(self) -> Self:
        if self.fit != "scale" and (len(self.size) != 2 or not all(1 <= s <= 4096 for s in self.size)):
            raise ValueError("`size` must be [height, width], each 1 to 4096")
        return self


class YoloDecoding(Options):
    """How a YOLO-style head is read (forebay.infer.yolo)."""

    type: Literal["yolo"]
    """Family of heads."""
    version: Literal["v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "x"]
    """Whose head; v10 also for any export with its own suppression (n x 6), x for YOLOX."""
    scores: Literal["probability", "logit"] = "probability"
    """Whether the graph ends with a sigmoid."""
    boxes: Literal["pixels", "share"] = "pixels"
    """Boxes in pixels of the input, or as shares of its width and height."""


class Thresholds(Options):
    """What counts."""

    score: Annotated[float, Field(ge=0, le=1)]
    """Least score."""
    iou: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Overlap above which the lesser of two boxes goes."""


class Golden(Options):
    """A recorded input and output that the model must reproduce at load."""

    file: FileName = "golden.npz"
    """Arrays `in/NAME`, `out/NAME/index` (flat places) and `out/NAME/value`."""
    absolute: Annotated[float, Field(gt=0)] = 1e-3
    """Largest absolute difference, added to the relative one."""
    relative: Annotated[float, Field(ge=0)] = 1e-3
    """Largest relative difference."""


# What goes with the tasks that look at numbers: preprocessing and decoder.
_OF_TASK = {
    Task.ANOMALY: ("series-window", "series-error"),
    Task.FORECAST: ("series-window", "series-forecast"),
    Task.CLASSIFICATION: ("waveform", "window-classes"),
}


class Manifest(Options):
    """`manifest.yaml` of a bundle."""

    name: BundleName
    """Name under which steps ask for it."""
    version: Version
    """Three numbers; higher is newer."""
    task: Task
    """What it does."""
    description: str
    """One sentence."""
    licence: str
    """SPDX identifier of the weights' licence."""
    origin: str
    """Where the weights come from."""
    opset: Annotated[int, Field(ge=7)]
    """Of the default ONNX domain; whether the runtime has it, it says itself."""
    files: dict[FileName, Sha256]
    """sha256 of every file of the bundle but the manifest and its signature."""
    inputs: Annotated[list[Tensor], Field(min_length=1)]
    """Of the graph."""
    outputs: Annotated[list[Tensor], Field(min_length=1)]
    """Of the graph."""
    preprocessing: Annotated[
        SeriesPreprocessing | WaveformPreprocessing | ImagePreprocessing, Field(discriminator="kind")
    ]
    """From data to the input."""
    decoder: Literal[
        "series-error",
        "series-forecast",
        "window-classes",
        "ssd",
        "centerface",
        "blazeface",
        "retinaface",
        "dbnet",
        "yolo",
    ]
    """From the output to results."""
    decoding: YoloDecoding | None = None
    """Details of the decoder; `yolo` needs them."""
    thresholds: Thresholds
    """Defaults."""
    labels: list[str] = Field(default_factory=list)
    """Names of the classes, in the order of the output."""
    golden: Golden = Golden()
    """Check at load."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name in (*REQUIRED_FILES, self.golden.file):
            if name not in self.files:
                raise ValueError(f"`files` lacks {name}")
        kind, own = _OF_TASK.get(self.task, ("image", ""))
        decoders = {d for _, d in _OF_TASK.values()}
        if self.preprocessing.kind != kind or (self.decoder != own if own else self.decoder in decoders):
            raise ValueError(
                f"decoder {self.decoder} and {self.preprocessing.kind} do not go with task {self.task}"
            )
        if (self.decoder == "yolo") != (self.decoding is not None):
            raise ValueError("`decoder: yolo` and `decoding: {type: yolo, version: ...}` go together")
        if self.task in (Task.DETECTION, Task.CLASSIFICATION) and not self.labels:
            raise ValueError(f"a {self.task} model needs `labels`")
        return self

    def version_key(self) -> tuple[int, ...]:
        """Return the version as numbers, for comparing."""
        return version_key(self.version)
