"""Agreement of the schemas of request bodies with what the service accepts, in both directions."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.request.tasks import Task
from service.schemas.examples import IMAGE, REQUEST_EXAMPLES
from service.schemas.requests import REQUESTS
from tests.service.conftest import ABLE, Running, running
from tests.service.description import (
    Description,
    body_validators,
    description_of,
    disagreement,
    validator,
)
from tests.support.redis_server import RedisServer

EXAMPLES = 25  # of each task
DESCRIPTION = description_of()
SCHEMAS = DESCRIPTION["components"]["schemas"]
VALIDATORS = body_validators(DESCRIPTION)
ASYNC = {"Prefer": "respond-async"}

OTHERS: list[Any] = [
    None,
    True,
    0,
    -1,
    1.0,
    0.5,
    10**400,
    "",
    "1",
    "x",
    "null",
    "\0",
    [],
    {},
    [{}],
    ["x"],
]


def around(schema: Description) -> list[Any]:
    """Return values at the bounds of a schema, on both sides of them, and of other types."""
    return _around(schema) + OTHERS


def _around(schema: Description) -> list[Any]:
    match schema:
        case {"$ref": reference}:
            return _around(SCHEMAS[reference.rpartition("/")[2]])
        case {"anyOf": kinds} | {"oneOf": kinds}:
            return [value for kind in kinds for value in _around(kind)]
        case {"enum": [first, *others]}:
            return [first, *others, first.upper(), f"{first} "]
        case {"contentEncoding": "base64"}:
            return [IMAGE, f"data:image/png;base64,{IMAGE}"]
        case {"type": "integer" | "number"}:
            return _numbers(schema)
        case {"type": "string"}:
            short, long = schema.get("minLength", 0), schema.get("maxLength", 30)
            return ["x" * length for length in (long, long + 1, short, max(short - 1, 0))]
        case {"type": "array", "items": items}:
            values = [[value] for value in around(items)]
            return [*values, values[0] * schema["maxItems"], values[0] * (schema["maxItems"] + 1)]
        case {"type": "object", "properties": properties}:
            return _objects(properties, schema["required"])
        case _:
            return []


def _numbers(schema: Description) -> list[Any]:
    names = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
    bounds = [schema[name] for name in names if name in schema]
    near = [bound + step for bound in bounds for step in (-1, -1e-9, 0, 1e-9, 1)]
    return [0.5, *near, *map(float, bounds), *map(int, bounds), *map(str, bounds), bounds]


def _objects(properties: Description, required: list[str]) -> list[Any]:
    """Return a valid object, it with another value in one field, without one, with one more."""
    valid = {name: _valid(properties[name]) for name in required}
    changed = [{**valid, name: value} for name in properties for value in around(properties[name])]
    fewer = [{key: valid[key] for key in valid if key != name} for name in valid]
    return [valid, *changed, *fewer, {**valid, "unknown": 0}]


def _valid(schema: Description) -> Any:
    return next(filter(validator(schema, DESCRIPTION).is_valid, _around(schema)))


def fields_of(task: Task) -> dict[str, Description]:
    """Return the schemas of all fields that any task has; those that this one has not are empty."""
    every: dict[str, Description] = {
        name: {} for request in REQUESTS.values() for name in request.model_fields
    }
    return every | SCHEMAS[REQUESTS[task].__name__]["properties"] | {"unknown": {}}


def single_changes() -> dict[Task, list[tuple[str, Any]]]:
    """Return the changes of one field to try with each task, equal fields with one task only."""
    seen: set[str] = set()
    changes: dict[Task, list[tuple[str, Any]]] = {task: [] for task in Task}
    for task in Task:
        for name, schema in fields_of(task).items():
            if (text := json.dumps([name, schema])) not in seen:
                seen.add(text)
                changes[task] += [(name, value) for value in around(schema)]
    return changes


CHANGES = single_changes()


@st.composite
def bodies(draw: st.DrawFn, task: Task) -> dict[str, Any]:
    """Return the example request of a task with up to three fields changed, and one left out."""
    fields = fields_of(task)
    names = draw(st.sets(st.sampled_from(sorted(fields)), max_size=3))
    changed = {name: draw(st.sampled_from(around(fields[name]))) for name in sorted(names)}
    left_out = draw(st.sampled_from([None, *REQUEST_EXAMPLES[task]]))
    body = {**REQUEST_EXAMPLES[task], **changed}
    return {name: value for name, value in body.items() if name != left_out}


def contradiction(service: Running, task: Task, body: Description) -> str | None:
    """Send a request and return in which way the response contradicts the schema."""
    path = f"/v1/{task.value}"
    response = service.client.post(path, json=body, headers=ASYNC)
    problem = response.json() if response.status_code >= 400 else {}
    found = disagreement(VALIDATORS[path].is_valid(body), response.status_code, problem)
    return found and f"{found}: {json.dumps(body)[:500]}"


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    """Run a service of its own, whose jobs wait: only their submission is tested."""
    bounds = {"max_queue_length": 100_000, "max_queue_per_client": 100_000}
    with RedisServer() as server, running(server.url, ABLE, **bounds) as service:
        service.worker.hold()
        yield service


@pytest.mark.parametrize("task", Task)
def test_what_matches_the_schema_is_accepted_and_nothing_else(service: Running, task: Task) -> None:
    example = REQUEST_EXAMPLES[task]
    found = [
        contradiction(service, task, {**example, name: value}) for name, value in CHANGES[task]
    ]
    assert [*filter(None, found)] == []


@pytest.mark.parametrize("task", Task)
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_several_fields_at_once(service: Running, task: Task, data: st.DataObject) -> None:
    assert contradiction(service, task, data.draw(bodies(task))) is None


@pytest.mark.parametrize("task", Task)
def test_fields_of_other_tasks_may_be_left_empty(service: Running, task: Task) -> None:
    """Programs that write every field of an object send null."""
    path, empty = f"/v1/{task.value}", list[dict[str, Any]]()
    for name, field in SCHEMAS[REQUESTS[task].__name__]["properties"].items():
        if field.get("description") == "Not for this task.":
            empty.append({name: "" if field.get("const") == "" else None})
    for fields in empty:
        body = {**REQUEST_EXAMPLES[task], **fields}
        response = service.client.post(path, json=body, headers=ASYNC)
        assert response.status_code == 202, response.text
        assert VALIDATORS[path].is_valid(body)


def test_files_of_other_tasks_may_be_left_empty_in_forms(service: Running) -> None:
    """A form sends a text field that nobody filled in, or a file field without a file."""
    for empty in ((None, ""), ("", "")):
        form = {"prompt": (None, "x"), "image": (None, ""), "mask": empty}
        response = service.client.post("/v1/txt2img", files=form, headers=ASYNC)
        assert response.status_code == 202, response.text


def test_files_of_other_tasks_must_not_be_given(service: Running) -> None:
    body = {"prompt": "x", "image": IMAGE}
    response = service.client.post("/v1/txt2img", json=body, headers=ASYNC)
    assert response.status_code == 422
    assert response.json()["field"] == "image"
