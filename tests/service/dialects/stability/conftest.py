"""One service for the tests of the dialect."""

from collections.abc import Iterator

import pytest

from tests.service.conftest import Running, running
from tests.service.dialects.stability.asking import MODEL_CARD
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="module")
def stability(redis_server: RedisServer) -> Iterator[Running]:
    with running(
        redis_server.url,
        MODEL_CARD,
        max_queue_length=100,
        max_queue_per_client=100,
        max_body_bytes=2**23,
    ) as service:
        yield service
