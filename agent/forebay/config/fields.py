"""Options of a pipeline's `fields:` entries."""

from __future__ import annotations

from typing import Literal

from pydantic import Field as Option
from pydantic import model_validator

from forebay.blocks import Grade, Type
from forebay.config.base import Options

PersonalClass = Literal[
    "resident_id", "mobile", "landline", "bank_card", "uscc", "passport", "plate", "vin", "imei", "email",
    "ipv4", "ipv6", "mac", "gps", "name", "address", "face", "person",
]  # fmt: skip


class FieldOptions(Options):
    """One field of a stream. A field that is not listed is taken with the type that it has."""

    type: Type | None = None
    """Type of the values. Without it: `f64` if `unit` or `decimals` is given, else the type that comes."""

    unit: str = Option(default="", max_length=64)
    """Unit of the values, e.g. `°C`."""

    grade: Grade | None = None
    """Grade of the data after GB/T 43697: `general`, `important`, `core`."""

    decimals: int | None = Option(default=None, ge=0, le=15)
    """Decimals to round to, e.g. 2. What the sensor cannot resolve only costs bytes."""

    description: str = Option(default="", max_length=1024)
    """What the field means."""

    identifier: str = Option(default="", max_length=256)
    """Identifier in a catalogue (Handle, OID, Ecode)."""

    classes: tuple[PersonalClass, ...] = ()
    """Personal-data classes that the values belong to."""

    media: Literal["", "image"] = ""
    """`image`: the values are encoded pictures (only with type `bytes`; in JSON and CSV as base64 or a `data:` URI)."""

    from_: str = Option(default="", alias="from", max_length=512)
    """Name of the field in the source, if it has another; `a.b` for a key inside an object."""

    @model_validator(mode="after")
    def _fits_together(self) -> FieldOptions:
        if self.decimals is not None and self.type not in (None, Type.F64):
            raise ValueError(f"`decimals` needs a field of type f64, found {self.type}")
        if self.media and self.type is not Type.BYTES:
            raise ValueError("`media: image` needs `type: bytes`")
        return self

    @property
    def known_type(self) -> Type | None:
        """Type as declared or as unit and decimals imply it; None: whatever comes."""
        if self.type is None and (self.unit or self.decimals is not None):
            return Type.F64
        return self.type
