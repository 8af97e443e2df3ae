"""Steps that calm the data before inference, masking and the spool."""

from __future__ import annotations

from forebay.config import preprocess as config
from forebay.config.base import Options
from forebay.errors import ConfigError
from forebay.preprocess.base import StreamStep, Worker

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
    # Each step is imported when one is configured: together they are a quarter of a megabyte.
    match options:
        case config.ScaleOptions():
            from forebay.preprocess.scale import ScaleWorker

            return ScaleWorker(options, key)
        case config.SelectOptions() | config.DropOptions():
            from forebay.preprocess.fields import ChooseWorker

            return ChooseWorker(options, key)
        case config.RenameOptions():
            from forebay.preprocess.fields import RenameWorker

            return RenameWorker(options, key)
        case config.ValidateOptions():
            from forebay.preprocess.validate import ValidateWorker

            return ValidateWorker(options, key, max_keys)
        case config.DeadbandOptions():
            from forebay.preprocess.deadband import DeadbandWorker

            return DeadbandWorker(options, key, max_keys)
        case config.HampelOptions():
            from forebay.preprocess.hampel import HampelWorker

            return HampelWorker(options, key, max_keys)
        case config.SmoothOptions():
            from forebay.preprocess.smooth import SmoothWorker

            return SmoothWorker(options, key, max_keys)
        case config.GapsOptions():
            from forebay.preprocess.gaps import GapsWorker

            return GapsWorker(options, key, max_keys)
        case config.WindowOptions():
            return _window(options, key, max_keys)
        case config.ResampleOptions():
            from forebay.preprocess.resample import ResampleWorker

            return ResampleWorker(options, key, max_keys)
        case config.AlarmOptions():
            from forebay.preprocess.alarm import AlarmWorker

            return AlarmWorker(options, key, max_keys)
    raise ConfigError(f"step `{name}` cannot be built from {type(options).__name__}", place=name)


def _window(options: config.WindowOptions, key: str, max_keys: int) -> Worker:
    from forebay.preprocess.tumbling import TumblingWorker, tumbles
    from forebay.preprocess.window import WindowWorker

    return (TumblingWorker if tumbles(options) else WindowWorker)(options, key, max_keys)
