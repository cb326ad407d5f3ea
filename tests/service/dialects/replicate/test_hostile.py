"""Hostile requests: each gets a 4xx with a text as detail, and the service goes on."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.dialects.diffusion_fields import ALIASES as SHARED
from service.dialects.diffusion_fields import OWN
from service.dialects.replicate.inputs import ALIASES, NAMES
from tests.service.conftest import Running
from tests.service.dialects.hostile_bodies import FORM, FORMS, JSON_BODIES, WRONG
from tests.service.dialects.replicate.asking import MODEL_PATH, PATH, create, generated

FIELDS = (*NAMES, *ALIASES, *SHARED, *OWN, "scheduler", "size", "aspect_ratio")
TOP = ("version", "input", "webhook", "webhook_completed", "webhook_events_filter", "stream")


def check(response: Any) -> None:
    assert 400 <= response.status_code < 500, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert isinstance(problem["detail"], str)
    assert problem["status"] == response.status_code
    assert len(response.content) < 2000


@pytest.mark.parametrize("path", [PATH, MODEL_PATH])
@pytest.mark.parametrize("body", JSON_BODIES, ids=range(len(JSON_BODIES)))
def test_broken_json(replicate: Running, path: str, body: bytes) -> None:
    check(replicate.client.post(path, content=body))


@pytest.mark.parametrize("body", FORMS, ids=range(len(FORMS)))
def test_broken_forms(replicate: Running, body: bytes) -> None:
    check(replicate.client.post("/v1/files", content=body, headers={"Content-Type": FORM}))


@pytest.mark.parametrize("name", FIELDS)
def test_wrong_values_of_an_input(replicate: Running, name: str) -> None:
    """A value that a field happens to take is a prediction like any other."""
    hostile: list[Any] = [[[]], {"a": {"b": []}}, "\0", 10**400]
    for value in hostile:
        response = create(replicate, {"prompt": "x", name: value})
        if response.status_code == 201:
            replicate.client.post(f"{PATH}/{response.json()['id']}/cancel")
        else:
            check(response)


@pytest.mark.parametrize("name", TOP)
@pytest.mark.parametrize("value", WRONG, ids=range(len(WRONG)))
def test_wrong_values_of_a_request(replicate: Running, name: str, value: Any) -> None:
    body = {"version": "tiny", "input": {"prompt": "x"}, name: value}
    try:
        response = replicate.client.post(PATH, json=body)
    except (UnicodeEncodeError, ValueError):  # the client cannot send it
        return
    if response.status_code == 201:
        replicate.client.post(f"{PATH}/{response.json()['id']}/cancel")
    else:
        check(response)


@pytest.mark.parametrize(
    "path",
    ["/v1/predictions/x", "/v1/predictions/..%2f", "/v1/files/" + "0" * 33, "/v1/files/%00"],
)
def test_wrong_ids(replicate: Running, path: str) -> None:
    for method in ("GET", "DELETE", "POST"):
        check(replicate.client.request(method, path))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), values, max_size=4))
def test_any_input_is_a_prediction_or_a_problem(replicate: Running, sent: dict[str, Any]) -> None:
    try:
        response = create(replicate, sent)
    except (UnicodeEncodeError, ValueError):
        return
    if response.status_code == 201:
        replicate.client.post(f"{PATH}/{response.json()['id']}/cancel")
    else:
        check(response)


def test_service_goes_on(replicate: Running) -> None:
    generated(replicate)
