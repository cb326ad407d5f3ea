"""Batches: all jobs or none, once for each idempotency key, and pages of their jobs."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.service.conftest import Running, running
from tests.service.keys import ADMIN_KEY, key_for

PROMPTS = [f"prompt {index}" for index in range(7)]


@pytest.fixture
def service(redis_url: str) -> Iterator[Running]:
    """Run a service with room for a whole batch."""
    with running(redis_url, max_queue_length=2000, max_queue_per_client=1500) as service:
        yield service


@pytest.fixture
def secured(redis_url: str) -> Iterator[Running]:
    changed = {"max_queue_length": 20, "max_queue_per_client": 20, "admin_key": ADMIN_KEY}
    with running(redis_url, auth="required", **changed) as service:
        yield service


def submit(
    service: Running, key: dict[str, str] | None = None, prompts: object = PROMPTS, **fields: Any
) -> httpx.Response:
    body = {"prompts": prompts, **fields}
    return service.client.post("/v1/batches", json=body, headers=key or {})


def jobs_of(service: Running, path: str, limit: int) -> list[dict[str, Any]]:
    """Return the jobs of a batch from all its pages."""
    jobs: list[dict[str, Any]] = []
    cursor: dict[str, Any] = {}
    while True:
        page = service.client.get(path, params={"limit": limit, **cursor}).json()
        assert len(page["jobs"]) <= limit
        jobs += page["jobs"]
        if "next" not in page:
            return jobs
        cursor = {"cursor": page["next"]}


def test_every_prompt_becomes_a_job(service: Running) -> None:
    accepted = submit(service, steps=2, seed=5)
    assert accepted.status_code == 202, accepted.text
    path = accepted.headers["location"]
    while service.client.get(path).json()["states"]["finished"] < len(PROMPTS):
        pass
    assert [(one.prompt, one.steps, one.seed) for one in service.worker.seen] == [
        (prompt, 2, 5) for prompt in PROMPTS
    ]
    jobs = jobs_of(service, path, limit=3)
    assert len({job["id"] for job in jobs}) == len(PROMPTS)
    image = service.client.get(jobs[6]["result"]["images"][0]["url"])
    assert image.headers["content-type"] == "image/png"
    alone = service.client.get(f"/v1/jobs/{jobs[6]['id']}").json()
    assert alone == jobs[6]


def test_thousand_prompts_in_one_request(service: Running) -> None:
    service.worker.hold()
    accepted = submit(service, prompts=["x"] * 1000)
    assert accepted.status_code == 202, accepted.text
    batch = accepted.json()
    assert (batch["count"], batch["states"]["queued"], len(batch["jobs"])) == (1000, 1000, 50)
    assert len(service.worker.waiting()) == 1000
    seeds = {job["id"] for job in jobs_of(service, accepted.headers["location"], limit=100)}
    assert len(seeds) == 1000
    cancelled = service.client.delete(accepted.headers["location"]).json()
    assert cancelled["states"]["cancelled"] == 1000
    assert service.worker.waiting() == []


@pytest.mark.parametrize(
    ("prompts", "fields", "field"),
    [
        ([], {}, "prompts"),
        (["x"] * 1001, {}, "prompts"),
        ("x", {}, "prompts"),
        (["x", 5], {}, "prompts.1"),
        (["x", "y " * 21], {}, "prompts.1"),
        (["x", "a\0b"], {}, "prompts.1"),
        (["x"], {"prompt": "y"}, "prompt"),
        (["x"], {"steps": 0}, "steps"),
        (["x"], {"model": "unknown"}, "model"),
        (["x"], {"controls": [{"model": "m", "image": "eA=="}]}, "controls"),
        (["x"], {"nonsense": 1}, "nonsense"),
    ],
)
def test_invalid_batch_queues_nothing(
    service: Running, prompts: object, fields: dict[str, Any], field: str
) -> None:
    service.worker.hold()
    response = submit(service, prompts=prompts, **fields)
    assert (response.status_code, response.json()["field"]) == (422, field), response.text
    assert service.worker.waiting() == []


def test_batch_without_room_for_all_queues_none(secured: Running) -> None:
    secured.worker.hold()
    key = key_for(secured)
    assert submit(secured, key, ["x"] * 15).status_code == 202
    refused = submit(secured, key, ["x"] * 6)
    assert refused.status_code == 429
    assert refused.json()["type"].endswith("queue-full")
    assert len(secured.worker.waiting()) == 15
    assert submit(secured, key, ["x"] * 5).status_code == 202
    never = submit(secured, key, ["x"] * 21)
    assert (never.status_code, never.json()["field"]) == (422, "prompts")


@pytest.mark.parametrize(
    ("limits", "spent"),
    [
        ({"requests_per_minute": 6}, 4),
        ({"images_per_day": 12}, 4),
        ({"jobs": 6}, 4),
        ({"pixel_steps_per_minute": 64 * 64 * 4 * 2 * 6}, 4),
    ],
)
def test_each_image_counts_for_the_limits(
    secured: Running, limits: dict[str, int], spent: int
) -> None:
    secured.worker.hold()
    key = key_for(secured, **limits)
    assert submit(secured, key, ["x"] * spent, n=2).status_code == 202
    assert submit(secured, key, ["x"] * 3, n=2).status_code == 429
    assert len(secured.worker.waiting()) == spent
    assert submit(secured, key, ["x"] * 2, n=2).status_code == 202
    assert submit(secured, key, ["x"] * 7, n=2).status_code in (422, 429)


def test_same_key_is_the_same_batch(secured: Running) -> None:
    secured.worker.hold()
    key = key_for(secured, jobs=7) | {"Idempotency-Key": "order 1"}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: submit(secured, key), range(6)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(secured.worker.waiting()) == len(PROMPTS)
    other = submit(secured, key, prompts=[*PROMPTS[:-1], "another"])
    assert other.json()["type"].endswith("idempotency-key-reused")


def test_batch_of_another_key_does_not_exist(secured: Running) -> None:
    secured.worker.hold()
    path = submit(secured, key_for(secured)).headers["location"]
    stranger = key_for(secured)
    for method in ("GET", "DELETE"):
        response = secured.client.request(method, path, headers=stranger)
        assert (response.status_code, response.json()["title"]) == (404, "Unknown batch")
    assert len(secured.worker.waiting()) == len(PROMPTS)
    admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
    assert secured.client.get(path, headers=admin).status_code == 200


@pytest.mark.parametrize("query", ["?limit=0", "?limit=101", "?cursor=x", "?cursor=-1"])
def test_malformed_page(service: Running, query: str) -> None:
    path = submit(service).headers["location"]
    assert service.client.get(path + query).status_code == 422
