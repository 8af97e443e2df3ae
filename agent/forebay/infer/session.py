"""ONNX Runtime sessions that a gateway can afford: one thread, no spinning, no growing arena, shared."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from forebay.errors import ModelError

_log = logging.getLogger(__name__)

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class SessionOptions:
    """How a session runs; part of the key under which it is shared."""

    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    threads: int = 1


class Session:
    """A loaded graph. `run` may be called from several threads."""

    def __init__(self, model: bytes, options: SessionOptions, *, place: str) -> None:
        import onnxruntime as ort

        settings = ort.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
        settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        # Spinning threads burn a core between frames.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        settings.add_session_config_entry("session.inter_op.allow_spinning", "0")
        # The arena keeps the peak of every shape it has seen; malloc gives memory back.
        settings.enable_cpu_mem_arena = False
        settings.enable_mem_pattern = False
        settings.log_severity_level = 3  # errors only
        self._place = place
        try:
            self._session = ort.InferenceSession(
                model, settings, providers=_available(ort, options.providers, place)
            )
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise ModelError(
                f"ONNX Runtime {ort.__version__} cannot load the graph: {type(error).__name__}",
                place=place,
                hint="check opset and operators with `forebay models verify`",
            ) from error

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
        """Return the named outputs. Raises ModelError, without the data in its text."""
        try:
            result: list[npt.NDArray[Any]] = self._session.run(list(outputs), inputs)
        except Exception as error:  # noqa: BLE001 - see above
            shapes = ", ".join(f"{k} {v.dtype}{list(v.shape)}" for k, v in inputs.items())
            raise ModelError(
                f"the model failed on {shapes}: {type(error).__name__}", place=self._place
            ) from None
        return result


def _available(ort: Any, wanted: tuple[str, ...], place: str) -> list[str]:
    """Return the wanted providers that are there, always with the CPU last."""
    there = set(ort.get_available_providers())
    for name in wanted:
        if name not in there:
            _log.warning("%s: execution provider %s is not available, passed over", place, name)
    return [*(p for p in wanted if p in there and p != "CPUExecutionProvider"), "CPUExecutionProvider"]


class SessionPool:
    """Sessions shared by content: two steps with one model hold it once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[tuple[str, SessionOptions], Session] = {}

    def get(self, sha256: str, model: bytes, options: SessionOptions, *, place: str) -> Session:
        """Return the session for these verified bytes, loading it at first use."""
        with self._lock:
            key = (sha256, options)
            if key not in self._sessions:
                self._sessions[key] = Session(model, options, place=place)
            return self._sessions[key]
