"""Tests of the Redis counters with known traffic."""

from __future__ import annotations

from collections import Counter

import pytest
from redis import Redis

from bench.serving.redis_traffic import Traffic, reset_counters


def test_commands_and_bytes_are_counted_since_the_reset(redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        redis.set("before", "x")
        start = reset_counters(redis)
        for _ in range(7):
            redis.set("key", "x" * 1000)
        redis.get("key")
        traffic = Traffic.since(start, redis)
    assert (traffic.commands["set"], traffic.commands["get"]) == (7, 1)
    assert 7 * 1000 < traffic.received < 7 * 1000 + 1000
    assert 1000 < traffic.sent < 2000
    assert traffic.seconds > 0
    assert traffic.busy_s >= 0


def test_idle_traffic_is_subtracted_and_the_rest_divided() -> None:
    idle = Traffic(2.0, Counter(llen=20), 200.0, 20.0, 0.02)
    working = Traffic(4.0, Counter(llen=50, hset=30), 1400.0, 240.0, 0.14)
    figures = working.without(idle).each(10)
    assert figures["commands"] == 4.0
    assert figures["by_command"] == {"hset": 3.0, "llen": 1.0}
    assert (figures["received_bytes"], figures["sent_bytes"]) == (100.0, 20.0)
    assert figures["busy_ms"] == pytest.approx(10.0)
