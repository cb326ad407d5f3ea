"""The OpenAPI description of the service."""

from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from service.dialects.dialect import Dialect
from service.middleware.public_paths import HEALTH, METRICS
from service.schemas.body_parser import JSON_TYPE
from service.schemas.problem_responses import problem_components
from service.schemas.request_bodies import PARAMETERS, request_schemas
from service.schemas.response_examples import response_examples
from service.settings import ServiceSettings

TITLE = "Darkroom"
DESCRIPTION = """Images from latent diffusion models, by HTTP.

Every error is a problem (RFC 9457), also for a path that does not exist (404) and for a method that
a path does not have (405); the APIs of other systems have their own form of errors. Every response
has an `X-Request-Id`."""
LICENSE = {"name": "Apache License 2.0", "identifier": "Apache-2.0"}
TAGS = [
    {"name": "images", "description": "Generate images, one route for each task."},
    {"name": "jobs", "description": "Jobs and their images."},
    {"name": "files", "description": "Files that clients have uploaded."},
    {"name": "models", "description": "The models, and what they can do."},
    {"name": "keys", "description": "The API key of a client."},
    {"name": "health", "description": "For monitoring."},
]
SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
NO_KEY: dict[str, list[str]] = {}  # a requirement that every request meets
REQUEST_ID = {
    "description": "The `X-Request-Id` of the request, or a new id; the log lines have it, too.",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9-]{1,64}$"},
}

EXAMPLES = {"example", "examples"}

Schema = dict[str, Any]


def operation_id(route: APIRoute) -> str:
    """Return the name of an operation: that of its function. Clients are generated with it."""
    return route.name


def openapi_schema(app: FastAPI, settings: ServiceSettings, dialects: Iterable[Dialect]) -> Schema:
    """Return FastAPI's description, with the request bodies that the routes parse themselves."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            tags=TAGS + [{"name": one.name, "description": one.description} for one in dialects],
            license_info=LICENSE,
        )
        schema["components"] = _components(schema["components"]["schemas"], settings)
        _add_security(schema, settings)
        _add_examples(schema)
        for response in _responses(schema):
            _complete(response)
        app.openapi_schema = schema
    return app.openapi_schema


def _components(response_schemas: Schema, settings: ServiceSettings) -> Schema:
    _remove_null_defaults(response_schemas)
    schemas = response_schemas | request_schemas(settings.image_urls)
    return {
        "schemas": dict(sorted(schemas.items())),
        "parameters": PARAMETERS,
        "responses": problem_components(),
        "headers": {"RequestId": REQUEST_ID},
        "securitySchemes": SECURITY_SCHEMES,
    }


def _add_security(schema: Schema, settings: ServiceSettings) -> None:
    keys: list[dict[str, list[str]]] = [{name: []} for name in SECURITY_SCHEMES]
    schema["security"] = keys if settings.keys_needed else [NO_KEY, *keys]
    for path in HEALTH | ({METRICS} if settings.public_metrics else set()):
        schema["paths"][path]["get"]["security"] = []


def _add_examples(schema: Schema) -> None:
    """Add an example to the JSON response of each operation that has none."""
    examples = response_examples()
    for operations in schema["paths"].values():
        for operation in operations.values():
            for content in _json_successes(operation):
                if operation["operationId"] in examples and not EXAMPLES & content.keys():
                    content["example"] = examples[operation["operationId"]]


def _json_successes(operation: Schema) -> Iterator[Schema]:
    for status, response in operation["responses"].items():
        if status.startswith("2") and JSON_TYPE in response.get("content", {}):
            yield response["content"][JSON_TYPE]


def _responses(schema: Schema) -> Iterator[Schema]:
    """Yield the descriptions of all responses; those of errors are shared by all operations."""
    yield from schema["components"]["responses"].values()
    for operations in schema["paths"].values():
        for operation in operations.values():
            yield from (one for one in operation["responses"].values() if "$ref" not in one)


def _complete(response: Schema) -> None:
    """Add the header field that every response has, and remove a keyword of OpenAPI 3.2."""
    response["headers"] = {
        "X-Request-Id": {"$ref": "#/components/headers/RequestId"},
        **response.get("headers", {}),
    }
    for content in response.get("content", {}).values():
        content.pop("itemSchema", None)


def _remove_null_defaults(schemas: dict[str, Schema]) -> None:
    """Remove the default of fields that responses leave out in place of null."""
    for schema in schemas.values():
        for field in schema.get("properties", {}).values():
            if field.get("default", ...) is None:
                del field["default"]
