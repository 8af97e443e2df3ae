"""ONNX Runtime sessions that a gateway can afford: one thread, no spinning, no growing arena, shared."""

from __future__ import annotations

import importlib
import logging
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import numpy.typing as npt

from forebay.errors import ModelError
from forebay.infer.limits import DEADLINES, Rest

_log = logging.getLogger(__name__)

_REASON = 200  # characters of the runtime's own words
_SILENT = (
    4  # of a run that fails the runtime prints what it fails on, such as an index out of bounds: a data value
)

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class SessionOptions:
    """How a session runs; part of the key under which it is shared."""

    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    threads: int = 1
    limit_ns: int = 0  # of one run; 0: none
    isolated: bool = False  # in a child process


class ModelTimeout(ModelError):
    """A run was not done within its time limit, or the model rests after several such runs."""


def load_runtime() -> Any:
    """Import onnxruntime, its telemetry off.

    From 1.29 on its packages write a device id and events about process and models into the user's home, and send
    them to Microsoft. Only this variable, set before the import, stops all of it.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    return importlib.import_module("onnxruntime")


class Session:
    """A loaded graph. `run` may be called from several threads."""

    def __init__(self, model: bytes, options: SessionOptions, *, place: str) -> None:
        ort = load_runtime()
        self._run_options, self._limit_s, self._rest = ort.RunOptions, options.limit_ns / 1e9, Rest()

        settings = ort.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
        settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        # Spinning threads burn a core between frames.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        settings.add_session_config_entry("session.inter_op.allow_spinning", "0")
        # The arena keeps the peak of every shape it has seen; malloc gives memory back. Even one that shrinks after
        # each run, with a plan of the run's memory, holds 13 MB more at rest (three detectors) and no less at work.
        settings.enable_cpu_mem_arena = False
        settings.enable_mem_pattern = False
        settings.log_severity_level = _SILENT
        self._place = place
        wanted = _available(ort, options.providers, place)
        try:
            self._session = _start(ort, model, settings, wanted, place)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no common base
            raise ModelError(
                f"ONNX Runtime {ort.__version__} cannot load the graph: {type(error).__name__}: {_reason(error)}",
                place=place,
                hint="export it for an opset and with operators that this runtime has",
            ) from None

    @property
    def providers(self) -> tuple[str, ...]:
        """Execution providers in use."""
        return tuple(self._session.get_providers())

    def inputs(self) -> dict[str, tuple[str, list[Any]]]:
        """Return type and shape of each input by name."""
        return {i.name: (i.type, list(i.shape)) for i in self._session.get_inputs()}

    def outputs(self) -> dict[str, tuple[str, list[Any]]]:
        """Return type and shape of each output by name."""
        return {o.name: (o.type, list(o.shape)) for o in self._session.get_outputs()}

    def run(self, inputs: Arrays, outputs: tuple[str, ...]) -> list[npt.NDArray[Any]]:
        """Return the named outputs.

        Raises
        ------
        ModelTimeout
            Not done within the limit. The runtime stops between two operators, a Loop's rounds included; one
            operator that never ends is stopped only in a process of its own (`isolated`).
        ModelError
            The model failed; without the data in the text.
        """
        if self._rest.is_due():
            raise ModelTimeout("the model rests: it was too slow too often", place=self._place)
        if not self._limit_s:
            return self._plain_run(inputs, outputs, None)
        settings, late = self._run_options(), threading.Event()

        def stop() -> None:
            settings.terminate = True
            late.set()

        try:
            with DEADLINES.within(self._limit_s, stop):
                result = self._plain_run(inputs, outputs, settings)
        except ModelError:
            self._rest.note(timed_out=late.is_set())
            if late.is_set():
                raise ModelTimeout(f"not done within {self._limit_s:g} s", place=self._place) from None
            raise
        self._rest.note(timed_out=False)
        return result

    def _plain_run(self, inputs: Arrays, outputs: tuple[str, ...], settings: Any) -> list[npt.NDArray[Any]]:
        try:
            result: list[npt.NDArray[Any]] = self._session.run(list(outputs), inputs, settings)
        except Exception as error:  # noqa: BLE001 - see above
            shapes = ", ".join(f"{k} {v.dtype}{list(v.shape)}" for k, v in inputs.items())
            raise ModelError(
                f"the model failed on {shapes}: {type(error).__name__}", place=self._place
            ) from None
        return result


def _reason(error: Exception) -> str:
    """Return what the runtime says of a graph, without its own places. At load it has seen no data yet."""
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error))
    text = re.sub(r"/onnxruntime_src/\S+:\d+ [^)]*\) ", "", text)
    text = "".join(c if c.isprintable() else " " for c in text).strip()
    return text if len(text) <= _REASON else f"{text[:_REASON]}..."


def absent_providers(wanted: Sequence[str]) -> list[str]:
    """Return the wanted execution providers that this machine's runtime does not have."""
    there = load_runtime().get_available_providers()
    return [name for name in wanted if name not in there]


def _available(ort: Any, wanted: tuple[str, ...], place: str) -> list[str]:
    """Return the wanted providers that are there, always with the CPU last."""
    there = set(ort.get_available_providers())
    for name in wanted:
        if name not in there:
            _log.warning("%s: execution provider %s is not available, passed over", place, name)
    return [*(p for p in wanted if p in there and p != "CPUExecutionProvider"), "CPUExecutionProvider"]


def _open(model: bytes, options: SessionOptions, place: str) -> Session:
    if not options.isolated:
        return Session(model, options, place=place)
    from forebay.infer.isolated import IsolatedSession

    return IsolatedSession(model, options, place=place)


def _start(ort: Any, model: bytes, settings: Any, wanted: list[str], place: str) -> Any:
    """Return a session on the wanted providers, or on the CPU if they do not start; that is said aloud."""
    try:
        session = _plain_start(ort, model, settings, wanted)
    except Exception as error:
        if len(wanted) == 1:
            raise
        _log.warning(
            "%s: execution provider %s does not start (%s), the model runs on the CPU",
            place, wanted[0], type(error).__name__,
        )  # fmt: skip
        return _plain_start(ort, model, settings, wanted[-1:])
    for name in wanted:
        if name not in session.get_providers():
            _log.warning(
                "%s: execution provider %s did not take the model, the next one runs it", place, name
            )
    return session


def _plain_start(ort: Any, model: bytes, settings: Any, providers: list[str]) -> Any:
    """Return a session that does not keep the file beside the graph that was made of it.

    ONNX Runtime's Python class holds on to the bytes for a retry of its own, which prints to standard output and
    goes on with other providers; `_start` does that, and says so in the log. 7 to 10 MB a detector.
    """
    session = ort.InferenceSession(model, settings, providers=providers, enable_fallback=0)
    session._model_bytes = None
    return session


class SessionPool:
    """Sessions shared by content: two users of one model hold it once, and it goes with the last of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: WeakValueDictionary[tuple[str, SessionOptions], Session] = WeakValueDictionary()

    def get(self, sha256: str, model: bytes, options: SessionOptions, *, place: str) -> Session:
        """Return the session for these verified bytes, loading it at first use."""
        with self._lock:
            key = (sha256, options)
            session = self._sessions.get(key)
            if session is None:
                session = self._sessions[key] = _open(model, options, place)
            return session
