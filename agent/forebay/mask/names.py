"""Names of fields that hold an identifier: a JSON object may have a phone number for a key.

Names become columns and are stored with each schema, so they are masked like values, once a schema.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from forebay.blocks import Column, Schema, Type
from forebay_core import text_tables as tables
from forebay_core.text import scan


def safe_names(schema: Schema, classes: int) -> tuple[Schema, Counter[str]]:
    """Return the schema with names that hold an identifier replaced, and how many of each class there were.

    Parameters
    ----------
    schema : as the source made it
    classes : bit mask of the classes to look for (forebay_core.text_tables.CODES)
    """
    hits = named_hits(schema, classes)
    if not hits:
        return schema, Counter()
    taken = {name.casefold() for name in schema.names()}
    fields = list(schema.fields)
    for place, class_name in hits.items():
        number = 1
        while f"{class_name}_{number}" in taken:
            number += 1
        name = f"{class_name}_{number}"
        taken.add(name)
        fields[place] = replace(fields[place], name=name, given="")
    key = schema.key
    if schema.index(key) in hits:
        key = fields[schema.index(key)].name
    count = Counter(f"{class_name}:name" for class_name in hits.values())
    return replace(schema, fields=tuple(fields), key=key), count


def named_hits(schema: Schema, classes: int, least_confidence: int = 0) -> dict[int, str]:
    """Return the class found in a field's name, as used or as given in the source, by the field's place."""
    texts = [f"{f.name}\n\n{f.given}" for f in schema.fields]  # an empty line: neither goes on in the other
    column = Column.of(Type.STR, texts)
    if column.offsets is None or not texts:
        return {}
    spans, codes, confidence = scan(np.ascontiguousarray(column.values), column.offsets, classes, 0)
    sure = confidence >= least_confidence
    found = zip(spans[sure, 0].tolist(), codes[sure].tolist(), strict=True)
    return {row: tables.CLASSES[code] for row, code in found}
