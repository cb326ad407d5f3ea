"""Programs whose clocks are an hour off: every time that is compared is on Redis' clock."""

import datetime as datetime_module
import json
import time
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from redis import Redis

from protocol.connection.scripts import script_text
from protocol.queue.job import JobState
from protocol.queue.queue_stats import QueueStatsReader
from protocol.registry.presence import Presence, WorkerReport, WorkerState
from protocol.storage.object_store import ObjectStore
from protocol.storage.pins import Pins
from tests.support.shifted_clock import shift_clock
from tests.worker.consumer.harness import (
    MODEL,
    child_worker,
    client,
    job_queue,
    outcome,
    request,
    running_worker,
    settings,
    wait_for,
)
from tests.worker.consumer.test_deadlines import has_expired, job_source
from worker.output.garbage_collector import GarbageCollector
from worker.telemetry.metrics import Metrics

HOUR_S = 3600.0
RQ_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
SHORT_S = 60.0  # more than a test takes, far less than the clocks are off


@pytest.fixture(params=[-HOUR_S, HOUR_S], ids=["an hour behind", "an hour ahead"])
def shifted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """This process' clock is off; Redis' is right."""
    shift_clock(request.param, monkeypatch)
    return float(request.param)


def real_time(redis: Redis) -> float:
    return float(redis.time()[0])


def age_s(redis: Redis, job_id: str, field: str) -> float:
    written = redis.hget(f"rq:job:{job_id}", field)
    assert isinstance(written, bytes), field
    moment = datetime.strptime(written.decode(), RQ_TIME).replace(tzinfo=UTC)
    return real_time(redis) - moment.timestamp()


def test_clock_is_shifted(redis_url: str, shifted: float) -> None:
    assert time.time() - real_time(client(redis_url)) == pytest.approx(shifted, abs=SHORT_S)
    assert datetime_module.datetime.now(UTC).timestamp() == pytest.approx(time.time(), abs=SHORT_S)


def test_times_of_a_job_are_right(redis_url: str, shifted: float) -> None:
    queue, redis, metrics = job_queue(redis_url), client(redis_url), Metrics()
    with running_worker(settings(redis_url), metrics=metrics):
        view = outcome(queue, job_id := queue.submit(request()))
    assert view.result is not None
    assert 0 <= view.result.timings.queued <= view.result.timings.total < SHORT_S
    for field in ("created_at", "enqueued_at", "started_at", "last_heartbeat", "ended_at"):
        assert abs(age_s(redis, job_id, field)) < SHORT_S, field
    waited = metrics.registry.get_sample_value(
        "darkroom_queue_wait_seconds_sum", {"priority": "normal"}
    )
    assert waited is not None
    assert waited < SHORT_S


def test_queue_age_is_right(redis_url: str, shifted: float) -> None:
    redis = client(redis_url)
    job_id = job_queue(redis_url).submit(request())
    read = QueueStatsReader(redis)
    assert 0 <= read([MODEL]).lanes[1].oldest_s < SHORT_S
    long_ago = datetime.fromtimestamp(real_time(redis) - 600, UTC).strftime(RQ_TIME)
    redis.hset(f"rq:job:{job_id}", "enqueued_at", long_ago)
    assert read([MODEL]).lanes[1].oldest_s == pytest.approx(600, abs=SHORT_S)
    claim = job_source(redis_url).claim(idle=True, models=[MODEL])
    assert claim is not None
    assert claim.queued_s == pytest.approx(600, abs=SHORT_S)


def test_deadlines_hold(redis_url: str, shifted: float) -> None:
    queue = job_queue(redis_url)
    late, patient = (queue.submit(request(deadline_s=seconds)) for seconds in (2.0, SHORT_S))
    assert queue.view(late).state is JobState.QUEUED
    wait_for(lambda: queue.view(late).state is JobState.FAILED)
    assert has_expired(queue.view(late), 2.0)
    assert queue.view(patient).state is JobState.QUEUED
    with running_worker(settings(redis_url)):
        assert outcome(queue, patient).state is JobState.FINISHED


@pytest.mark.parametrize("shift_s", [-HOUR_S, HOUR_S])
def test_worker_with_another_clock(redis_url: str, tmp_path: Path, shift_s: float) -> None:
    """The API's clock is right, and the worker's is not; its lease and deadlines hold."""
    queue, redis = job_queue(redis_url), client(redis_url)
    with child_worker(redis_url, tmp_path, shift_s=shift_s):
        view = outcome(queue, job_id := queue.submit(request()))
        assert view.result is not None
        assert view.result.timings.total < SHORT_S
        assert abs(age_s(redis, job_id, "started_at")) < SHORT_S
        assert has_expired(outcome(queue, queue.submit(request(steps=140, deadline_s=0.5))), 0.5)


def test_presence_and_leases_do_not_depend_on_clocks(redis_url: str, shifted: float) -> None:
    presence = Presence(client(redis_url))
    presence.report(WorkerReport(name="a", state=WorkerState.READY, model=MODEL))
    assert [report.name for report in presence.workers()] == ["a"]
    source = job_source(redis_url)
    job_id = job_queue(redis_url).submit(request())
    assert source.claim(idle=True, models=[MODEL]) is not None
    assert source.leases.requeue_stalled() == []
    wait_for(lambda: bool(source.leases.requeue_stalled()))
    assert job_queue(redis_url).view(job_id).state is JobState.QUEUED


def test_garbage_collection_goes_by_the_clock_of_redis(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shift_clock(30 * 86400, monkeypatch)
    store, terms = ObjectStore.open(tmp_path.as_uri()), settings(redis_url)
    key = f"results/{'0' * 32}/0.png"
    store.put(key, b"x", "image/png")  # just written, by the store's clock
    GarbageCollector(store, Pins(client(redis_url), terms), terms, 0.001).collect()
    assert store.get(key) == b"x"


DATES = (
    script_text("view").rpartition("-- Return the view of a job.")[0]
    + """
local found = {}
for _, days in ipairs(args.days) do
  local year, month, day = date_after(days)
  found[#found + 1] = {year, month, day, days_until(year, month, day)}
end
return found
"""
)


def test_dates_are_computed_as_by_python(redis_url: str) -> None:
    """The calendar of the scripts, which Redis' Lua lacks, against Python's."""
    leap_years = [
        date(year, 2, 28).toordinal() + day for year in (2000, 2024, 2100) for day in range(3)
    ]
    first, last = date(1970, 1, 1).toordinal(), date.max.toordinal()
    ordinals = [*range(first, last, 997), *range(first, first + 1500), *leap_years, last]
    days = [ordinal - first for ordinal in ordinals]
    found = client(redis_url).eval(DATES, 1, "x", json.dumps({"days": days}))
    expected = [(date.fromordinal(ordinal), ordinal - first) for ordinal in ordinals]
    assert found == [[one.year, one.month, one.day, day] for one, day in expected]


def test_times_are_written_as_rq_does(redis_url: str) -> None:
    redis = client(redis_url)
    before = datetime.now(UTC).replace(tzinfo=None)
    job_id = job_queue(redis_url).submit(request())
    written = redis.hget(f"rq:job:{job_id}", "enqueued_at")
    assert isinstance(written, bytes)
    assert (
        before
        <= datetime.strptime(written.decode(), RQ_TIME)
        <= datetime.now(UTC).replace(tzinfo=None)
    )
    assert len(written) == len("2026-01-31T23:59:59.000001Z")
