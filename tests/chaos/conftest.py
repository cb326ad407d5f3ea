"""Fixtures of the chaos tests."""

from collections.abc import Iterator

import pytest

from tests.worker.consumer.harness import close_clients


@pytest.fixture(autouse=True)
def closed_clients() -> Iterator[None]:
    """Close all connections after each test."""
    yield
    close_clients()
