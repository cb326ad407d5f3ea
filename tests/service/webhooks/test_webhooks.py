"""Webhooks: signed, repeated until they arrive, and only to addresses that the operator allows."""

import time
from collections.abc import Iterator

import httpx
import pytest

from protocol.connection.redis_client import connect
from protocol.errors import JobFailed
from protocol.queue.webhooks import DUE, WebhookQueue, WebhookTarget, delivery_key
from service.webhooks.sender import MAX_ATTEMPTS
from tests.service.conftest import Running, running
from tests.service.keys import ADMIN, ADMIN_KEY, key_for, key_with_webhook
from tests.service.webhooks.receiver import PATIENCE_S, Receiver

ASYNC = {"Prefer": "respond-async"}
TARGET = WebhookTarget(url="http://example.org/", base_url="http://here", client="ann")


@pytest.fixture(scope="module")
def secured(redis_server_url: str) -> Iterator[Running]:
    """Run a service that may call this machine and needs keys."""
    changed = {"poll_s": 0.05, "webhook_retry_s": 0.01, "admin_key": ADMIN_KEY}
    with running(redis_server_url, auth="required", webhooks="any", **changed) as service:
        yield service


@pytest.fixture(scope="module")
def redis_server_url() -> Iterator[str]:
    from tests.support.redis_server import RedisServer

    with RedisServer() as server:
        yield server.url


def submit(service: Running, url: str | None, key: dict[str, str] = ADMIN) -> httpx.Response:
    body = {"prompt": "x", "webhook_url": url}
    response = service.client.post("/v1/txt2img", json=body, headers=key | ASYNC)
    assert response.status_code == 202, response.text
    return response


def secret(service: Running, key: dict[str, str] = ADMIN) -> str:
    return str(service.client.get("/v1/webhooks/secret", headers=key).json()["key"])


