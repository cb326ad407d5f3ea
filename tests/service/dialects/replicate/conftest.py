"""Services for the tests of the dialect: one without keys, and one that needs them."""

from collections.abc import Iterator

import pytest

from tests.service.conftest import ABLE, Running, running
from tests.service.keys import ADMIN_KEY
from tests.support.redis_server import RedisServer

SETTINGS = {"max_queue_length": 32, "max_queue_per_client": 32, "poll_s": 0.05}


@pytest.fixture(scope="module")
def replicate(redis_server: RedisServer) -> Iterator[Running]:
    with running(redis_server.url, ABLE, **SETTINGS) as service:
        yield service


@pytest.fixture(scope="module")
def secured(redis_server: RedisServer) -> Iterator[Running]:
    keys = {"auth": "required", "admin_key": ADMIN_KEY, "webhooks": "any"}
    with running(redis_server.url, ABLE, **SETTINGS, **keys) as service:
        yield service
