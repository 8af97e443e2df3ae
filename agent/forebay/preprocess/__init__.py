"""Steps that calm the data before inference, masking and the spool."""

from __future__ import annotations

from forebay.config import preprocess as config
from forebay.config.base import Options
from forebay.errors import ConfigError
from forebay.preprocess.alarm import AlarmWorker
from forebay.preprocess.base import StreamStep, Worker
from forebay.preprocess.deadband import DeadbandWorker
from forebay.preprocess.fields import ChooseWorker, RenameWorker
from forebay.preprocess.gaps import GapsWorker
from forebay.preprocess.hampel import HampelWorker
from forebay.preprocess.resample import ResampleWorker
from forebay.preprocess.scale import ScaleWorker
from forebay.preprocess.smooth import SmoothWorker
from forebay.preprocess.tumbling import TumblingWorker, tumbles
from forebay.preprocess.validate import ValidateWorker
from forebay.preprocess.window import WindowWorker

__all__ = ["STEPS", "StreamStep", "build"]

STEPS = tuple(config.STEP_OPTIONS)


def build(name: str, options: Options, *, key: str = "", max_keys: int = 10_000) -> StreamStep:
    """Build a step.

    Parameters
    ----------
    name : str
        One of STEPS.
    options : Options
        An instance of forebay.config.preprocess.STEP_OPTIONS[name].
    key : str
        Field that tells devices apart; empty: the schema's own key, or one series.
    max_keys : int
        Keys that a step remembers; rows of further keys pass it without state and are counted.

    Raises
    ------
    ConfigError
        If there is no such step, or its options do not go with the key.
    """
    wanted = config.STEP_OPTIONS.get(name)
    if wanted is None or not isinstance(options, wanted):
        raise ConfigError(f"no preprocessing step `{name}` with {type(options).__name__}", place=name)
    _worker(name, options, key, max_keys)  # what does not fit is said now, not at the first block
    return StreamStep(name, options, key, lambda: _worker(name, options, key, max_keys))


def _worker(name: str, options: Options, key: str, max_keys: int) -> Worker:
    match options:
        case config.ScaleOptions():
            return ScaleWorker(options, key)
        case config.SelectOptions() | config.DropOptions():
            return ChooseWorker(options, key)
        case config.RenameOptions():
            return RenameWorker(options, key)
        case config.ValidateOptions():
            return ValidateWorker(options, key, max_keys)
        case config.DeadbandOptions():
            return DeadbandWorker(options, key, max_keys)
        case config.HampelOptions():
            return HampelWorker(options, key, max_keys)
        case config.SmoothOptions():
            return SmoothWorker(options, key, max_keys)
        case config.GapsOptions():
            return GapsWorker(options, key, max_keys)
        case config.WindowOptions():
            return (TumblingWorker if tumbles(options) else WindowWorker)(options, key, max_keys)
        case config.ResampleOptions():
            return ResampleWorker(options, key, max_keys)
        case config.AlarmOptions():
            return AlarmWorker(options, key, max_keys)
    raise ConfigError(f"step `{name}` cannot be built from {type(options).__name__}", place=name)
