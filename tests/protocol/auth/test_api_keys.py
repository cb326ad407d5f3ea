"""API keys and their limits, with a real Redis."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from protocol.auth.api_keys import RECORDS, ApiKey, KeyLimits, KeyRecords, Scope, digest, find_key
from protocol.auth.limits import Limits, Rate
from protocol.connection.redis_client import connect
from protocol.errors import RateLimited, TooManyJobs
from protocol.queue.job import JobState
from protocol.request.object_keys import new_job_id

SCOPES = frozenset({Scope.GENERATE, Scope.READ})
TOKEN, KEY = ApiKey.create("a phone", SCOPES, KeyLimits(jobs=3))
KEYS = {KEY.id: KEY}


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with connect(redis_url) as redis:
        yield redis


def test_only_the_key_itself_is_found() -> None:
    assert find_key(TOKEN, KEYS) == KEY
    assert find_key(TOKEN, {}) is None
    other, _ = ApiKey.create("another", SCOPES, KeyLimits())
    assert find_key(other, KEYS) is None
    assert find_key(TOKEN[:-1] + ("A" if TOKEN[-1] != "A" else "B"), KEYS) is None
    assert find_key(f"dk_{KEY.id}_{other.rpartition('_')[2]}"[:60], KEYS) is None


@given(st.text(max_size=80) | st.from_regex(r"dk_[0-9a-f]{12}_[\w-]{43}\n?", fullmatch=True))
def test_other_text_is_not_a_key(text: str) -> None:
    assert find_key(text, KEYS) is None


def test_record_does_not_contain_the_key(redis: Redis) -> None:
    records = KeyRecords(redis)
    records.add(KEY)
    assert records.all() == KEYS
    kept = redis.hget(RECORDS, KEY.id)
    assert isinstance(kept, bytes)
    assert TOKEN.rpartition("_")[2].encode() not in kept
    assert digest(TOKEN).encode() in kept
    assert records.revoke(KEY.id)
    assert not records.revoke(KEY.id)
    assert records.all() == {}


def test_malformed_records_are_skipped(redis: Redis) -> None:
    redis.hset(RECORDS, KEY.id, '{"id": "x"}')
    assert KeyRecords(redis).all() == {}


def test_rate_is_shared_by_all_processes(redis: Redis) -> None:
    rate = Rate("requests", 10)
    processes = [Limits(redis, lambda ids: {}) for _ in range(3)]

    def take(number: int) -> bool:
        try:
            processes[number % 3].take("a", rate, 1)
        except RateLimited as limited:
            assert limited.retry_after_s is not None
            assert 0 < limited.retry_after_s <= 6
            return False
        return True

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(take, range(30)))
    assert sum(answers) == 10
    processes[0].take("b", rate, 1)  # only the bucket of client a is empty


def test_bucket_refills_with_time(redis: Redis) -> None:
    limits, rate = Limits(redis, lambda ids: {}), Rate("pixel-steps", 600)
    limits.take("a", rate, 600)
    with pytest.raises(RateLimited) as refused:
        limits.take("a", rate, 300)
    assert refused.value.retry_after_s == pytest.approx(30, abs=5)
    bucket = "darkroom:limits:{a}:pixel-steps"
    redis.hincrby(bucket, "at", -40_000)  # forty seconds ago
    limits.take("a", rate, 300)
    with pytest.raises(RateLimited):
        limits.take("a", rate, 300)


def test_jobs_in_flight_are_counted_until_they_have_ended(redis: Redis) -> None:
    states: dict[str, JobState] = {}
    limits = Limits(redis, lambda ids: states)
    one, two, three = (new_job_id() for _ in range(3))
    limits.enter("a", one, 2)
    limits.enter("a", two, 2)
    states.update({one: JobState.RUNNING, two: JobState.QUEUED})
    with pytest.raises(TooManyJobs):
        limits.enter("a", three, 2)
    limits.enter("b", new_job_id(), 2)
    states[one] = JobState.FINISHED
    limits.enter("a", three, 2)
    limits.leave("a", three)
    limits.enter("a", three, 2)


def test_job_counts_while_it_is_being_submitted(redis: Redis) -> None:
    limits = Limits(redis, lambda ids: {})
    limits.enter("a", "unseen", 1)
    with pytest.raises(TooManyJobs):
        limits.enter("a", "another", 1)
    redis.zincrby("darkroom:limits:{a}:jobs", -120, "unseen")  # its submitter died two minutes ago
    limits.enter("a", "another", 1)
