"""The OpenAPI description of this dialect's bodies and errors."""

from typing import Any

from service.dialects.comfyui.answers import ComfyError
from service.schemas.body_parser import FORM_TYPE, JSON_TYPE
from service.schemas.problem_responses import CAUSES, HEADERS

READ, WRITE = (401, 403, 421, 500, 503), (400, 408, 413, 415, 429)

Responses = dict[int | str, dict[str, Any]]
Schema = dict[str, Any]

EMPTY: Responses = {200: {"description": "Done; the answer is empty."}}
FLAG: Schema = {"type": "boolean"}
IDS: Schema = {"type": "array", "items": {"type": "string"}}


def errors(*statuses: int) -> Responses:
    """Return the descriptions of errors, which have this dialect's form at every status."""
    return {
        status: {
            "model": ComfyError,
            "description": CAUSES[status],
            "headers": HEADERS.get(status, {}),
        }
        for status in statuses
    }


def body(example: dict[str, Any], required: bool = False, **properties: Schema) -> Schema:
    """Return the description of a JSON body, whatever its content type."""
    schema = {"type": "object", "properties": properties}
    content = {JSON_TYPE: {"schema": schema, "example": example}}
    return {"requestBody": {"required": required, "content": content}}


def form(*required: str, **properties: Schema) -> Schema:
    """Return the description of a form."""
    schema = {"type": "object", "required": list(required), "properties": properties}
    return {"requestBody": {"required": True, "content": {FORM_TYPE: {"schema": schema}}}}
