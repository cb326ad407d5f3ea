"""One service for the tests of the dialect."""

from collections.abc import Iterator

import pytest

from tests.service.conftest import Running, running
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="module")
def hub(redis_server: RedisServer) -> Iterator[Running]:
    with running(redis_server.url, max_queue_length=100, max_queue_per_client=100) as service:
        yield service
