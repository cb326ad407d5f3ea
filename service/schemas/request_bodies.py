"""The request bodies of the generation routes in the OpenAPI description, as JSON and as a form."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from protocol.queue.idempotency import HEADER, MAX_LENGTH
from protocol.registry.installs import InstallRequest
from protocol.request.tasks import FIELDS_OF, TASK_FIELDS, Task
from service.schemas.batches import BatchRequest
from service.schemas.body_parser import FORM_TYPE, JSON_TYPE
from service.schemas.controls import FILE_DESCRIPTION, FILE_FIELDS
from service.schemas.examples import REQUEST_EXAMPLES
from service.schemas.requests import (
    INPUT_FILES,
    REQUESTS,
    URL_FIELDS,
    ReadRequest,
    TokensRequest,
)

Schema = dict[str, Any]

REFERENCE = "#/components/schemas/{model}"
NULL: Schema = {"type": "null"}
UNUSED = "Not for this task."
EMPTY: Schema = {"anyOf": [{"const": ""}, NULL]}
NOT_TAKEN: Schema = {
    **EMPTY,
    "description": "Not for this task, or not taken by this service.",
}
BINARY: Schema = {"type": "string", "format": "binary"}
FILE: Schema = {**BINARY, "minLength": 1}

PARAMETERS: dict[str, Schema] = {
    "Prefer": {
        "name": "Prefer",
        "in": "header",
        "description": "`respond-async`: the response comes at once and has the job. `wait=10`: "
        "wait at most ten seconds for the images. Anything else is ignored (RFC 7240).",
        "schema": {"type": "string", "examples": ["respond-async, wait=10"]},
    },
    "IdempotencyKey": {
        "name": HEADER,
        "in": "header",
        "description": "Any printable ASCII characters. A request repeated with the same key is "
        "the same job, for a day.",
        "schema": {
            "type": "string",
            "maxLength": MAX_LENGTH,
            "pattern": "^[!-~]([ -~]*[!-~])?$",
            "examples": ["8e03978e-40d5-43e8-bc93-6894a57f9324"],
        },
    },
    "RequestId": {
        "name": "X-Request-Id",
        "in": "header",
        "description": "An id for the logs: letters, digits and hyphens. Another one is ignored.",
        "schema": {"type": "string"},
    },
}


def parameters(*names: str) -> dict[str, Any]:
    """Return the OpenAPI description of header fields of a request."""
    return {"parameters": [{"$ref": f"#/components/parameters/{name}"} for name in names]}


def generation_operation(task: Task) -> dict[str, Any]:
    """Return the OpenAPI description of the header fields and the request body of a task."""
    return {
        **parameters("Prefer", "IdempotencyKey"),
        **body_operation(REQUESTS[task], REQUEST_EXAMPLES[task]),
    }


def body_operation(body: type[BaseModel], example: Mapping[str, object]) -> dict[str, Any]:
    """Return the OpenAPI description of a request body, as JSON and as a form."""
    json_name, form_name = _names(body)
    json_content = {"schema": {"$ref": REFERENCE.format(model=json_name)}, "example": example}
    form_content = {"schema": {"$ref": REFERENCE.format(model=form_name)}}
    content = {JSON_TYPE: json_content, FORM_TYPE: form_content}
    return {"requestBody": {"required": True, "content": content}}


def request_schemas(image_urls: bool) -> dict[str, Schema]:
    """Return the schemas that `body_operation` refers to; those of tasks have the task's fields.

    `image_urls`: whether the service takes addresses of images.
    """
    bodies: list[type[BaseModel]] = [*REQUESTS.values(), ReadRequest]
    described: list[type[BaseModel]] = [*bodies, BatchRequest, InstallRequest, TokensRequest]
    _, document = models_json_schema(
        [(body, "validation") for body in described], ref_template=REFERENCE
    )
    schemas = {name: without_defaults(schema) for name, schema in document["$defs"].items()}
    for body in bodies:
        schemas[body.__name__] = _with_urls(schemas[body.__name__], image_urls)
    for task, request in REQUESTS.items():
        schemas[request.__name__] = _of_task(task, schemas[request.__name__])
    for body in bodies:
        json_name, form_name = _names(body)
        schemas[form_name] = _form_of(schemas[json_name], form_name)
    return schemas | {BatchRequest.__name__: _batch(schemas[BatchRequest.__name__])}


def _batch(schema: Schema) -> Schema:
    """Return the schema of a batch: that of text to image, with prompts and without images."""
    schema = _of_task(Task.TXT2IMG, schema)
    unused = {name: _left_empty(schema["properties"][name]) for name in ("prompt", "controls")}
    return {**schema, "properties": schema["properties"] | unused}


def _names(body: type[BaseModel]) -> tuple[str, str]:
    """Return the names of the JSON schema and of the form's schema."""
    name = body.__name__
    return name, f"{name.removesuffix('Request')}Form"


