"""The one place that wires rooms: configuration in, sources and workers out. Rooms are imported when used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from forebay import __version__
from forebay.clock import Clock
from forebay.config import preprocess
from forebay.config.agent import AgentConfig, PipelineOptions
from forebay.config.loader import LoadedConfig
from forebay.config.models import InferOptions
from forebay.config.registry import TypedOptions
from forebay.config.sources import FileOptions
from forebay.config.spool import Seal as SealFor
from forebay.config.spool import SpoolOptions
from forebay.errors import ConfigError
from forebay.keys import read_public, read_secret
from forebay.mask import Detector, Guard, Masker, Policy, load_policy
from forebay.sources.context import SourceContext
from forebay.spool import Limits, Spool, StreamLimits
from forebay.stages import Source, Step
from forebay.supervise import SourceRunner
from forebay.wire.atrest import CenterLock, GatewayLock
from forebay.wire.envelope import Context, Stamp
from forebay.wire.seal import Sealer
from forebay.worker import Worker, WorkerOptions

LEAST_COMMIT_SHARE = 16  # a growing commit takes at most this part of the spool's quota
COMMIT_BYTES = 1024 * 1024
HARDER_LEVEL = 12  # of zstd, when bytes on the link are scarce

# Which bundle finds what a policy can mask in pictures, and under which labels.
DETECTORS: dict[str, tuple[str, tuple[str, ...]]] = {
    "face": ("faces", ()),
    "plate": ("plates-cn", ()),
    "person": ("street-objects", ("Person",)),
}


@dataclass(slots=True)
class Plumbing:
    """Everything between sources and spool, not yet started."""

    workers: dict[str, Worker] = field(default_factory=dict)
    runners: list[SourceRunner] = field(default_factory=list)
    policy: Policy | None = None


class Detectors(Mapping[str, Detector]):
    """Detectors by class, each loaded when a picture needs it first: most agents never see one."""

    def __init__(self) -> None:
        self._loaded: dict[str, Detector] = {}

    def __getitem__(self, name: str) -> Detector:
        if name not in self._loaded:
            bundle, classes = DETECTORS[name]
            from forebay.infer.vision import load_detector

            self._loaded[name] = load_detector(bundle, classes=classes)
        return self._loaded[name]

    def __iter__(self) -> Any:
        return iter(DETECTORS)

    def __len__(self) -> int:
        return len(DETECTORS)


def build_plumbing(
    loaded: LoadedConfig[AgentConfig],
    spool: Spool,
    clock: Clock,
    boot: str,
    *,
    once: bool,
    harder: Callable[[], bool] = lambda: False,
) -> Plumbing:
    """Build every pipeline with its source, as configured, positions and states restored.

    `harder` tells whether bytes on the link are scarce: blocks then wait longer and are compressed harder.

    Raises
    ------
    ConfigError
        A part cannot be built as configured.
    ModelError
        A model bundle cannot be used.
    """
    builder = _Builder(loaded, spool, clock, boot, harder)
    plumbing = Plumbing(policy=builder.policy)
    for name, options in loaded.config.pipelines.items():
        owner = f"{options.source}/{name}"
        progress = spool.store.progress(owner)
        worker = builder.worker(name, options, owner)
        worker.restore(progress)
        source = builder.source(name, options)
        plumbing.workers[name] = worker
        runner = SourceRunner(options.source, source, worker, progress.get(""), once=once)
        if spool.recovery.positions_lost and getattr(source, "replayable", False) and "" not in progress:
            runner.hold = ConfigError(
                "the spool was damaged and nobody knows how far this source was read",
                place=f"sources.{options.source}",
                hint="look at the center's newest rows; to read all again: forebay spool repair FOLDER --read-again",
            )
        plumbing.runners.append(runner)
    return plumbing


class _Builder:
    def __init__(
        self,
        loaded: LoadedConfig[AgentConfig],
        spool: Spool,
        clock: Clock,
        boot: str,
        harder: Callable[[], bool],
    ) -> None:
        self._loaded, self._config, self._base = loaded, loaded.config, loaded.base
        self._harder = harder
        self._spool, self._clock, self._boot = spool, clock, boot
        masking = self._config.masking
        self.policy = load_policy(masking.policy if masking else "base", self._base)
        self._detectors = Detectors()

    # -- steps and worker -----------------------------------------------------------------------------------

    @cached_property
    def _pool(self) -> Any:
        from forebay.infer.session import SessionPool

        return SessionPool()

    def _step(self, name: str, entry: Any, options: PipelineOptions) -> Step:
        if entry.name in preprocess.STEP_OPTIONS:
            from forebay import preprocess as room

            return room.build(entry.name, entry.options, key=options.key or "", max_keys=options.max_keys)
        if isinstance(entry.options, InferOptions):
            from forebay import infer

            return infer.build(
                entry.name,
                entry.options,
                key=options.key or "",
                base=self._base,
                models=self._config.models,
                pool=self._pool,
            )
        raise ConfigError(f"no room builds the step `{entry.name}`", place=f"pipelines.{name}.steps")

    def worker(self, name: str, options: PipelineOptions, owner: str) -> Worker:
        """Build the worker of one pipeline."""
        steps = [self._step(name, entry, options) for entry in options.steps]
        config = self._config
        context = Context(
            gateway=config.gateway.id,
            owner=owner,
            boot=self._boot,
            agent=__version__,
            site=config.gateway.site,
            labels=dict(config.gateway.labels),
            policy=self.policy.name,
            policy_hash=self.policy.hash,
            key_id=self.policy.key_id,
            models=tuple(sorted({model for step in steps if (model := getattr(step, "model", ""))})),
        )
        sealer = Sealer(
            context,
            self._stamp,
            compress=config.spool.compression == "zstd",
            level=lambda: HARDER_LEVEL if self._harder() else 1,
            lock=at_rest_lock(self._loaded),
        )
        worker_options = WorkerOptions(
            owner=owner,
            stream=config.stream(name),
            lane=options.lane,
            linger_ns=options.linger_ns,
            commit_bytes=min(COMMIT_BYTES, config.spool.max_bytes // LEAST_COMMIT_SHARE),
            harder=self._harder,
        )
        masker = Masker(self.policy, detectors=self._detectors)
        return Worker(
            worker_options, steps, masker, Guard(self.policy), sealer, self._spool.writer, self._clock
        )

    def _stamp(self) -> Stamp:
        return Stamp(self._clock.wall_ns(), self._clock.monotonic_ns(), self._clock.state())

    # -- source ---------------------------------------------------------------------------------------------

    def source(self, name: str, options: PipelineOptions) -> Source:
        """Build the source of one pipeline. One that can be replayed has an instance a pipeline."""
        config = self._config.sources[options.source]
        return self._make(config, name, options)

    def _make(self, config: TypedOptions, name: str, options: PipelineOptions) -> Source:
        stream, fields, key = self._config.stream(name), options.fields, options.key or ""
        if isinstance(config, FileOptions):
            from forebay.sources.file import FileSource

            return FileSource(config, self._base, stream, fields, key, clock=self._clock)
        context = SourceContext(
            name=options.source,
            stream=stream,
            fields=fields,
            key=key,
            gateway=self._config.gateway.id,
            base=self._base,
            clock=self._clock,
        )
        return build_live(config, context)


def at_rest_lock(loaded: LoadedConfig[AgentConfig]) -> GatewayLock | CenterLock | None:
    """Return what locks batches at rest. Raises KeyFileError, ConfigError."""
    options, forward = loaded.config.spool, loaded.config.forward
    if options.seal is SealFor.NONE:
        return None
    if forward is None:
        raise ConfigError(
            "sealing at rest needs the keys of the section `forward`",
            place="spool.seal",
            hint="add `forward`",
        )
    if options.seal is SealFor.GATEWAY:
        return GatewayLock(read_secret(loaded.resolve(forward.keys.own)).transport, options.cipher)
    return CenterLock(read_public(loaded.resolve(forward.keys.server)).transport, options.cipher)


def spool_limits(options: SpoolOptions) -> Limits:
    """Return the quotas and policies of the spool as configured."""
    return Limits(
        max_bytes=options.max_bytes,
        on_full=options.on_full.value,
        reserve={str(lane): share for lane, share in options.reserve.items()},
        thin_keep=options.thin_keep,
        max_age_ns=options.max_age or 0,
        max_batches=options.max_batches or 0,
        streams={
            name: StreamLimits(quota.max_bytes or 0, quota.max_batches or 0, quota.max_age or 0)
            for name, quota in options.streams.items()
        },
        dead_letter_bytes=options.dead_letters or 0,
        stop_free=options.disk.stop,
        resume_free=options.disk.resume,
        ballast_bytes=options.disk.ballast,
    )


def build_live(options: Any, context: SourceContext) -> Source:
    """Build a source that is not a file. Its library is imported now, and only now."""
    match options.type:
        case "system":
            from forebay.sources.system import SystemSource

            return SystemSource(options, context)
        case "modbus":
            from forebay.sources.modbus import ModbusSource

            return ModbusSource(options, context)
        case "mqtt":
            from forebay.sources.mqtt import MqttSource

            return MqttSource(options, context)
        case "zmq":
            from forebay.sources.zmq_push import ZmqSource

            return ZmqSource(options, context)
    raise ConfigError(f"no room builds a source of type `{options.type}`", place=f"sources.{context.name}")
