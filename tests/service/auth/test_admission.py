"""Limits of API keys by HTTP: what counts, what costs nothing, and what is never refused."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection

import httpx
import pytest

from protocol.queue.job_queue import queue_name
from tests.service.conftest import CARD, Running, running
from tests.service.keys import key_for
from tests.service.sample_images import gradient, packed
from tests.support.redis_server import RedisServer

ONE_JOB = 64 * 64 * 4  # pixel-steps of the default request
ASYNC = {"Prefer": "respond-async"}
BODY = {"prompt": "x", "seed": 1}


@pytest.fixture
def secured(redis_url: str) -> Iterator[Running]:
    with running(redis_url, auth="required") as service:
        service.worker.hold()
        yield service


def post(
    service: Running, key: dict[str, str], order: str = "", **fields: object
) -> httpx.Response:
    headers = key | ASYNC | ({"Idempotency-Key": order} if order else {})
    return service.client.post("/v1/txt2img", json=BODY | fields, headers=headers)


def problem(response: httpx.Response) -> str:
    return str(response.json()["type"].rpartition(":")[2])


def test_polling_events_and_cancelling_are_never_refused(secured: Running) -> None:
    key = key_for(secured, requests_per_minute=1)
    path = post(secured, key).headers["location"]
    assert problem(post(secured, key)) == "rate-limited"
    for _ in range(5):
        assert secured.client.get(path, headers=key).status_code == 200
        assert secured.client.get("/v1/models", headers=key).status_code == 200
    with secured.client.stream("GET", f"{path}/events", headers=key) as events:
        assert events.status_code == 200
    assert secured.client.delete(path, headers=key).json()["state"] == "cancelled"


def test_retry_is_free_whatever_its_key_has_left(secured: Running) -> None:
    key = key_for(secured, requests_per_minute=1, pixel_steps_per_minute=ONE_JOB, jobs=1)
    first = post(secured, key, "order 1")
    for _ in range(3):
        again = post(secured, key, "order 1")
        assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert problem(post(secured, key, "order 2")) == "rate-limited"
    assert problem(post(secured, key)) == "rate-limited"


def test_retry_of_a_running_or_ended_job_is_free(secured: Running) -> None:
    key = key_for(secured, requests_per_minute=1, jobs=1)
    secured.worker.hold_at_step = 1
    path = post(secured, key, "order 1").headers["location"]
    while secured.client.get(path, headers=key).json()["state"] != "running":
        pass
    assert post(secured, key, "order 1").headers["location"] == path
    secured.worker.release()
    while secured.client.get(path, headers=key).json()["state"] != "finished":
        pass
    assert post(secured, key, "order 1").headers["location"] == path


def test_concurrent_retries_are_one_request(secured: Running) -> None:
    key = key_for(secured, requests_per_minute=1, jobs=1)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: post(secured, key, "order 1"), range(12)))
    assert {answer.json()["id"] for answer in answers} == {*secured.worker.waiting()}
    assert len(secured.worker.waiting()) == 1


def test_refused_request_gives_back_what_it_took(redis_url: str) -> None:
    with running(redis_url, auth="required", max_queue_length=2) as secured:
        secured.worker.hold()
        key = key_for(secured, requests_per_minute=3, pixel_steps_per_minute=3 * ONE_JOB, jobs=3)
        paths = [post(secured, key).headers["location"] for _ in range(2)]
        for _ in range(5):
            assert problem(post(secured, key)) == "queue-full"
        secured.client.delete(paths[0], headers=key)
        pace = f"darkroom:pace:{queue_name(CARD.name)}"
        secured.worker.redis.hset(pace, mapping={"ended": 1, "busy": 1000})
        for _ in range(5):
            assert problem(post(secured, key, deadline_s=1)) == "would-miss-deadline"
        assert post(secured, key).status_code == 202


def test_request_refused_for_one_limit_costs_nothing_of_another(secured: Running) -> None:
    key = key_for(secured, requests_per_minute=2, jobs=1)
    path = post(secured, key).headers["location"]
    for _ in range(5):
        assert problem(post(secured, key)) == "too-many-jobs"
    secured.client.delete(path, headers=key)
    assert post(secured, key).status_code == 202


def test_request_that_redis_refuses_costs_nothing() -> None:
    with RedisServer() as server, running(server.url, auth="required") as secured:
        secured.worker.hold()
        key = key_for(secured, requests_per_minute=1, pixel_steps_per_minute=ONE_JOB, jobs=1)
        secured.worker.redis.config_set("maxmemory", 1)
        for _ in range(3):
            assert problem(post(secured, key)) == "queue-unavailable"
        secured.worker.redis.config_set("maxmemory", 0)
        assert post(secured, key).status_code == 202


def test_invalid_requests_count(secured: Running) -> None:
    key = key_for(secured, requests_per_minute=2)
    assert post(secured, key, steps=0).status_code == 422
    malformed = secured.client.post("/v1/txt2img", content=b"{", headers=key)
    assert malformed.status_code in (400, 415)
    assert problem(post(secured, key)) == "rate-limited"


def test_body_is_not_read_when_no_request_is_left(secured: Running) -> None:
    key = key_for(secured, requests_per_minute=1)
    post(secured, key, "order 1")
    for order in ({}, {"Idempotency-Key": "order 2"}):
        with closing(HTTPConnection(httpx.URL(secured.url).netloc.decode(), timeout=10)) as http:
            http.putrequest("POST", "/v1/txt2img")
            for name, value in {**key, **order, "Content-Length": "10"}.items():
                http.putheader(name, value)
            http.endheaders()
            assert http.getresponse().status == 429


def test_reused_key_with_another_body_is_invalid(secured: Running) -> None:
    key = key_for(secured, requests_per_minute=1)
    post(secured, key, "order 1")
    assert problem(post(secured, key, "order 1", prompt="y")) == "idempotency-key-reused"


def test_retry_with_images_is_free(secured: Running) -> None:
    key = key_for(secured, requests_per_minute=1, jobs=1)
    headers = key | ASYNC | {"Idempotency-Key": "order 1"}
    answers = [
        secured.client.post(
            "/v1/img2img",
            data={"prompt": "x"},
            files={"image": packed(gradient())},
            headers=headers,
        )
        for _ in range(3)
    ]
    assert len({answer.json()["id"] for answer in answers}) == 1
