"""The base of what a client sends: an optional field may also be null."""

from collections.abc import Mapping
from typing import Any

from pydantic import GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue

from protocol.record import Record

NULL = {"type": "null"}
ABOUT = frozenset({"title", "description", "default", "examples"})  # of a field, not of its type


class ClientRecord(Record):
    """A record as clients write it: null in an optional field is the same as leaving it out.

    Some clients write every field that they know, and null for those without a value.
    """

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: object) -> object:
        if not isinstance(values, Mapping) or None not in values.values():
            return values
        optional = {
            field.alias or name
            for name, field in cls.model_fields.items()
            if not field.is_required()
        }
        return {
            name: value
            for name, value in values.items()
            if value is not None or name not in optional
        }

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: Any, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        if handler.mode == "validation":
            own = handler.resolve_ref_schema(schema)
            for name, field in own.get("properties", {}).items():
                if name not in own.get("required", ()):
                    own["properties"][name] = _or_null(field)
        return schema


def _or_null(field: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a field that may also be null."""
    if NULL in field.get("anyOf", ()):
        return field
    about = {key: value for key, value in field.items() if key in ABOUT}
    kind = {key: value for key, value in field.items() if key not in ABOUT}
    return {"anyOf": [kind, NULL], **about}
