"""Requests of two keys: no route shows or touches one of the other's."""

from collections.abc import Iterator

import pytest

from tests.service.conftest import Running, running
from tests.service.dialects.fal.asking import QUEUE, check_error
from tests.service.keys import key_for

ROUTES = (
    ("GET", "/status"),
    ("GET", "/status?logs=1"),
    ("GET", "/status/stream"),
    ("GET", ""),
    ("PUT", "/cancel"),
)


@pytest.fixture
def keyed(redis_url: str) -> Iterator[Running]:
    with running(redis_url, auth="required") as service:
        yield service


def as_fal(headers: dict[str, str]) -> dict[str, str]:
    """Return the header of a key as fal's clients send it."""
    return {"Authorization": headers["Authorization"].replace("Bearer", "Key")}


def test_requests_belong_to_their_key(keyed: Running) -> None:
    first, second = (as_fal(key_for(keyed)) for _ in range(2))
    keyed.worker.hold()
    request = keyed.client.post(QUEUE, json={"prompt": "x"}, headers=first).json()
    path = f"{QUEUE}/requests/{request['request_id']}"
    for method, part in ROUTES:
        check_error(keyed.client.request(method, path + part, headers=second), 404)
        target = {"x-fal-target-url": f"https://queue.fal.run{path[len('/fal/queue') :]}{part}"}
        proxied = keyed.client.request(method, "/api/fal/proxy", headers=second | target)
        check_error(proxied, 404)
    assert keyed.client.get(path + "/status", headers=first).json()["status"] == "IN_QUEUE"
    keyed.worker.release()
    keyed.client.get(path + "/status/stream", headers=first)
    result = keyed.client.get(path, headers=first).json()
    assert keyed.client.get(result["images"][0]["url"]).status_code == 200, "it needs no key"


def test_a_refused_key(keyed: Running) -> None:
    key_for(keyed)
    for path in (QUEUE, "/fal/run/someone/tiny", "/api/fal/proxy"):
        for headers in ({}, {"Authorization": "Key nope"}):
            response = keyed.client.post(path, json={"prompt": "x"}, headers=headers)
            assert "API key" in check_error(response, 401)
