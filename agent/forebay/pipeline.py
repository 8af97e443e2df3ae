"""The one place that wires rooms: configuration in, sources and workers out. Rooms are imported when used."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from typing import Any

from forebay import __version__
from forebay.audit import Auditor
from forebay.beginning import Beginning, Link, OnUnknown
from forebay.clock import Clock
from forebay.config import preprocess
from forebay.config.agent import AgentConfig, PipelineOptions
from forebay.config.detections import DetectionOptions
from forebay.config.loader import LoadedConfig
from forebay.config.models import InferOptions
from forebay.config.registry import TypedOptions
from forebay.config.sources import FileOptions
from forebay.config.spool import Seal as SealFor
from forebay.config.spool import SpoolOptions
from forebay.detectors import Detectors
from forebay.errors import ConfigError, ForebayError, ModelError
from forebay.keys import read_public, read_secret
from forebay.mask import Guard, Masker, load_policy
from forebay.reload import fingerprint
from forebay.sources.context import SourceContext
from forebay.sources.live import build_live
from forebay.spool import Limits, Spool, StreamLimits
from forebay.stages import LedgerCounts, Replayable, Source, Step
from forebay.supervise import Parts, SourceRunner
from forebay.wire.atrest import CenterLock, GatewayLock
from forebay.wire.envelope import Context, Stamp
from forebay.wire.seal import Sealer
from forebay.worker import Worker, WorkerOptions

LEAST_COMMIT_SHARE = 16  # a growing commit takes at most this part of the spool's quota
COMMIT_BYTES = 1024 * 1024
HARDER_LEVEL = 12  # of zstd, when bytes on the link are scarce


class Builder:
    """Builds pipelines with their sources, as configured, positions and states restored from the spool.

    `harder` tells whether bytes on the link are scarce: blocks then wait longer and are compressed harder. `facts`
    is what a source that tells of the agent itself asks. `link` returns the link in use, whose center is asked how
    far sources were read that the spool does not know.

    Attributes
    ----------
    incomplete : pipelines that were built without a candidate that they name

    Raises
    ------
    ConfigError
        A part cannot be built as configured.
    ModelError
        A model bundle cannot be used.
    """

    def __init__(
        self,
        loaded: LoadedConfig[AgentConfig],
        spool: Spool,
        clock: Clock,
        boot: str,
        *,
        once: bool,
        harder: Callable[[], bool] = lambda: False,
        facts: Callable[[], dict[str, Any]] | None = None,
        link: Callable[[], Link] | None = None,
    ) -> None:
        self._loaded, self._config, self._base = loaded, loaded.config, loaded.base
        self._spool, self._clock, self._boot, self._once = spool, clock, boot, once
        self._harder, self._facts, self._link = harder, facts, link
        self.incomplete: set[str] = set()
        masking = self._config.masking
        self.policy = load_policy(masking.policy if masking else "base", self._base)
        self._detectors = Detectors(
            self.policy.options.images.tiles,
            models=self._config.models,
            base=self._base,
            pool=lambda: self._pool,
        )

    def fingerprint(self, name: str) -> str:
        """Return a digest of everything that a pipeline is built from, as it is now."""
        masking = self.policy.hash + self._detectors.digest(self.policy.image_classes)
        return fingerprint(self._loaded, name, masking, self._manifests)

    @cached_property
    def _manifests(self) -> dict[str, str]:
        """Return the digest of the manifest of each model that a pipeline names; none where there is no manifest."""
        wanted = {
            model
            for pipeline in self._config.pipelines.values()
            for entry in pipeline.steps
            if isinstance(entry.options, InferOptions)
            for model in entry.options.models()
        }
        if not wanted:
            return {}
        from forebay.infer.bundle import find, read_manifest

        folder = self._config.models.dir
        bundles = self._base / folder if folder else None
        found: dict[str, str] = {}
        for name in sorted(wanted):
            # Whether the pipeline can do without it is decided where it is loaded.
            with suppress(ModelError):
                manifest = read_manifest(find(name, bundles_dir=bundles, base=self._base))[1]
                found[name] = hashlib.sha256(manifest).hexdigest()
        return found

    def build(self, name: str) -> Parts:
        """Build one pipeline from what is durable: nothing of it may be on its way to disk."""
        options = self._config.pipelines[name]
        owner = f"{options.source}/{name}"
        progress = self._spool.store.progress(owner)
        worker = self.worker(name, options, owner, strict=False)
        worker.restore(progress)
        source = self.source(name, options)
        runner = SourceRunner(options.source, source, worker, progress.get(""), once=self._once)
        if self._link and isinstance(source, Replayable) and Beginning.is_needed(self._spool, progress):
            on_unknown: OnUnknown = getattr(self._config.sources[options.source], "on_unknown", "hold")
            runner.begin = Beginning(owner, self._spool, self._link, on_unknown, source.at_end)
        return Parts(worker, runner)

    def trial(self, name: str) -> None:
        """Build what a pipeline needs but touch no device: a model or rule that fails is known before a change."""
        options = self._config.pipelines[name]
        self.worker(name, options, f"{options.source}/{name}")
        if self._detector_trouble is not None:
            raise self._detector_trouble

    @cached_property
    def _detector_trouble(self) -> ForebayError | None:
        """Why masking could not use a bundle of `models.dir` that it would look at pictures with."""
        return next(self._detectors.try_own(self.policy.image_classes), None)

    # -- steps and worker -----------------------------------------------------------------------------------

    @cached_property
    def _pool(self) -> Any:
        from forebay.infer.session import SessionPool

        return SessionPool()

    def _step(self, name: str, entry: Any, options: PipelineOptions, *, strict: bool) -> Step:
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
                clock=self._clock,
                strict=strict,
            )
        if isinstance(entry.options, DetectionOptions):
            from forebay import infer

            return infer.build_watch(entry.name, entry.options, key=options.key or "")
        raise ConfigError(f"no room builds the step `{entry.name}`", place=f"pipelines.{name}.steps")

    def worker(self, name: str, options: PipelineOptions, owner: str, *, strict: bool = True) -> Worker:
        """Build the worker of one pipeline; `strict`: see infer.build."""
        steps = [self._step(name, entry, options, strict=strict) for entry in options.steps]
        self.incomplete.discard(name)
        if any(map(_lacks_candidate, options.steps, steps)):
            self.incomplete.add(name)
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
            models=tuple(sorted({model for step in steps for model in _models(step)})),
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
        masker, guard = Masker(self.policy, detectors=self._detectors), Guard(self.policy)
        names = ("gateway", "agent", "boot", "policy", "policy_hash", "key_id")
        facts = {name: str(getattr(context, name)) for name in names}
        tallies = [masker.take_tally, guard.take_tally]
        counts: Callable[[], LedgerCounts] = Counter
        if context.models:
            from forebay.infer.notes import ModelNotes

            notes = ModelNotes(worker_options.stream, steps)
            tallies.append(notes.take_tally)
            counts = notes.take_counts
        auditor, writer = Auditor(facts, tallies, self._clock), self._spool.writer
        return Worker(
            worker_options, steps, masker, guard, sealer, writer, self._clock, auditor.note, masker, counts
        )

    def _stamp(self) -> Stamp:
        return Stamp(self._clock.wall_ns(), self._clock.monotonic_ns(), self._clock.state())

    # -- source ---------------------------------------------------------------------------------------------

    def source(self, name: str, options: PipelineOptions) -> Source:
        """Build the source of one pipeline. One that can be replayed has an instance a pipeline."""
        config = self._config.sources[options.source]
        return self.make_source(config, name, options)

    def make_source(self, config: TypedOptions | FileOptions, name: str, options: PipelineOptions) -> Source:
        """Build a source for a pipeline, its own or another in its place."""
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
            facts=self._facts,
        )
        return build_live(config, context)


def _lacks_candidate(entry: Any, step: Step) -> bool:
    """Whether a step was to have a candidate beside its model, and it could not be loaded."""
    options = entry.options
    return isinstance(options, InferOptions) and bool(options.shadow) and not getattr(step, "trial", None)


def _models(step: Step) -> tuple[str, ...]:
    """Return the models whose results a step may give: with a candidate that may be promoted, both."""
    found: tuple[str, ...] = getattr(step, "models", ()) or (getattr(step, "model", ""),)
    return tuple(model for model in found if model)


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
