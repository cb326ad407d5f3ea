"""Closes all connections after each test."""

from collections.abc import Iterator

import pytest

from tests.worker.consumer.harness import close_clients


@pytest.fixture(autouse=True)
def clients_are_closed() -> Iterator[None]:
    yield
    close_clients()
