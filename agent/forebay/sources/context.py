"""What every live source is given beside its own options, and what they share."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forebay.clock import Clock, SystemClock
from forebay.config.fields import FieldOptions


@dataclass(frozen=True, slots=True)
class SourceContext:
    """Who a source is and what its pipeline declares.

    Attributes
    ----------
    name : the source's name in the configuration
    stream : name of the stream that its blocks carry
    fields : a pipeline's `fields:`
    key : name of the field that tells devices apart, or empty
    gateway : id of the gateway
    base : folder of the configuration file
    facts : returns the snapshot of the agent that the source runs in; None outside of one
    """

    name: str
    stream: str
    fields: Mapping[str, FieldOptions] = field(default_factory=dict)
    key: str = ""
    gateway: str = "gateway"
    base: Path = Path()
    clock: Clock = field(default_factory=SystemClock)
    facts: Callable[[], dict[str, Any]] | None = None


class Stopper:
    """A source's wish to end, and waits that it interrupts."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask to end. From any thread."""
        self._event.set()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait; return True as soon as it is time to end."""
        return self._event.wait(max(0.0, seconds))


class Ticks:
    """Evenly spaced moments on the monotonic clock; those that were missed are left out."""

    def __init__(self, clock: Clock, every_ns: int) -> None:
        self._clock, self._every_ns = clock, every_ns
        self._next = clock.monotonic_ns()

    def seconds_left(self) -> float:
        """Return the time to the next moment and move on to the one after it."""
        now = self._clock.monotonic_ns()
        self._next += self._every_ns
        if self._next < now:
            self._next += -(-(now - self._next) // self._every_ns) * self._every_ns
        return (self._next - now) / 1e9


class Backoff:
    """Waits between attempts: doubling, with jitter so that a fleet does not return in step."""

    def __init__(self, first_s: float = 0.5, longest_s: float = 60.0, seed: int | None = None) -> None:
        self._first, self._longest = first_s, longest_s
        self._now = first_s
        self._random = random.Random(seed)

    def reset(self) -> None:
        """Start again from the first wait."""
        self._now = self._first

    def seconds(self) -> float:
        """Return the next wait."""
        wait = self._now * (0.5 + self._random.random() / 2)
        self._now = min(self._now * 2, self._longest)
        return wait
