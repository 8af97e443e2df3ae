"""One tree of errors. Whose fault it is is the first split; an error is data, not only a sentence.

Messages about data name type, length and place, never the value: an error text goes to logs, and logs
are disk.
"""

from __future__ import annotations


class ForebayError(Exception):
    """Base of all errors of this product.

    Parameters
    ----------
    message : str
        What was expected and what came. Never a data value.
    place : str
        Where: `FILE:LINE:COL`, a path of keys, a stream, an endpoint.
    hint : str
        What the reader can do, best a command to run.
    retryable : bool
        Whether the same operation may succeed later without a change.
    """

    retryable = False

    def __init__(
        self, message: str, *, place: str = "", hint: str = "", retryable: bool | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.hint = hint
        if retryable is not None:
            self.retryable = retryable

    def __str__(self) -> str:
        text = f"{self.place}: {self.message}" if self.place else self.message
        return f"{text} ({self.hint})" if self.hint else text


class ConfigError(ForebayError, ValueError):
    """The configuration is wrong: the engineer's to mend."""


class KeyFileError(ConfigError):
    """A key file is missing, malformed or readable by others."""


class InputError(ForebayError, ValueError):
    """Data from outside is broken: counted and set aside, never a reason to stop."""


class WireError(InputError):
    """Bytes that are not a valid batch or message."""


class ModelError(ForebayError):
    """A model bundle cannot be loaded or does not fit its input."""


class MaskError(ForebayError):
    """Masking could not do its work; the guard closes."""


class SpoolError(ForebayError):
    """The durable buffer cannot do what it was asked."""


class SpoolFull(SpoolError):
    """The quota is reached and policy says block."""

    retryable = True


class LinkError(ForebayError):
    """The other end cannot be reached or refuses."""

    retryable = True


class MissingExtra(ForebayError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs an optional dependency that is not installed",
            hint=f"pip install 'forebay[{extra}]'",
        )
