"""Webhooks in Replicate's form: the prediction, for the events that were asked for."""

from typing import Any

import httpx
import pytest

from protocol.errors import JobFailed
from tests.service.conftest import Running
from tests.service.dialects.replicate.asking import create
from tests.service.webhooks.receiver import Call, Receiver
from tests.service.webhooks.test_webhooks import wait_until_removed


def called(service: Running, key: dict[str, str], *events: str, steps: int = 4) -> list[Call]:
    """Return the calls for a prediction whose job runs to its end."""
    fields: dict[str, Any] = {"webhook_events_filter": list(events)} if events else {}
    with Receiver() as receiver:
        sent = {"prompt": "x", "num_inference_steps": steps}
        found = create(service, sent, key, webhook=receiver.url, **fields).json()
        wait_until_removed(service, found["id"])
        calls = []
        while not receiver.empty:
            calls.append(receiver.next())
    secret = service.client.get("/v1/webhooks/default/secret", headers=key).json()["key"]
    assert all(call.verifies(secret) for call in calls)
    assert len({call.id for call in calls}) == len(calls)
    assert {call.json()["id"] for call in calls} <= {found["id"]}
    return calls


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ((), ["succeeded"]),
        (("completed",), ["succeeded"]),
        (("output",), ["succeeded"]),
        (("start",), ["processing"]),
        (("start", "output", "completed"), ["processing", "succeeded"]),
    ],
)
def test_calls_are_those_of_the_events(
    secured: Running, ann: dict[str, str], events: tuple[str, ...], expected: list[str]
) -> None:
    """A prediction that ends at once has begun, too."""
    calls = called(secured, ann, *events)
    assert [call.json()["status"] for call in calls] == expected
    assert [call.json()["output"] is not None for call in calls] == [
        status == "succeeded" for status in expected
    ]


def test_last_call_is_the_prediction_with_readable_images(
    secured: Running, ann: dict[str, str]
) -> None:
    [call] = called(secured, ann, "completed")
    told = call.json()
    shown = secured.client.get(f"/v1/predictions/{told['id']}", headers=ann).json()
    signed = ("output", "urls")  # their signatures are of other times
    assert {**told, **dict.fromkeys(signed)} == {**shown, **dict.fromkeys(signed)}
    assert httpx.get(told["output"][0], timeout=60).headers["content-type"] == "image/png"


def test_running_prediction_is_told_of(secured: Running, ann: dict[str, str]) -> None:
    secured.worker.hold_at_step = 2
    secured.worker.hold()
    try:
        with Receiver() as receiver:
            fields: dict[str, Any] = {"webhook_events_filter": ["start", "logs", "completed"]}
            found = create(secured, {"prompt": "x"}, ann, webhook=receiver.url, **fields).json()
            first, logs = receiver.next(), receiver.next()
            while "2/4" not in logs.json()["logs"]:
                logs = receiver.next()
            secured.worker.release()
            last = receiver.next()
            while last.json()["status"] == "processing":
                last = receiver.next()
            wait_until_removed(secured, found["id"])
    finally:
        secured.worker.release()
    assert first.json()["status"] == logs.json()["status"] == "processing"
    assert first.id == f"msg_{found['id']}_start"
    assert last.json()["status"] == "succeeded"
    assert last.id == f"msg_{found['id']}"


def test_failed_prediction_is_told_with_its_error(secured: Running, ann: dict[str, str]) -> None:
    secured.worker.error = JobFailed("no reason")
    try:
        [call] = called(secured, ann)
    finally:
        secured.worker.error = None
    assert (call.json()["status"], call.json()["output"]) == ("failed", None)
    assert "no reason" in call.json()["error"]


@pytest.mark.parametrize("lost", [True, False])
def test_prediction_that_redis_has_lost_is_told_as_failed(
    secured: Running, ann: dict[str, str], lost: bool
) -> None:
    secured.worker.hold()
    try:
        with Receiver() as receiver:
            found = create(secured, {"prompt": "x"}, ann, webhook=receiver.url).json()
            if lost:
                secured.worker.redis.delete(f"rq:job:{found['id']}")
                secured.worker.redis.zadd("darkroom:webhooks", {found["id"]: 0}, xx=True)
            else:
                secured.client.post(f"/v1/predictions/{found['id']}/cancel", headers=ann)
            told = receiver.next().json()
    finally:
        secured.worker.release()
    assert (told["id"], told["status"]) == (found["id"], "failed" if lost else "canceled")


def test_purged_prediction_calls_nobody(secured: Running, ann: dict[str, str]) -> None:
    secured.worker.hold()
    try:
        with Receiver() as receiver:
            found = create(secured, {"prompt": "x"}, ann, webhook=receiver.url).json()
            purge = {"purge": True}
            secured.client.delete(f"/v1/jobs/{found['id']}", headers=ann, params=purge)
            wait_until_removed(secured, found["id"])
            secured.worker.release()
            called(secured, ann)
            assert receiver.empty
    finally:
        secured.worker.release()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"webhook": "ftp://example.org/"}, "webhook"),
        ({"webhook": "http://"}, "webhook"),
        ({"webhook": "http://user@example.org/"}, "webhook"),
        ({"webhook": 5}, "webhook"),
        ({"webhook": "http://169.254.169.254/"}, "webhook"),
        (
            {"webhook": "http://x.org/", "webhook_events_filter": ["nope"]},
            "webhook_events_filter.0",
        ),
        ({"webhook_events_filter": "start"}, "webhook_events_filter"),
        ({"webhook_events_filter": ["start"] * 20}, "webhook_events_filter"),
    ],
)
def test_wrong_webhooks_are_refused(
    secured: Running, ann: dict[str, str], fields: dict[str, Any], field: str
) -> None:
    response = create(secured, {"prompt": "x"}, ann, **fields)
    assert (response.status_code, response.json()["field"]) == (422, field)


def test_old_name_of_the_last_call(secured: Running, ann: dict[str, str]) -> None:
    with Receiver() as receiver:
        create(secured, {"prompt": "x"}, ann, webhook_completed=receiver.url)
        assert receiver.next().json()["status"] == "succeeded"
