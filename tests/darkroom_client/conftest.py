"""Fixtures of the client tests: a real local stack, and a service with a fake worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service.conftest import ABLE, Running, running
from tests.support.local_stack import running_stack
from tests.support.redis_server import RedisServer
from tests.support.tiny_models import write_tiny_sd


@pytest.fixture(scope="session")
def stack_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a local stack with a tiny model and return its address."""
    model = write_tiny_sd(tmp_path_factory.mktemp("models") / "tiny")
    with running_stack(DARKROOM_MODEL=str(model)) as url:
        yield url


@pytest.fixture
def service(redis_url: str) -> Iterator[Running]:
    """Return a service whose fake worker has every task."""
    with running(redis_url, ABLE) as service:
        yield service


@pytest.fixture(scope="module")
def shared_service() -> Iterator[Running]:
    """Return the same, for tests that leave the worker as it is."""
    with RedisServer() as redis, running(redis.url, ABLE) as service:
        yield service
