"""One house for the tests that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.observability.programs import DRAWING, LocalStack, local_stack


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Redis, API, and a worker without a network."""
    with local_stack(tmp_path_factory.mktemp("house"), DRAWING) as house:
        yield house
