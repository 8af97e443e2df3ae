"""The steps `select`, `drop` and `rename`: which fields go on, and under what names."""

from __future__ import annotations

import logging
from dataclasses import replace

from forebay.blocks import Block, Field
from forebay.config.preprocess import DropOptions, RenameOptions, SelectOptions
from forebay.errors import ConfigError
from forebay.preprocess.base import Worker

log = logging.getLogger(__name__)


class ChooseWorker(Worker):
    """Passes the selected fields, or all but the dropped ones; the key always passes."""

    def __init__(self, options: SelectOptions | DropOptions, key: str) -> None:
        super().__init__()
        self._names = {name.casefold() for name in options.fields}
        self._keep = isinstance(options, SelectOptions)
        self._key = key
        if not self._keep and key.casefold() in self._names:
            raise ConfigError(f"the key field `{key}` cannot be dropped", hint="rows could not be told apart")

    def process(self, block: Block) -> list[Block]:
        """See stages.Step."""
        keys = {self._key.casefold(), block.schema.key.casefold()} - {""}
        chosen = [
            i
            for i, field in enumerate(block.schema.fields)
            if field.name.casefold() in keys or (field.name.casefold() in self._names) == self._keep
        ]
        if len(chosen) == len(block.columns):
            return [block]
        if all(block.schema.fields[i].name.casefold() in keys for i in chosen):
            return []  # nothing but the key: no readings are left
        schema = replace(block.schema, fields=tuple(block.schema.fields[i] for i in chosen))
        return [replace(block, schema=schema, columns=tuple(block.columns[i] for i in chosen))]


class RenameWorker(Worker):
    """Gives fields other names; a name that another field has already is not given (logged once)."""

    def __init__(self, options: RenameOptions, key: str) -> None:
        super().__init__()
        self._names = {old.casefold(): new for old, new in options.fields.items()}
        self._told: set[str] = set()
        if key and key.casefold() in self._names:
            raise ConfigError(
                f"the key field `{key}` cannot be renamed by a step", hint="rename it at the source"
            )

    def process(self, block: Block) -> list[Block]:
        """See stages.Step."""
        taken = {f.name.casefold() for f in block.schema.fields if f.name.casefold() not in self._names}
        fields = tuple(self._renamed(field, block.schema.key, taken) for field in block.schema.fields)
        if fields == block.schema.fields:
            return [block]
        return [replace(block, schema=replace(block.schema, fields=fields))]

    def _renamed(self, field: Field, key: str, taken: set[str]) -> Field:
        new = self._names.get(field.name.casefold())
        if new is None or new == field.name or field.name == key:
            return field
        if new.casefold() in taken:
            if new not in self._told:
                self._told.add(new)
                log.warning("step rename: `%s` keeps its name, there is a field `%s`", field.name, new)
            self.counts["refused"] += 1
            return field
        return replace(field, name=new, given=field.given or field.name)
