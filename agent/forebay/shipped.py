"""Where the files beside the code are: in the wheel, or in the checkout."""

from __future__ import annotations

from pathlib import Path

from forebay.errors import ForebayError


def path(kind: str) -> Path:
    """Return the folder of shipped files of a kind, e.g. `config` or `models`.

    Raises
    ------
    ForebayError
        Neither the package nor the checkout has such a folder.
    """
    package = Path(__file__).parent
    for folder in (package / "_shipped" / kind, package.parents[1] / kind):
        if folder.is_dir():
            return folder
    raise ForebayError(
        f"the shipped folder `{kind}` is missing", hint="install the package again, or run from a checkout"
    )
