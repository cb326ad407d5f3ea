"""Lists of jobs: pages, filters and owners; retries; deletion with all that belongs to a job."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from protocol.errors import JobFailed
from service.routes.deps import Services
from tests.service.conftest import Running, running
from tests.service.keys import ADMIN_KEY, key_for
from tests.service.sample_images import gradient, in_base64, packed

ASYNC = {"Prefer": "respond-async"}
IMAGE = in_base64(packed(gradient()))


@pytest.fixture
def secured(redis_url: str) -> Iterator[Running]:
    """Run a service that needs keys."""
    settings = {"max_queue_length": 200, "max_queue_per_client": 200}
    with running(redis_url, auth="required", admin_key=ADMIN_KEY, **settings) as service:
        yield service


def submit(service: Running, key: dict[str, str], **fields: object) -> str:
    response = service.client.post(
        "/v1/txt2img", json={"prompt": "x", **fields}, headers=key | ASYNC
    )
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def listed(service: Running, key: dict[str, str], **query: Any) -> list[dict[str, Any]]:
    """Return all jobs of a list, read page by page."""
    jobs: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        response = service.client.get("/v1/jobs", params=query | cursor, headers=key)
        assert response.status_code == 200, response.text
        page = response.json()
        jobs += page["jobs"]
        assert len(page["jobs"]) <= query.get("limit", 20)
        if "next_cursor" not in page:
            return jobs
        cursor = {"cursor": page["next_cursor"]}


def until(service: Running, key: dict[str, str], job_id: str, state: str) -> None:
    while service.client.get(f"/v1/jobs/{job_id}", headers=key).json()["state"] != state:
        time.sleep(0.01)


def test_pages_have_each_own_job_once(secured: Running) -> None:
    ann, bob = key_for(secured), key_for(secured)
    admin = {"X-API-Key": ADMIN_KEY}
    secured.worker.hold()
    jobs = [(key, submit(secured, key)) for key in (ann, bob, ann, ann, bob, ann, ann)]
    newest_first = [job_id for _, job_id in reversed(jobs)]
    anns = [job_id for key, job_id in reversed(jobs) if key is ann]
    for limit in (1, 2, 3, 100):
        assert [job["id"] for job in listed(secured, ann, limit=limit)] == anns
        assert [job["id"] for job in listed(secured, admin, limit=limit)] == newest_first
    first = secured.client.get("/v1/jobs?limit=2", headers=ann).json()
    later = submit(secured, ann)
    rest = secured.client.get(f"/v1/jobs?cursor={first['next_cursor']}", headers=ann).json()
    assert [job["id"] for job in first["jobs"] + rest["jobs"]] == anns
    assert listed(secured, ann)[0]["id"] == later
    assert listed(secured, key_for(secured)) == []


def test_filters(secured: Running) -> None:
    key = key_for(secured)
    finished = submit(secured, key)
    until(secured, key, finished, "finished")
    secured.worker.hold()
    queued, cancelled = submit(secured, key), submit(secured, key)
    secured.client.delete(f"/v1/jobs/{cancelled}", headers=key).raise_for_status()
    jobs = {job["id"]: job for job in listed(secured, key)}
    assert list(jobs) == [cancelled, queued, finished]
    assert jobs[finished]["model"] == "tiny"
    assert jobs[finished]["task"] == "txt2img"
    assert (
        jobs[finished]["result"]
        == (secured.client.get(f"/v1/jobs/{finished}", headers=key).json()["result"])
    )
    when = jobs[queued]["created_at"]
    for query, expected in (
        ({"state": "queued"}, [queued]),
        ({"state": ["finished", "cancelled"]}, [cancelled, finished]),
        ({"state": "running"}, []),
        ({"model": "tiny"}, [cancelled, queued, finished]),
        ({"model": "another"}, []),
        ({"task": "txt2img"}, [cancelled, queued, finished]),
        ({"task": "img2img"}, []),
        ({"created_after": when}, [cancelled]),
        ({"created_before": when}, [finished]),
        ({"created_before": "2020-01-01T00:00:00Z"}, []),
    ):
        assert [job["id"] for job in listed(secured, key, limit=2, **query)] == expected, query


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"cursor": "nonsense"}, "cursor"),
        ({"cursor": "MTIzNDU2.x"}, "cursor"),
        ({"state": "lost"}, "state.0"),
        ({"task": "txt2txt"}, "task"),
        ({"created_after": "yesterday"}, "created_after"),
        ({"created_after": "2026-01-31T12:00:00"}, "created_after"),
    ],
)
def test_query_is_checked(secured: Running, query: dict[str, str], field: str) -> None:
    headers = {"X-API-Key": ADMIN_KEY}
    response = secured.client.get("/v1/jobs", params=query, headers=headers)
    assert (response.status_code, response.json()["field"]) == (422, field)


def test_job_whose_record_is_gone_is_not_listed(secured: Running) -> None:
    key = key_for(secured)
    gone, kept = submit(secured, key), submit(secured, key)
    until(secured, key, kept, "finished")
    secured.worker.redis.delete(f"rq:job:{gone}")
    assert [job["id"] for job in listed(secured, key)] == [kept]


# ---- retries -----------------------------------------------------------------------------------


def retry(service: Running, key: dict[str, str], job_id: str) -> httpx.Response:
    return service.client.post(f"/v1/jobs/{job_id}/retry", headers=key)


def test_failed_job_is_retried_as_a_new_one(secured: Running) -> None:
    key, image = key_for(secured), IMAGE
    secured.worker.error = JobFailed("the images are black")
    body = {"prompt": "x", "image": image, "strength": 0.5}
    failed = secured.client.post("/v1/img2img", json=body, headers=key).json()["job"]
    failed_id = failed.rpartition("/")[2]
    secured.worker.error = None
    response = retry(secured, key, failed_id)
    assert response.status_code == 202
    new_id = response.json()["id"]
    assert new_id != failed_id
    assert response.headers["location"] == f"/v1/jobs/{new_id}"
    until(secured, key, new_id, "finished")
    first, second = secured.worker.seen
    assert first == second
    assert {job["id"]: job["state"] for job in listed(secured, key)} == {
        new_id: "finished",
        failed_id: "failed",
    }


def test_retry_is_refused_for_other_states_and_clients(secured: Running) -> None:
    key = key_for(secured)
    secured.worker.hold()
    job_id = submit(secured, key)
    refused = retry(secured, key, job_id)
    assert refused.status_code == 409
    assert refused.json()["type"].endswith(":not-retryable")
    assert "queued" in refused.json()["detail"]
    secured.client.delete(f"/v1/jobs/{job_id}", headers=key)
    assert retry(secured, key_for(secured), job_id).status_code == 404
    assert retry(secured, key, job_id).status_code == 202


def test_retry_without_its_inputs_is_refused(secured: Running) -> None:
    key = key_for(secured)
    secured.worker.error = JobFailed("the images are black")
    body = {"prompt": "x", "image": IMAGE, "strength": 0.5}
    failed = secured.client.post("/v1/img2img", json=body, headers=key).json()["job"]
    (image_key,) = secured.worker.seen[0].input_keys
    secured.store.delete(image_key)
    response = retry(secured, key, failed.rpartition("/")[2])
    assert (response.status_code, response.json()["type"].rpartition(":")[2]) == (
        410,
        "inputs-gone",
    )


def test_retry_is_idempotent_and_counted(secured: Running) -> None:
    key = key_for(secured, requests_per_minute=2)
    secured.worker.hold()
    job_id = submit(secured, key | {"Idempotency-Key": "first"})
    secured.client.delete(f"/v1/jobs/{job_id}", headers=key)
    again = [retry(secured, key | {"Idempotency-Key": "again"}, job_id) for _ in range(3)]
    assert len({response.json()["id"] for response in again}) == 1
    assert retry(secured, key | {"Idempotency-Key": "first"}, job_id).status_code == 422
    assert retry(secured, key, job_id).json()["type"].endswith(":rate-limited")


# ---- deletion ----------------------------------------------------------------------------------


def purge(service: Running, key: dict[str, str], job_id: str) -> int:
    return service.client.delete(f"/v1/jobs/{job_id}?purge=true", headers=key).status_code


def traces(service: Running, job_id: str) -> list[str]:
    """Return the keys in Redis, and members of sets, that have the id of a job."""
    redis = service.worker.redis
    found = [key.decode() for key in redis.scan_iter(f"*{job_id}*")]
    for key in redis.scan_iter(_type="zset"):
        members = redis.zrange(key, 0, -1)
        found += [key.decode() for member in members if job_id.encode() in bytes(member)]  # type: ignore[arg-type]  # bytes
    return found


def test_deleted_job_leaves_nothing(secured: Running) -> None:
    key, image = key_for(secured), IMAGE
    body = {"prompt": "a secret", "image": image, "strength": 0.5, "previews": True}
    headers = key | {"Idempotency-Key": "order 1"}
    answer = secured.client.post("/v1/img2img", json=body, headers=headers).json()
    job_id = answer["id"]
    (input_key,) = secured.worker.seen[0].input_keys
    (result_key,) = secured.store.results_of(job_id)
    assert purge(secured, key_for(secured), job_id) == 404
    assert secured.store.has(result_key)
    assert purge(secured, key, job_id) == 204
    assert secured.client.get(f"/v1/jobs/{job_id}", headers=key).status_code == 404
    assert listed(secured, key) == []
    assert not secured.store.has(result_key)
    assert not secured.store.has(input_key)
    assert traces(secured, job_id) == [f"darkroom:deleted:{job_id}"]
    assert secured.worker.redis.ttl(f"darkroom:deleted:{job_id}") > 0
    assert not list(secured.worker.redis.scan_iter("darkroom:idempotency:*"))
    assert purge(secured, key, job_id) == 204  # as after a lost answer


def test_input_of_another_job_stays(secured: Running) -> None:
    key = key_for(secured)
    body = {"prompt": "x", "image": IMAGE, "strength": 0.5}
    first, second = (
        secured.client.post("/v1/img2img", json=body, headers=key).json()["id"] for _ in range(2)
    )
    (input_key,) = secured.worker.seen[0].input_keys
    purge(secured, key, first)
    assert secured.store.has(input_key)
    purge(secured, key, second)
    assert not secured.store.has(input_key)


def test_input_of_a_job_of_an_older_version_stays(secured: Running) -> None:
    """Those pinned their inputs, without saying for which job."""
    key, redis = key_for(secured), secured.worker.redis
    body = {"prompt": "x", "image": IMAGE, "strength": 0.5}
    secured.client.post("/v1/img2img", json=body, headers=key).raise_for_status()
    (input_key,) = secured.worker.seen[0].input_keys
    redis.delete(f"darkroom:users:{input_key}")
    second = secured.client.post("/v1/img2img", json=body, headers=key).json()["id"]
    assert purge(secured, key, second) == 204
    assert secured.store.has(input_key)


def test_queued_job_is_deleted_at_once_and_its_client_is_told(secured: Running) -> None:
    key = key_for(secured)
    secured.worker.hold()
    job_id = submit(secured, key)
    services: Services = secured.app.state.services
    with secured.client.stream("GET", f"/v1/jobs/{job_id}/events", headers=key) as events:
        lines = events.iter_lines()
        assert next(lines) == "event: queued"
        while not services.watcher.watched:
            time.sleep(0.01)
        assert purge(secured, key, job_id) == 204
        assert [line for line in lines if line.startswith("event")] == ["event: cancelled"]
    assert secured.worker.waiting() == []


def test_deleted_job_cannot_be_submitted_again(secured: Running) -> None:
    """A retry that was under way when the job was deleted has its id already."""
    key, redis = key_for(secured), secured.worker.redis
    secured.worker.hold()
    headers = key | {"Idempotency-Key": "order 1"}
    job_id = submit(secured, headers)
    (entry,) = redis.scan_iter("darkroom:idempotency:*")
    value = redis.get(entry)
    assert purge(secured, key, job_id) == 204
    assert isinstance(value, bytes)
    redis.set(entry, value)
    late = secured.client.post("/v1/txt2img", json={"prompt": "x"}, headers=headers | ASYNC)
    assert (late.status_code, late.json()["type"].rpartition(":")[2]) == (410, "job-deleted")
    assert secured.worker.waiting() == []
