"""Log events are one line of JSON each, and never contain a prompt."""

import json
import logging
import sys

import pytest

from protocol.queue.job import JobState
from protocol.telemetry.logs import JsonLines
from tests.worker.consumer.harness import job_queue, outcome, request, running_worker, settings
from tests.worker.fake_engine import FakeEngine

SECRET = "canary in the coal mine"


def line(record: logging.LogRecord) -> dict[str, object]:
    text = JsonLines().format(record)
    assert "\n" not in text
    event = json.loads(text)
    assert isinstance(event, dict)
    return event


def test_extras_become_fields() -> None:
    record = logging.makeLogRecord({"msg": "job taken\n%s", "args": ("x",), "job": "abc"})
    event = line(record)
    assert event["event"] == "job taken\nx"
    assert event["job"] == "abc"


def test_message_of_a_foreign_exception_is_not_logged() -> None:
    try:
        raise RuntimeError(SECRET)
    except RuntimeError:
        record = logging.makeLogRecord({"msg": "it broke", "exc_info": sys.exc_info()})
    event = line(record)
    assert event["error"] == "RuntimeError"
    assert SECRET not in json.dumps(event)


class LeakingEngine(FakeEngine):
    """An engine whose errors contain the prompt."""

    def step(self) -> None:
        raise RuntimeError(SECRET)


def test_no_prompt_is_logged(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    queue = job_queue(redis_url)
    with running_worker(settings(redis_url)):
        assert outcome(queue, queue.submit(request(prompt=SECRET))).state is JobState.FINISHED
    with running_worker(settings(redis_url), LeakingEngine()):
        assert outcome(queue, queue.submit(request(prompt=SECRET))).state is JobState.FAILED
    assert len(caplog.records) > 4
    assert not any(SECRET in JsonLines().format(record) for record in caplog.records)
