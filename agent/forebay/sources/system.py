"""The gateway itself as a source, through psutil."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import psutil

from forebay.blocks import Type
from forebay.config.sources_live import SystemOptions
from forebay.sources.context import SourceContext, Stopper, Ticks
from forebay.sources.polled import PolledRows
from forebay.stages import Chunk, Emit

Reading = tuple[str, Type, str, str, Any]
"""Name, type, unit, description, value."""

_FIRST_S = 0.1  # psutil reckons CPU shares from call to call: the first needs something to look back on


def slug(text: str) -> str:
    """Return text as part of a field name: `Package id 0` -> `package_id_0`."""
    return re.sub(r"[^0-9a-z]+", "_", text.casefold()).strip("_") or "unnamed"


class SystemSource:
    """Samples of this machine, one row each. A metric that the machine lacks has no field.

    Parameters
    ----------
    options : SystemOptions
    context : SourceContext
    """

    replayable = False

    def __init__(self, options: SystemOptions, context: SourceContext) -> None:
        self._options, self._context = options, context
        self._stop = Stopper()
        self._rows = PolledRows(context)
        self._metrics: dict[str, Callable[[], Iterator[Reading]]] = {
            "cpu": self._cpu,
            "memory": self._memory,
            "disk": self._disk,
            "temperatures": self._temperatures,
            "net": self._net,
        }

    def run(self, emit: Emit, position: bytes | None) -> None:
        """See stages.Source."""
        clock = self._context.clock
        psutil.cpu_percent()
        ticks = Ticks(clock, self._options.every)
        left = _FIRST_S
        while not self._stop.wait(left):
            row: dict[str, Any] = {}
            for metric in self._options.metrics:
                for name, type_, unit, description, value in self._metrics[metric]():
                    self._rows.add(name, type_, unit, description)
                    row[name] = value
            block = self._rows.block([clock.wall_ns()], [row])
            if not emit(Chunk([block], nbytes=block.nbytes)):
                return
            left = ticks.seconds_left()

    def stop(self) -> None:
        """See stages.Source."""
        self._stop.set()

    @staticmethod
    def _cpu() -> Iterator[Reading]:
        yield "cpu_percent", Type.F64, "%", "share of all cores in use", psutil.cpu_percent()
        load = psutil.getloadavg()[0]
        yield "cpu_load_1m", Type.F64, "", "processes that want to run, mean of a minute", round(load, 2)

    @staticmethod
    def _memory() -> Iterator[Reading]:
        memory = psutil.virtual_memory()
        yield "memory_percent", Type.F64, "%", "share of memory in use", memory.percent
        yield "memory_available", Type.I64, "B", "memory that can be had without swapping", memory.available
        yield "swap_percent", Type.F64, "%", "share of swap in use", psutil.swap_memory().percent

    def _disk(self) -> Iterator[Reading]:
        for path in self._options.disks:
            try:
                usage = psutil.disk_usage(str(path))
            except OSError:
                continue  # not mounted now: its fields are null(missing)
            name = "disk_root" if str(path) == "/" else f"disk_{slug(str(path))}"
            yield f"{name}_percent", Type.F64, "%", f"share of {path} in use", usage.percent
            yield f"{name}_free", Type.I64, "B", f"free on {path}", usage.free

    @staticmethod
    def _temperatures() -> Iterator[Reading]:
        read = getattr(psutil, "sensors_temperatures", dict)  # missing where the system has none
        seen: dict[str, int] = {}
        for chip, sensors in read().items():
            for sensor in sensors:
                name = "_".join(dict.fromkeys(("temperature", slug(chip), slug(sensor.label or chip))))
                seen[name] = seen.get(name, 0) + 1
                if seen[name] > 1:
                    name = f"{name}_{seen[name]}"
                yield name, Type.F64, "°C", f"{sensor.label or chip}", sensor.current

    @staticmethod
    def _net() -> Iterator[Reading]:
        total = psutil.net_io_counters(pernic=True)
        real = [c for nic, c in total.items() if nic != "lo"]
        yield "net_sent", Type.I64, "B", "sent since boot, without loopback", sum(c.bytes_sent for c in real)
        yield (
            "net_received",
            Type.I64,
            "B",
            "received since boot, without loopback",
            sum(c.bytes_recv for c in real),
        )
        yield (
            "net_errors",
            Type.I64,
            "",
            "errors and drops since boot",
            sum(c.errin + c.errout + c.dropin + c.dropout for c in real),
        )
