"""The OpenAPI description of this dialect's bodies and errors."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from service.dialects.automatic1111.requests import WebuiBody
from service.dialects.automatic1111.responses import WebuiError
from service.dialects.automatic1111.timed_route import HEADER
from service.schemas.body_parser import JSON_TYPE
from service.schemas.problem_responses import CAUSES, HEADERS

TIME = {HEADER: {"description": "Seconds that the answer took.", "schema": {"type": "string"}}}
READ, WRITE = (401, 403, 421, 500, 503), (400, 408, 413, 415, 422, 429)
WAIT = (404, 409, 504)

ABOUT = ("description", "examples")  # of a field, not of its type

Responses = dict[int | str, dict[str, Any]]

# Of routes that answer null, because their clients parse every answer as JSON.
NULL: Responses = {200: {"headers": TIME, "content": {JSON_TYPE: {"schema": {"type": "null"}}}}}


def errors(*statuses: int) -> Responses:
    """Return the descriptions of errors, which have this dialect's form at every status."""
    described: Responses = {200: {"headers": TIME}}
    for status in statuses:
        described[status] = {
            "model": WebuiError,
            "description": CAUSES[status],
            "headers": HEADERS.get(status, {}),
        }
    return described


def body(kind: type[WebuiBody], example: dict[str, Any]) -> dict[str, Any]:
    """Return the description of a request body, whose fields may all be null or text."""
    return _request_body(_schema(kind), example)


def body_of_list(kind: type[WebuiBody], example: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the description of a request body that is a list of such objects."""
    return _request_body({"type": "array", "items": _schema(kind)}, example)


def _request_body(schema: dict[str, Any], example: object) -> dict[str, Any]:
    content = {"schema": schema, "example": example}
    return {"requestBody": {"required": True, "content": {JSON_TYPE: content}}}


def _schema(kind: type[WebuiBody]) -> dict[str, Any]:
    schema = kind.model_json_schema(schema_generator=_WithoutTitles)
    inner = schema.pop("$defs", {})
    properties = {
        name: _lenient(_inlined(field, inner)) for name, field in schema["properties"].items()
    }
    return {**schema, "properties": properties}


class _WithoutTitles(GenerateJsonSchema):
    """A generator of schemas without titles of fields, which repeat their names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _inlined(schema: dict[str, Any], inner: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a field with that of its items in place of a reference."""
    name = schema.get("items", {}).get("$ref", "").rpartition("/")[2]
    return {**schema, "items": inner[name]} if name else schema


def _lenient(field: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a field that may also be null."""
    about: dict[str, Any] = {key: field[key] for key in ABOUT if key in field}
    kind = {key: value for key, value in field.items() if key not in (*about, "default", "anyOf")}
    kinds = field.get("anyOf") or [kind]
    return {
        "anyOf": [*(one for one in kinds if one != {"type": "null"}), {"type": "null"}],
        **about,
    }
