"""Tests of the Redis server that other tests use."""

import redis

from tests.support.redis_server import RedisServer


def test_data_survives_a_kill_and_a_restart() -> None:
    with RedisServer() as server:
        with redis.Redis.from_url(server.unix_url) as client:
            client.set("kept", "yes")
        server.kill()
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.get("kept") == b"yes"


def test_database_is_empty(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
