"""Fixtures of the observability tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.observability.programs import FAKE_WORKER, ObservedStack, observed_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObservedStack]:
    """Start Redis, an API and a fake worker, shared by the tests that do not change them."""
    with observed_stack(tmp_path_factory.mktemp("stack"), FAKE_WORKER) as stack:
        yield stack
