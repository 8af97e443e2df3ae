"""Which bundle finds what a policy can cover in pictures. Above the rooms: it joins `mask` and `infer`."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebay.config.models import ModelsOptions
from forebay.errors import ForebayError
from forebay.memory import release_free_heap

if TYPE_CHECKING:
    from forebay.infer.session import SessionPool


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Finder:
    """How a class is found.

    Attributes
    ----------
    bundle : that finds it
    classes : labels of the bundle that count, empty for all
    tiles : that it looks at unless the policy says otherwise
    threshold : least score, the manifest's if None. Lower than for counting: a region covered in vain costs
        less than a face shown (docs/images-and-video.md has what each costs and finds).
    most : model pixels per frame pixel, where the frame is still looked at in one piece; 0: as the manifest says
    again : least score of what is looked at a second time, larger; None: nothing is
    is_read : what it finds is read, by the extra `ocr`
    """

    bundle: str
    classes: tuple[str, ...] = ()
    tiles: int = 1
    threshold: float | None = None
    most: float = 0.0
    again: float | None = None
    is_read: bool = False


FINDERS: dict[str, Finder] = {
    "face": Finder("faces", threshold=0.25, most=1.0, again=0.03),
    "plate": Finder("plates-cn"),
    "person": Finder("street-objects", ("Person",), tiles=2, threshold=0.3),
    "text": Finder("text-lines"),
    "identifier": Finder("text-lines", is_read=True),
}


class Detectors(Mapping[str, Any]):
    """Detectors by class, each loaded when a picture needs it first: most agents never see one.

    They are bundles like all others: looked up in `models.dir` first, their signature asked for as configured, each
    run within `models.time_limit`. One that cannot be loaded, fails or is late raises: the picture does not pass.
    Those that saw no picture for `models.idle` give their memory back and are loaded again for the next one.

    Parameters
    ----------
    tiles : of the policy's `images`; None: what suits each detector
    models : the section `models:`; defaults if None
    base : folder of the configuration file
    pool : returns the sessions to share with the steps; their own if None
    """

    def __init__(
        self,
        tiles: int | None = None,
        *,
        models: ModelsOptions | None = None,
        base: Path | None = None,
        pool: Callable[[], SessionPool] | None = None,
    ) -> None:
        self._tiles, self._models, self._base = tiles, models or ModelsOptions(), base
        self._pool = pool
        self._lock = threading.RLock()
        self._loaded: dict[str, Any] = {}
        self._used_ns: dict[str, int] = {}
        self._told: set[str] = set()  # classes whose detector could not be loaded when it was asked for last
        self._timer: threading.Timer | None = None

    def __getitem__(self, name: str) -> Any:
        with self._lock:
            self._used_ns[name] = time.monotonic_ns()
            if name not in self._loaded:
                try:
                    self._loaded[name] = self._load(name)
                except ForebayError as error:
                    self._say(name, str(error))
                    raise
                self._told.discard(name)
                self._arm()
            return self._loaded[name]

    def _say(self, name: str, text: str) -> None:
        """Say why a detector cannot be loaded, once and not for each picture that does not pass."""
        if name not in self._told:
            self._told.add(name)
            _log.error("a detector of masking cannot be loaded, no picture passes class=%s: %s", name, text)

    def _load(self, name: str) -> Any:
        from forebay import infer

        finder = FINDERS[name]
        detector = infer.build_detector(
            finder.bundle,
            threshold=finder.threshold,
            classes=finder.classes,
            tiles=finder.tiles if self._tiles is None else self._tiles,
            most=finder.most,
            again=finder.again,
            base=self._base,
            models=self._models,
            pool=self._pool() if self._pool else None,
        )
        if not finder.is_read:
            return detector
        from forebay.infer.reading import LineReader

        return LineReader(detector, infer.build_reader(self._models))

    def digest(self, kinds: Iterable[str]) -> str:
        """Return a digest of the bundles in `models.dir` that find these, empty where there are none.

        Those that come with Forebay do not change under a running agent. Raises ModelError.
        """
        own = self._own(kinds)
        if not own:
            return ""
        from forebay.infer.bundle import read_manifest

        told = hashlib.sha256(self._models.model_dump_json().encode())
        for place in own.values():
            told.update(read_manifest(place)[1])
        return told.hexdigest()

    def try_own(self, kinds: Iterable[str]) -> Iterator[ForebayError]:
        """Load the bundles in `models.dir` that find these; return why one cannot be used."""
        kinds = list(kinds)
        own = self._own(kinds)
        for kind in kinds:
            if kind in FINDERS and FINDERS[kind].bundle in own:
                try:
                    self._load(kind)
                except ForebayError as error:
                    yield error

    def _own(self, kinds: Iterable[str]) -> dict[str, Path]:
        """Return the bundles in `models.dir` that find these, by name. Raises ModelError."""
        if self._models.dir is None:
            return {}
        from forebay.infer.bundle import find

        folder = (self._base or Path()) / self._models.dir
        names = sorted({FINDERS[kind].bundle for kind in kinds if kind in FINDERS})
        places = {name: find(name, bundles_dir=folder, base=self._base) for name in names}
        return {name: place for name, place in places.items() if folder in place.parents}

    def _arm(self) -> None:
        if self._timer is None and self._models.idle:
            self._timer = threading.Timer(self._models.idle / 1e9, self._look)
            self._timer.daemon, self._timer.name = True, "detectors-idle"
            self._timer.start()

    def _look(self) -> None:
        with self._lock:
            self._timer = None
            self.release(time.monotonic_ns())
            if self._loaded:
                self._arm()

    def release(self, now_ns: int) -> None:
        """Let go of the detectors that are idle. One that looks at a picture now lives on until it has."""
        with self._lock:
            idle = [n for n in self._loaded if now_ns - self._used_ns[n] >= self._models.idle]
            for name in idle:
                del self._loaded[name]
        if idle:  # malloc would keep what they had: nothing has grown, so that nobody else gives it back
            release_free_heap()

    def __iter__(self) -> Iterator[str]:
        return iter(FINDERS)

    def __len__(self) -> int:
        return len(FINDERS)
