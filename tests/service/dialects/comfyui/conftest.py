"""A service with a fake worker whose model has something of everything."""

from collections.abc import Iterator

import pytest

from tests.service.conftest import Running, running
from tests.service.dialects.comfyui.graphs import COMFY_CARD
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="module")
def comfy(redis_server: RedisServer) -> Iterator[Running]:
    with running(redis_server.url, COMFY_CARD) as service:
        yield service