def without_defaults(schema: Schema) -> Schema:
    """Return the schema with each default in its field's description only.

    Generators of clients take a field with a default for one that has to be sent.
    """
    if "properties" not in schema:
        return schema
    properties = {name: _without_default(field) for name, field in schema["properties"].items()}
    return {**schema, "properties": properties}


def _without_default(field: Schema) -> Schema:
    default = field.get("default")
    others = {name: value for name, value in field.items() if name != "default"}
    if default in (None, "", []):
        return others
    text = default if isinstance(default, str) else json.dumps(default)
    return {**others, "description": f"{field.get('description', '')} Default: {text}.".strip()}


def _of_task(task: Task, schema: Schema) -> Schema:
    unused = TASK_FIELDS - FIELDS_OF[task]
    properties = {
        name: _left_empty(field) if name in unused else field
        for name, field in schema["properties"].items()
    }
    files = {
        name: {**EMPTY, "description": UNUSED} for name in INPUT_FILES if name not in properties
    }
    return {**schema, "properties": properties | files}


def _left_empty(field: Schema) -> Schema:
    """Return the schema of a field that the task does not take: null, or a text that is empty.

    Programs that write every field of an object send those.
    """
    kinds = field.get("anyOf", [field])
    texts = [kind for kind in kinds if kind.get("type") == "string" and "minLength" not in kind]
    empty = [{"const": ""} for _ in texts] + [NULL for kind in kinds if kind == NULL]
    alternatives = empty[0] if len(empty) == 1 else {"anyOf": empty}
    return {**alternatives, "description": UNUSED}


def _with_urls(schema: Schema, image_urls: bool) -> Schema:
    """Return the schema with an address as the alternative to each image, if any is taken."""
    required = schema.get("required", [])
    fields = schema["properties"]
    urls = {url: field for url, field in URL_FIELDS.items() if image_urls and field in fields}
    properties = {
        url: _url(field) if url in urls else NOT_TAKEN for url, field in URL_FIELDS.items()
    }
    return {
        **schema,
        "properties": fields | properties,
        "required": [field for field in required if field not in urls.values()],
        **_one_of_each(
            [pair for pair in urls.items() if pair[1] in required],
            _mask_unless_alpha([pair for pair in urls.items() if pair[1] == "mask"])
            if "mask" in fields
            else {},
        ),
    }


def _mask_unless_alpha(urls: list[tuple[str, str]]) -> Schema:
    """Return the condition that a mask is given, or its address, if it is not the transparency."""
    alpha = {"required": ["mask_source"], "properties": {"mask_source": {"const": "alpha"}}}
    given = {"required": ["mask"], "properties": {"mask": {"type": "string"}}}
    return {"if": alpha, "else": _one_of_each(urls) if urls else given}


def _url(field: str) -> Schema:
    return {
        "anyOf": [{"type": "string", "format": "uri"}, NULL],
        "description": f"An http or https address to fetch it from, in place of `{field}`.",
    }


def _one_of_each(pairs: list[tuple[str, str]], further: Schema | None = None) -> Schema:
    """Return the condition that exactly one field of each pair is given, and a further one.

    It is not written with `oneOf`, which generators of clients take for a choice of types.
    """
    if not pairs:
        return further or {}
    (url, field), *others = pairs
    rest = _one_of_each(others, further)
    return {
        "if": {"required": [url], "properties": {url: {"type": "string", "minLength": 1}}},
        "then": {"not": {"required": [field]}, **rest},
        "else": {"required": [field], **rest},
    }


def _form_of(schema: Schema, title: str) -> Schema:
    """Return the schema of a form: images are files, lists are JSON text, and nothing is null."""
    fields = {name: field for name, field in schema["properties"].items() if not _is_null(field)}
    properties = {name: _form_field(field) for name, field in fields.items()}
    if "controls" in properties:
        for i, name in enumerate(FILE_FIELDS):
            properties[name] = {**FILE, "description": FILE_DESCRIPTION.format(i=i)}
    return {**schema, "title": title, "properties": properties}


def _is_null(field: Schema) -> bool:
    return field.get("type") == "null"


def _form_field(field: Schema) -> Schema:
    match field:
        case {"contentEncoding": "base64"}:
            return {**FILE, "description": field["description"]}
        case {"type": "array"}:
            return {
                "type": "string",
                "contentMediaType": JSON_TYPE,
                "description": f"{field['description']} As JSON.",
            }
        case {"anyOf": kinds}:
            others = [kind for kind in kinds if not _is_null(kind)]
            if len(others) > 1:
                return {**field, "anyOf": others}
            return _form_field({**others[0], "description": field["description"]})
        case _:
            return field