def wait_until_removed(service: Running, job_id: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while service.worker.redis.exists(delivery_key(job_id)):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert service.worker.redis.zscore(DUE, job_id) is None


def test_finished_job_is_told_once_with_its_images(secured: Running) -> None:
    with Receiver() as receiver:
        job_id = submit(secured, receiver.url).json()["id"]
        call = receiver.next()
        wait_until_removed(secured, job_id)
        assert receiver.empty
    assert call.verifies(secret(secured))
    assert call.id == f"msg_{job_id}"
    assert call.headers["content-type"] == "application/json"
    told = call.json()
    assert told["type"] == "job.finished"
    assert told["data"] == secured.client.get(f"/v1/jobs/{job_id}", headers=ADMIN).json() | {
        "result": told["data"]["result"]
    }
    image = httpx.get(
        told["data"]["result"]["images"][0]["url"], timeout=60
    )  # signed: no key is needed
    assert (image.status_code, image.headers["content-type"]) == (200, "image/png")


def test_failed_call_is_repeated_with_the_same_id_and_body(secured: Running) -> None:
    with Receiver(500, 302, 404) as receiver:
        job_id = submit(secured, receiver.url).json()["id"]
        calls = [receiver.next() for _ in range(4)]
        wait_until_removed(secured, job_id)
    assert {(call.id, call.body) for call in calls} == {(f"msg_{job_id}", calls[0].body)}
    assert all(call.verifies(secret(secured)) for call in calls)


def test_receiver_that_is_gone_is_not_called_again(secured: Running) -> None:
    with Receiver(410) as receiver:
        job_id = submit(secured, receiver.url).json()["id"]
        receiver.next()
        wait_until_removed(secured, job_id)
        assert receiver.empty


def test_call_is_given_up_after_many_tries(secured: Running) -> None:
    redis = secured.worker.redis
    with Receiver(*[500] * MAX_ATTEMPTS) as receiver:
        job_id = submit(secured, receiver.url).json()["id"]
        for _ in range(MAX_ATTEMPTS):
            receiver.next()
            redis.zadd(DUE, {job_id: 0}, xx=True, gt=False)  # the next try is due at once
            until = time.monotonic() + PATIENCE_S
            while receiver.empty and redis.exists(delivery_key(job_id)):
                redis.zadd(DUE, {job_id: 0}, xx=True)
                assert time.monotonic() < until
                time.sleep(0.02)
        wait_until_removed(secured, job_id)


def test_failed_and_cancelled_jobs_are_told(secured: Running) -> None:
    with Receiver() as receiver:
        secured.worker.error = JobFailed("no reason")
        submit(secured, receiver.url)
        failed = receiver.next().json()
        secured.worker.error = None
        secured.worker.hold()
        location = submit(secured, receiver.url).headers["location"]
        secured.client.delete(location, headers=ADMIN)
        cancelled = receiver.next().json()
        secured.worker.release()
    assert (failed["type"], failed["data"]["state"]) == ("job.failed", "failed")
    assert failed["data"]["error"]["type"].endswith("job-failed")
    assert (cancelled["type"], cancelled["data"]["state"]) == ("job.cancelled", "cancelled")


def test_each_key_has_its_own_secret_and_address(secured: Running) -> None:
    with Receiver() as own, Receiver() as other:
        mine, yours = key_with_webhook(secured, own.url), key_for(secured)
        submit(secured, None, mine)
        first = own.next()
        submit(secured, other.url, mine)  # the request's address goes first
        second = other.next()
        submit(secured, other.url, yours)
        third = other.next()
        assert own.empty
    assert first.verifies(secret(secured, mine))
    assert second.verifies(secret(secured, mine))
    assert third.verifies(secret(secured, yours))
    assert not third.verifies(secret(secured, mine))


def test_retry_of_a_request_is_one_webhook(secured: Running) -> None:
    with Receiver() as receiver:
        key = ADMIN | {"Idempotency-Key": "order 1"}
        [first, again] = [submit(secured, receiver.url, key).json()["id"] for _ in range(2)]
        assert first == again
        receiver.next()
        wait_until_removed(secured, first)
        assert receiver.empty


@pytest.mark.parametrize(
    ("setting", "url", "problem"),
    [
        ("off", "https://example.org/", "unknown-field"),
        ("public", "http://127.0.0.1:9/", "webhook-not-allowed"),
        ("public", "http://10.0.0.1/", "webhook-not-allowed"),
        ("public", "http://[::1]/", "webhook-not-allowed"),
        ("any", "http://169.254.169.254/", "webhook-not-allowed"),
        ("any", "http://[::ffff:169.254.169.254]/", "webhook-not-allowed"),
        ("any", "ftp://example.org/", "invalid-value"),
        ("any", "http://user:password@example.org/", "invalid-value"),
        ("any", "http://example.org\\@127.0.0.1/", "invalid-value"),
        ("any", "x" * 3000, "too-long"),
    ],
)
def test_address_that_is_not_allowed(redis_url: str, setting: str, url: str, problem: str) -> None:
    with running(redis_url, webhooks=setting) as service:
        body = {"prompt": "x", "webhook_url": url}
        response = service.client.post("/v1/txt2img", json=body)
        assert response.status_code == 422
        assert response.json()["field"] == "webhook_url"
        assert response.json()["type"].rpartition(":")[2] == problem
        if problem == "invalid-value":
            assert response.json()["bound"] == "an http or https URL without a user"


# What the URL parser, the encoding of names or the system's resolver refuse, each in its own way.
UNREADABLE = [
    *(
        "https://0fQQYy:oC",
        "http://a:",
        "http://a:-1",
        "http://a:0",
        "http://a:65536",
        "http://[::1",
    ),
    *("http://xn--/", "http://xn--0fqqyy/", "http://[1.2.3]/", "http://a]/", "http://:80/"),
]


@pytest.mark.parametrize("url", UNREADABLE)
def test_address_that_cannot_be_read_is_refused(secured: Running, url: str) -> None:
    fields = {"webhook_url", "image_url"}
    for field in fields:
        body = {"prompt": "x", field: url}
        path = "/v1/img2img" if field == "image_url" else "/v1/txt2img"
        response = secured.client.post(path, json=body, headers=ADMIN)
        assert response.status_code == 422, response.text
        assert response.json()["field"] in fields


def test_name_that_cannot_be_resolved_is_a_failed_call(redis_url: str) -> None:
    """Its labels are too long for the system's encoding."""
    url = f"http://{'a' * 70}.example/"
    with running(redis_url, webhooks="any", poll_s=0.05, webhook_retry_s=600) as service:
        job = submit(service, url, {}).json()["id"]
        until = time.monotonic() + PATIENCE_S
        while service.worker.redis.hget(delivery_key(job), "attempts") != b"1":
            assert time.monotonic() < until
            time.sleep(0.01)


def test_name_of_a_private_address_is_never_called(redis_url: str) -> None:
    with (
        Receiver() as receiver,
        running(redis_url, webhooks="public", poll_s=0.05, webhook_retry_s=600) as service,
    ):
        url = receiver.url.replace("127.0.0.1", "localhost")
        response = service.client.post(
            "/v1/txt2img", json={"prompt": "x", "webhook_url": url}, headers=ASYNC
        )
        until = time.monotonic() + PATIENCE_S
        while service.worker.redis.hget(delivery_key(response.json()["id"]), "attempts") != b"1":
            assert time.monotonic() < until
            time.sleep(0.01)
        assert receiver.empty


def test_call_of_a_process_that_died_is_due_again(redis_url: str) -> None:
    redis = connect(redis_url)
    redis.zadd(DUE, {"a": 0})
    redis.hset(delivery_key("a"), "target", TARGET.model_dump_json())
    queue = WebhookQueue(redis)
    [delivery] = queue.claim(8, lease_s=60)
    assert (delivery.job_id, delivery.target, delivery.attempts) == ("a", TARGET, 0)
    assert queue.claim(8, lease_s=60) == []
    redis.zadd(DUE, {"a": 0})  # its lease has ended
    assert queue.keep_body(delivery, b"body")
    queue.postpone("a", 0.0, 1)
    [again] = queue.claim(8, lease_s=60)
    assert (again.body, again.attempts) == (b"body", 1)
    queue.remove("a")
    assert queue.waiting() == 0


@pytest.mark.parametrize("queued_again", [False, True])
def test_delivery_that_was_lost_with_redis_has_no_call(redis_url: str, queued_again: bool) -> None:
    """The state of its job can no longer be read, so a call would tell a wrong one."""
    redis = connect(redis_url)
    queue = WebhookQueue(redis)
    redis.zadd(DUE, {"a": 0})
    redis.hset(delivery_key("a"), "target", TARGET.model_dump_json())
    [delivery] = queue.claim(8, lease_s=60)
    redis.flushall()
    if queued_again:  # by a retry of its client
        redis.hset(delivery_key("a"), "target", TARGET.model_dump_json())
    assert not queue.keep_body(delivery, b"failed")
    assert redis.hget(delivery_key("a"), "body") is None
    assert redis.exists(delivery_key("a")) == queued_again


def test_process_whose_lease_has_ended_makes_no_call(redis_url: str) -> None:
    redis = connect(redis_url)
    queue = WebhookQueue(redis)
    redis.zadd(DUE, {"a": 0})
    redis.hset(delivery_key("a"), "target", TARGET.model_dump_json())
    [frozen] = queue.claim(8, lease_s=0)
    redis.zadd(DUE, {"a": 0})
    [other] = queue.claim(8, lease_s=60)
    assert not queue.keep_body(frozen, b"late")
    assert queue.keep_body(other, b"body")
    assert redis.hget(delivery_key("a"), "body") == b"body"


def test_record_of_another_version_is_dropped(redis_url: str) -> None:
    redis = connect(redis_url)
    redis.zadd(DUE, {"a": 0, "b": 0})
    redis.hset(delivery_key("a"), "target", '{"address": 1}')
    assert WebhookQueue(redis).claim(8, lease_s=60) == []
    assert WebhookQueue(redis).waiting() == 0
