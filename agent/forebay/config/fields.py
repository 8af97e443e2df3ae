"""Options of one field. Stand-in until the real one is merged."""

from __future__ import annotations

from pydantic import Field

from forebay.blocks import Grade, Type
from forebay.config.base import Options


class FieldOptions(Options):
    """What is known about a field."""

    type: Type | None = None
    """Type; without one, the type that the data has."""
    unit: str = ""
    """Unit, e.g. `°C`."""
    grade: Grade | None = None
    """Grade after GB/T 43697."""
    description: str = ""
    """What it measures."""
    decimals: int | None = Field(default=None, ge=0, le=15)
    """Decimals kept."""
