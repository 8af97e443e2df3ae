"""Inference: verified model bundles, the sensor anomaly model, detectors for images.

Only this room imports onnxruntime, and only when a model is built.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from forebay.clock import Clock, SystemClock
from forebay.config.detections import DetectionOptions
from forebay.config.models import InferOptions, ModelsOptions
from forebay.errors import ConfigError, ModelError
from forebay.stages import Step

if TYPE_CHECKING:
    from forebay.infer.bundle import Bundle
    from forebay.infer.reading import Reader
    from forebay.infer.session import Session, SessionPool
    from forebay.infer.shadow import ScoreStep
    from forebay.infer.signing import Trust
    from forebay.infer.vision import Detector

__all__ = ["build", "build_detector", "build_reader", "build_watch", "trust_of"]

_log = logging.getLogger(__name__)
_Made = TypeVar("_Made")


def trust_of(models: ModelsOptions, base: Path | None = None) -> Trust:
    """Return whose signatures the configuration believes. Raises KeyFileError."""
    from forebay.infer.signing import Trust

    paths = [(base or Path()) / path for path in models.trust]
    return Trust.read(paths, required=models.require_signature)


def _load(model: str, bundles_dir: Path | None, base: Path | None, models: ModelsOptions) -> Bundle:
    """Return a bundle, verified and not older than the newest one that was installed."""
    from forebay.infer.bundle import find, load
    from forebay.infer.store import check_not_older

    folder = find(model, bundles_dir=bundles_dir, base=base)
    bundle = load(folder, trust_of(models, base))
    if bundles_dir is not None and bundles_dir in folder.parents and "@" not in model:
        check_not_older(bundles_dir, bundle.manifest, bundle.sha256)
    return bundle


def _opener(
    models: ModelsOptions,
    bundles_dir: Path | None,
    base: Path | None,
    pool: SessionPool | None,
    *,
    isolated: bool = False,
) -> Callable[[str], tuple[Bundle, Session]]:
    """Return what loads a bundle by name, verified and trusted as configured, and opens its session."""
    from forebay.infer.bundle import open_session
    from forebay.infer.session import SessionOptions, SessionPool

    if bundles_dir is None and models.dir is not None:
        bundles_dir = (base or Path()) / models.dir
    settings = SessionOptions(
        tuple(models.providers), models.threads, limit_ns=models.time_limit, isolated=isolated
    )
    sessions = pool or SessionPool()

    def opened(model: str) -> tuple[Bundle, Session]:
        bundle = _load(model, bundles_dir, base, models)
        return bundle, open_session(bundle, sessions, settings, verify=models.verify)

    return opened


def build_detector(
    model: str,
    *,
    threshold: float | None = None,
    classes: tuple[str, ...] = (),
    tiles: int = 1,
    most: float = 0.0,
    again: float | None = None,
    base: Path | None = None,
    models: ModelsOptions | None = None,
    pool: SessionPool | None = None,
) -> Detector:
    """Return a detector for masking: its bundle verified and trusted, its runs limited, as `models:` says.

    Raises ModelError.
    """
    from forebay.infer.vision import Detector

    bundle, session = _opener(models or ModelsOptions(), None, base, pool)(model)
    return Detector(
        bundle, session, threshold=threshold, tiles=tiles, classes=classes, most=most, again=again
    )


def build_reader(models: ModelsOptions | None = None) -> Reader:
    """Return the reader of the extra `ocr`, limited as `models:` says. Raises MissingExtra, ModelError."""
    from forebay.infer.reading import Reader
    from forebay.infer.session import SessionOptions

    models = models or ModelsOptions()
    options = SessionOptions(threads=models.threads, limit_ns=models.time_limit)
    return Reader(options, verify=models.verify)


def build(
    name: str,
    options: InferOptions,
    *,
    key: str = "",
    bundles_dir: Path | None = None,
    base: Path | None = None,
    models: ModelsOptions | None = None,
    pool: SessionPool | None = None,
    clock: Clock | None = None,
    strict: bool = True,
) -> Step:
    """Return the step that `options` describe, its model verified and loaded.

    Parameters
    ----------
    name : of the step, used in messages
    options : as configured
    key : field that tells devices apart, "" for none
    bundles_dir : looked in before the bundles that come with Forebay; `models.dir` if None
    base : folder of the configuration file
    models : the section `models:`; defaults if None
    pool : sessions are shared by steps that are given the same one
    clock : the system's if None
    strict : a candidate that cannot be loaded is an error; otherwise the model in use runs alone, and the log says so

    Raises
    ------
    ModelError
        If the bundle is missing, damaged, not signed by whom it must be, older than one seen, or of another task.
    """
    opened = _opener(models or ModelsOptions(), bundles_dir, base, pool, isolated=options.isolated)
    if options.inputs:
        step = _score_step(name, options, key, *opened(options.model))
        if not options.shadow:
            return step
        if options.shadow_share < 1 and not key:
            raise ConfigError("`shadow_share` is a share of devices: the pipeline needs a `key`", place=name)
        from forebay.infer.shadow import ShadowStep

        candidate = _candidate(
            name, options, strict, lambda: _score_step(name, options, key, *opened(options.shadow))
        )
        if candidate is None:
            return step
        return ShadowStep(
            step,
            candidate,
            clock or SystemClock(),
            gate=options.promote,
            key=key,
            share=options.shadow_share,
        )
    reader = build_reader(models) if options.read else None
    return _detect_step(name, options, key, opened, clock or SystemClock(), reader, strict)


def _candidate(name: str, options: InferOptions, strict: bool, make: Callable[[], _Made]) -> _Made | None:
    """Return the candidate, None if it cannot be loaded and that must not stop the model in use."""
    try:
        return make()
    except ModelError as error:
        if strict:
            raise
        text = (
            "a candidate cannot be loaded, the model in use runs alone until the next `forebay reload`"
            " step=%s candidate=%s: %s"
        )
        _log.warning(text, name, options.shadow, error)
        return None


def _detect_step(
    name: str,
    options: InferOptions,
    key: str,
    opened: Callable[[str], tuple[Bundle, Session]],
    clock: Clock,
    reader: Reader | None,
    strict: bool,
) -> Step:
    """Return the step for a field of pictures."""
    from forebay.infer.detect import DetectStep
    from forebay.infer.shadow_boxes import BoxFinder, ShadowDetector
    from forebay.infer.vision import Detector

    def made(model: str) -> Detector:
        return Detector(
            *opened(model),
            threshold=options.threshold,
            tiles=options.tiles,
            classes=tuple(options.classes),
            resolution=options.resolution,
        )

    incumbent = made(options.model)
    detector: BoxFinder = incumbent
    candidate = _candidate(name, options, strict, lambda: made(options.shadow)) if options.shadow else None
    if candidate is not None:
        detector = ShadowDetector(
            name,
            incumbent,
            candidate,
            clock,
            gate=options.promote,
            share=options.shadow_share,
        )
    return DetectStep(
        name,
        detector,
        field=options.field,
        key=key,
        output=options.output,
        every_ns=options.every,
        drop_late=options.on_load == "drop",
        clock=clock,
        reader=reader,
        read_class="plate" if set(incumbent.labels) == {"plate"} else "",
    )


def _score_step(name: str, options: InferOptions, key: str, bundle: Bundle, session: Session) -> ScoreStep:
    """Return the step for fields of numbers that the model's task asks for."""
    from forebay.infer.manifest import Task

    task = bundle.manifest.task
    if task is Task.CLASSIFICATION:
        from forebay.infer.classify import ClassifyStep

        if len(options.inputs) != 1:
            raise ConfigError(f"{options.model} looks at one field: give one in `inputs`", place=name)
        if wrong := sorted(options.model_fields_set & {"calibration", "memory"}):
            raise ConfigError(f"`{wrong[0]}` means nothing to a model of task {task}", place=name)
        return ClassifyStep(
            name,
            bundle,
            session,
            field=options.inputs[0],
            key=key,
            output=options.output or "label",
            max_keys=options.max_keys,
        )
    from forebay.infer.anomaly import AnomalyStep
    from forebay.infer.forecast import ForecastStep

    is_forecast = task is Task.FORECAST
    return (ForecastStep if is_forecast else AnomalyStep)(
        name,
        bundle,
        session,
        inputs=tuple(options.inputs),
        key=key,
        output=options.output or ("surprise" if is_forecast else "anomaly"),
        calibration=options.calibration,
        memory=options.memory,
        max_keys=options.max_keys,
    )


def build_watch(name: str, options: DetectionOptions, *, key: str = "") -> Step:
    """Return a step over detections: `track`, `count`, `zone`, `line`, `dwell`, `left_post` or `present`."""
    from forebay.config.detections import CountOptions, EventOptions, TrackOptions
    from forebay.infer.events import EventStep
    from forebay.infer.watch import CountStep, TrackStep

    if isinstance(options, TrackOptions):
        return TrackStep(name, options, key)
    if isinstance(options, CountOptions):
        return CountStep(name, options, key)
    assert isinstance(options, EventOptions)
    return EventStep(name, options, key)
