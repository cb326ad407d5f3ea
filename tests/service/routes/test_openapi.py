"""Conformance of the API with its OpenAPI description, by generated requests (schemathesis)."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.dialects.registry import DIALECTS
from tests.service.conftest import ABLE, Running, running
from tests.service.description import description_of, operations
from tests.support.redis_server import RedisServer

EXAMPLES = 8  # of each operation
DESCRIPTION = description_of()
WITH_STATE = ("/healthz", "/readyz")  # may be 503


def has_wrong_input(path: str, operation: dict[str, Any]) -> bool:
    """Return True if an operation can be sent what its description forbids.

    Dialects take any text in their paths.
    """
    of_dialect = DIALECTS.keys() & set(operation["tags"])
    return "requestBody" in operation or ("{" in path and not of_dialect)


OPERATIONS = {
    operation["operationId"]: has_wrong_input(path, operation)
    for _, path, operation in operations(DESCRIPTION)
    if path not in WITH_STATE
}
SAMPLE = {
    *("openai_generations", "webui_img2img", "webui_progress"),
    *("txt2img", "layout", "list_jobs", "retry_job", "cancel_job", "get_image"),
    *("list_models", "metrics"),
}


def cases() -> Iterator[Any]:
    """Yield each operation with requests that match the description, and with those that do not."""
    for name, can_be_wrong in OPERATIONS.items():
        for mode in ("positive", "negative") if can_be_wrong else ("positive",):
            marks = () if name in SAMPLE else pytest.mark.long
            yield pytest.param(mode, name, id=f"{name} {mode}", marks=marks)


@pytest.fixture(scope="module")
def described(redis_server: RedisServer) -> Iterator[Running]:
    bounds = {"max_queue_length": 10_000, "max_queue_per_client": 10_000}
    with running(redis_server.url, ABLE, **bounds) as service:
        yield service


@pytest.fixture(scope="module")
def api_operations() -> dict[str, Any]:
    from tests.service.routes import conformance

    return conformance.api_operations(DESCRIPTION)


@pytest.mark.parametrize(("mode", "name"), [*cases()])
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_response_matches_the_description(
    described: Running, api_operations: dict[str, Any], mode: str, name: str, data: st.DataObject
) -> None:
    from schemathesis import GenerationMode

    from tests.service.routes.conformance import checks_of

    generation_mode, operation = GenerationMode(mode), api_operations[name]
    case = data.draw(operation.as_strategy(generation_mode=generation_mode))
    case.call_and_validate(base_url=described.url, checks=checks_of(operation, generation_mode))


def test_all_operations_are_described() -> None:
    assert len(OPERATIONS) >= 16
    assert OPERATIONS.keys() >= SAMPLE
