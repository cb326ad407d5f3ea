"""Conformance of the API with its OpenAPI description, by generated requests (schemathesis)."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.app import create_app
from tests.service.conftest import ABLE, Running, running, settings_for
from tests.support.redis_server import RedisServer

EXAMPLES = 40  # of each operation
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
DESCRIPTION = schemathesis.openapi.from_dict(create_app(settings_for("redis://unused")).openapi())
OPERATIONS = [
    found.ok()
    for found in DESCRIPTION.include(path_regex="^/v1/").get_all_operations()  # /readyz may be 503
    if isinstance(found, Ok)
]


@pytest.fixture(scope="module")
def described(redis_server: RedisServer) -> Iterator[Running]:
    bounds = {"max_queue_length": 10_000, "max_queue_per_client": 10_000}
    with running(redis_server.url, ABLE, **bounds) as service:
        yield service


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_response_matches_the_description(
    described: Running, operation: APIOperation[Any, Any, Any, Any], data: st.DataObject
) -> None:
    case = data.draw(operation.as_strategy())
    case.call_and_validate(base_url=described.url, checks=CHECKS)


def test_all_operations_are_described() -> None:
    assert len(OPERATIONS) >= 14
