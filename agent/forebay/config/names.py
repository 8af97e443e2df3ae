"""Names of sources, pipelines, streams and fields."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

_NAME = re.compile(r"[^\s\x00-\x1f\x7f/\\\"'`]([^\x00-\x1f\x7f/\\\"'`]{0,62}[^\s\x00-\x1f\x7f/\\\"'`])?")


def check_name(text: str) -> str:
    """Check the name of a source, pipeline, stream or field. Raises ValueError."""
    if not _NAME.fullmatch(text):
        raise ValueError(
            "expected a name of 1 to 64 characters without quotes, slashes and spaces at the ends"
        )
    return text


Name = Annotated[
    str, AfterValidator(check_name), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 64})
]
"""Name of a source, pipeline, stream or field."""
