"""API keys, with a real Redis."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from protocol.auth.api_keys import RECORDS, ApiKey, KeyLimits, KeyRecords, Scope, digest, find_key
from protocol.connection.redis_client import connect

SCOPES = frozenset({Scope.GENERATE, Scope.READ})
TOKEN, KEY = ApiKey.create("a phone", SCOPES, KeyLimits(jobs=3), 1.0)
KEYS = {KEY.id: KEY}


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with connect(redis_url) as redis:
        yield redis


def test_only_the_key_itself_is_found() -> None:
    assert find_key(TOKEN, KEYS) == KEY
    assert find_key(TOKEN, {}) is None
    other, _ = ApiKey.create("another", SCOPES, KeyLimits(), 2.0)
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
    assert TOKEN.split("_", 2)[2].encode() not in kept
    assert digest(TOKEN).encode() in kept
    assert records.revoke(KEY.id)
    assert not records.revoke(KEY.id)
    assert records.all() == {}


def test_malformed_records_are_skipped(redis: Redis) -> None:
    redis.hset(RECORDS, KEY.id, '{"id": "x"}')
    assert KeyRecords(redis).all() == {}
