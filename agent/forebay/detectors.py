"""Which bundle finds what a policy can cover in pictures. Above the rooms: it joins `mask` and `infer`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


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
    """

    bundle: str
    classes: tuple[str, ...] = ()
    tiles: int = 1
    threshold: float | None = None


FINDERS: dict[str, Finder] = {
    "face": Finder("faces", threshold=0.25),
    "plate": Finder("plates-cn"),
    "person": Finder("street-objects", ("Person",), tiles=2, threshold=0.3),
    "text": Finder("text-lines"),
}


class Detectors(Mapping[str, Any]):
    """Detectors by class, each loaded when a picture needs it first: most agents never see one.

    Parameters
    ----------
    tiles : of the policy's `images`; None: what suits each detector
    """

    def __init__(self, tiles: int | None = None) -> None:
        self._tiles = tiles
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            finder = FINDERS[name]
            from forebay.infer.vision import load_detector

            tiles = finder.tiles if self._tiles is None else self._tiles
            self._loaded[name] = load_detector(
                finder.bundle, finder.threshold, classes=finder.classes, tiles=tiles
            )
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(FINDERS)

    def __len__(self) -> int:
        return len(FINDERS)
