"""JSON Schema (2020-12) of the configurations, from the options classes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

KINDS = ("agent", "receiver", "policy")


class _Generator(GenerateJsonSchema):
    """Leaves out null, which no configuration may hold, and names the dialect."""

    def generate(
        self, schema: core_schema.CoreSchema, mode: JsonSchemaMode = "validation"
    ) -> JsonSchemaValue:
        return {"$schema": self.schema_dialect, **super().generate(schema, mode)}

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        made = super().default_schema(schema)
        return {k: v for k, v in made.items() if k != "default" or v is not None}


def model_of(kind: str) -> type[BaseModel]:
    """Return the class of a configuration by name."""
    if kind == "agent":
        from forebay.config.agent import AgentConfig

        return AgentConfig
    if kind == "receiver":
        from forebay.config.receiver import ReceiverConfig

        return ReceiverConfig
    from forebay.config.masking import PolicyOptions

    return PolicyOptions


def schema_of(kind: str) -> dict[str, Any]:
    """Return the JSON Schema of `agent`, `receiver` or `policy`."""
    schema = model_of(kind).model_json_schema(schema_generator=_Generator)
    return schema | {
        "title": f"Forebay {kind} configuration" if kind != "policy" else "Forebay masking policy"
    }
