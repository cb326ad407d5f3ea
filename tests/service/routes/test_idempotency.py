"""A request sent again with its own key is the same job."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.service.conftest import Running

BODY = {"prompt": "a red heart", "steps": 2}


def post(service: Running, key: str | None, **changes: Any) -> httpx.Response:
    headers = {"Prefer": "respond-async"} | ({"Idempotency-Key": key} if key else {})
    return service.client.post("/v1/txt2img", json=BODY | changes, headers=headers)


def test_it_is_drawn_once_whatever_seed_it_got(service: Running) -> None:
    service.worker.hold()
    first, again = post(service, "order 1"), post(service, "order 1")
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    assert service.worker.waiting() == [first.json()["id"]]


def test_it_gets_the_pictures_of_the_first_try(service: Running) -> None:
    headers = {"Idempotency-Key": "order 1"}
    first, again = (
        service.client.post("/v1/txt2img", json=BODY, headers=headers).json() for _ in range(2)
    )
    assert first["id"] == again["id"]
    assert first["images"] == again["images"]
    assert len(service.worker.seen) == 1


def test_many_at_once_are_one(service: Running) -> None:
    service.worker.hold()
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: post(service, "order 1").json()["id"], range(16)))
    assert len(ids) == 1
    assert service.worker.waiting() == [*ids]


def test_without_a_key_each_is_its_own(service: Running) -> None:
    assert post(service, None).json()["id"] != post(service, None).json()["id"]


def test_a_key_for_something_else_is_refused(service: Running) -> None:
    post(service, "order 1")
    refusal = post(service, "order 1", prompt="a blue heart")
    assert refusal.status_code == 422
    assert refusal.json()["field"] == "Idempotency-Key"
    assert refusal.json()["type"].endswith("idempotency-key-reused")


def test_an_unfit_key_is_refused(service: Running) -> None:
    refusal = post(service, "x" * 256)
    assert refusal.status_code == 422
    assert refusal.json()["type"].endswith("bad-idempotency-key")
