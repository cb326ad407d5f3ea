"""Periodic tasks are repeated, also after a failure."""

import logging
import threading

import pytest
from redis import ConnectionError as RedisConnectionError

from worker.periodic_runner import PeriodicRunner, PeriodicTask


def test_failing_task_stops_neither_itself_nor_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = 0
    done = threading.Event()
    failed_often = threading.Event()

    def fail() -> None:
        nonlocal failures
        failures += 1
        if failures == 3:
            failed_often.set()
        raise ValueError("a fault")

    with PeriodicRunner(PeriodicTask(0.001, fail), PeriodicTask(0.001, done.set)):
        assert failed_often.wait(20)
        done.clear()
        assert done.wait(20)
    assert "a periodic task failed" in caplog.text


def test_outage_of_redis_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    answers = iter([False, False, False, True, True])
    end = threading.Event()

    def ask_redis() -> None:
        answer = next(answers, None)
        if answer is None:
            end.set()
        elif not answer:
            raise RedisConnectionError("away")

    # The other task does not use Redis.
    with PeriodicRunner(PeriodicTask(0.0005, lambda: None), PeriodicTask(0.001, ask_redis)):
        assert end.wait(20)
    logged = [record.getMessage() for record in caplog.records]
    assert logged == ["redis is away", "redis is back"]
