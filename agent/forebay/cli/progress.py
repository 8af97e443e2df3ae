"""Progress of long commands on stderr."""

from __future__ import annotations

import time

import click


class Progress:
    """One line on stderr, written anew at most twice a second."""

    def __init__(self) -> None:
        self._last = 0.0
        self._name = ""
        self._shown = 0

    def file(self, name: str, number: int, count: int) -> None:
        """Begin a file."""
        self._name = f"{number}/{count} {name}" if count > 1 else name
        self._show(self._name)

    def part(self, done: int, of: int) -> None:
        """Tell how much of the file is done."""
        self._show(f"{self._name} {100 * done // max(of, 1)} %".lstrip())

    def read(self, done: int, size: int) -> None:
        """Tell how many bytes of a file were read; a size of 0 is one that nobody knows."""
        if size > done:
            self.part(done, size)
        else:
            self._show(f"{self._name} {done / 1e6:.1f} MB".lstrip())

    def end(self) -> None:
        """Leave the line empty, for good or for something else that is said."""
        if self._shown:
            click.echo("\r" + " " * self._shown + "\r", err=True, nl=False)
            self._shown = 0

    def _show(self, text: str) -> None:
        now = time.monotonic()
        if now - self._last >= 0.5:
            self._last = now
            click.echo("\r" + text.ljust(self._shown), err=True, nl=False)
            self._shown = len(text)
