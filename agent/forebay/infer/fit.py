"""Whether a graph goes with what its manifest says is done with it.

Told at load, by the graph's shapes and by its golden answer, so that a manifest that does not fit its model is refused
where it is signed, verified or installed, and not found out with the first picture or row on a gateway.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from forebay.errors import MissingExtra, ModelError
from forebay.infer import yolo
from forebay.infer.decoders import DECODERS, F32, Decoder, Found
from forebay.infer.manifest import (
    ImagePreprocessing,
    Manifest,
    SeriesPreprocessing,
    Task,
    WaveformPreprocessing,
)

Tensors = dict[str, tuple[str, list[Any]]]  # type and shape by name, as the runtime tells them

_FLOAT = "tensor(float)"
_OUTPUTS = {
    "ssd": 2,
    "centerface": 3,
    "blazeface": 2,
    "retinaface": 2,
}  # that a decoder reads; all others: one
_MOST = 1.001  # a score; probabilities are rounded
_COLUMNS = 2  # of a series' window, beside its differences: the two levels


def check_shapes(manifest: Manifest, inputs: Tensors, place: str) -> None:
    """Refuse a graph that cannot take what the preprocessing makes. Raises ModelError.

    Parameters
    ----------
    inputs : of the graph, those of the manifest among them
    """
    if len(inputs) != 1:
        raise ModelError(f"the preprocessing makes one input, the graph has {len(inputs)}", place=place)
    needed = _OUTPUTS.get(manifest.decoder, 1)
    if len(manifest.outputs) < needed:
        raise ModelError(
            f"decoder {manifest.decoder} reads {needed} outputs, the manifest names {len(manifest.outputs)}",
            place=place,
        )
    ((name, (dtype, shape)),) = inputs.items()
    made = made_shape(manifest)
    fits = len(shape) == len(made) and all(_takes(a, b) for a, b in zip(shape, made, strict=True))
    if dtype != _FLOAT or not fits:
        raise ModelError(
            f"input `{name}`: the preprocessing makes float32[{', '.join(map(str, made))}], the graph takes"
            f" {dtype}[{', '.join(str(d) for d in shape)}]",
            place=place,
            hint=_hint(dtype, shape, made),
        )


def made_shape(manifest: Manifest) -> list[int | str]:
    """Return the shape that the preprocessing makes; a name stands for a size that varies."""
    prep = manifest.preprocessing
    if isinstance(prep, SeriesPreprocessing):
        return ["rows", prep.window + _COLUMNS]
    if isinstance(prep, WaveformPreprocessing):
        return ["windows", prep.window]
    assert isinstance(prep, ImagePreprocessing)
    sides: list[int | str] = ["height", "width"] if prep.fit == "scale" else [*prep.size]
    return [1, 3, *sides] if prep.layout == "nchw" else [1, *sides, 3]


def _takes(dim: Any, made: int | str) -> bool:
    """Whether a dimension of the graph, open unless it is a number, takes what is made."""
    return not isinstance(dim, int) or dim == made


def _hint(dtype: str, shape: list[Any], made: list[int | str]) -> str:
    if dtype != _FLOAT:
        return "export the graph with a float32 input"
    if isinstance(made[0], str) and shape and isinstance(shape[0], int):
        return "export it with an open first dimension: as many come together as a block has"
    return "do `preprocessing` and the export's sizes go together?"


def decoder_of(manifest: Manifest, place: str) -> Decoder:
    """Return the decoder of a detection model; what does not fit its output is a ModelError with this place."""
    options, classes = manifest.decoding, len(manifest.labels)
    decode = DECODERS[manifest.decoder] if options is None else yolo.make(options, classes)

    def checked(outputs: list[F32], height: int, width: int, threshold: float) -> Found:
        try:
            found = decode(outputs, height, width, threshold)
        except ModelError as error:
            raise ModelError(error.message, place=place, hint=error.hint) from None
        _, scores, labels = found
        if len(scores) and scores.max() > _MOST:
            raise ModelError(
                "the model gave a score above 1", place=place, hint="does the graph end without a sigmoid?"
            )
        if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
            raise ModelError(f"the model named a class beyond its {classes} labels", place=place)
        return found

    return checked


def one_a_row(found: npt.NDArray[Any], rows: int, place: str) -> npt.NDArray[Any]:
    """Return a model's numbers, one for each row. Raises ModelError."""
    if found.shape not in ((rows,), (rows, 1)):
        raise ModelError(
            f"expected one number for each of {rows} rows, found {list(found.shape)}", place=place
        )
    return found.reshape(-1)


def one_a_label(found: npt.NDArray[Any], rows: int, labels: int, place: str) -> npt.NDArray[Any]:
    """Return a model's probabilities, one for each row and label. Raises ModelError."""
    if found.shape != (rows, labels):
        raise ModelError(
            f"expected probabilities of {labels} labels for each of {rows} windows, found {list(found.shape)}",
            place=place,
        )
    return found


def check_answer(
    manifest: Manifest, given: npt.NDArray[Any], answer: list[npt.NDArray[Any]], place: str
) -> None:
    """Refuse a model whose answer to `given` cannot be read as the manifest says. Raises ModelError."""
    prep = manifest.preprocessing
    if isinstance(prep, ImagePreprocessing):
        if manifest.decoder == "ssd" and answer[1].shape[-1] != len(manifest.labels):
            raise ModelError(
                f"the model scores {answer[1].shape[-1]} classes, `labels` has {len(manifest.labels)} names",
                place=place,
                hint="the first one is the background",
            )
        height, width = given.shape[2:] if prep.layout == "nchw" else given.shape[1:3]
        with suppress(MissingExtra):  # without it no picture comes here either
            decoder_of(manifest, place)(
                [np.asarray(a) for a in answer], height, width, manifest.thresholds.score
            )
    elif manifest.task is Task.CLASSIFICATION:
        chances = one_a_label(answer[0], len(given), len(manifest.labels), place)
        if not ((chances >= 0) & (chances <= _MOST)).all():
            hint = "does the graph end without a softmax?"
            raise ModelError("the model gave no probabilities", place=place, hint=hint)
    else:
        one_a_row(answer[0], len(given), place)
