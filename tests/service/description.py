"""The OpenAPI description as tests read it, and the comparison of responses with it."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from service.app import create_app
from service.settings import ServiceSettings

Description = dict[str, Any]
JSON = "application/json"
# Problems of requests that do not match the schema. Other problems depend on the model, on several
# fields or on the content of a file.
OF_SCHEMA = frozenset(
    {
        *("missing-field", "unknown-field", "not-for-this-task", "wrong-type", "invalid-value"),
        *("out-of-range", "not-finite", "unknown-choice", "malformed", "text-not-printable"),
        *("too-short", "too-long", "too-few", "too-many"),
    }
)


@cache
def description_of(**changed: object) -> Description:
    """Return the description of a service whose settings differ as in `changed`.

    All callers share it, and must not change it.
    """
    settings = {"redis_url": "redis://unused", "object_store_url": "memory:///"}
    return create_app(ServiceSettings.model_validate(settings | changed)).openapi()


def validator(schema: Description, description: Description) -> Draft202012Validator:
    """Return a validator for `schema`, whose references are those of the description."""
    return Draft202012Validator({"components": description["components"], **schema})


def operations(description: Description) -> Iterator[tuple[str, str, Description]]:
    """Yield method, path and description of each operation."""
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def body_validators(description: Description) -> dict[str, Draft202012Validator]:
    """Return a validator of the JSON body of each path that takes one."""
    return {
        path: validator(operation["requestBody"]["content"][JSON]["schema"], description)
        for _, path, operation in operations(description)
        if JSON in operation.get("requestBody", {}).get("content", {})
    }


def disagreement(matches: bool, status: int, problem: dict[str, Any]) -> str | None:
    """Return in which way a response contradicts the schema, or None.

    `matches`: whether the request's body matches the schema.
    """
    if not matches:
        return None if 400 <= status < 500 else f"does not match the schema, and got a {status}"
    kind = problem.get("type", "").rpartition(":")[2]
    # Some models need a prompt for a task for which others take none.
    by_model = (kind, problem.get("field")) == ("missing-field", "prompt")
    if status == 422 and kind in OF_SCHEMA and not by_model:
        return f"matches the schema, but {problem['detail']}"
    return None


def resolved(part: Description, description: Description) -> Description:
    """Return the component that a reference names; anything else unchanged."""
    if "$ref" not in part:
        return part
    found: Any = description
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return dict(found)


def check_described(response: httpx.Response) -> None:
    """Check that the route of a response describes its status, header fields and body.

    A hook for the responses of an httpx client. The body of a stream is not read.
    """
    operation = _operation(response.request.method, response.request.url.path)
    if operation is None:  # a page, or a request that no route takes
        return
    name, status = operation["operationId"], str(response.status_code)
    assert status in operation["responses"], f"{name} does not describe the status {status}"
    described = resolved(operation["responses"][status], description_of())
    for field, header in described["headers"].items():
        required = resolved(header, description_of()).get("required", False)
        assert field in response.headers or not required, f"{name} has no {field} at {status}"
    if "content" not in described:
        return
    contents = {media_type(kind): content for kind, content in described["content"].items()}
    kind = media_type(response.headers.get("content-type", ""))
    assert kind in contents, f"{name} does not describe {kind} at {status}"
    if kind.endswith("json"):
        response.read()
        _validator(json.dumps(contents[kind]["schema"])).validate(response.json())


def media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip()


def _operation(method: str, path: str) -> Description | None:
    for template, methods in description_of()["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            found: Description | None = methods.get(method.lower())
            return found
    return None


@cache
def _validator(schema: str) -> Draft202012Validator:
    """Return the validator for a schema as JSON."""
    return validator(json.loads(schema), description_of())
