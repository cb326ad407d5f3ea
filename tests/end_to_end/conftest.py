"""A house with a tiny network, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.running_house import running_house
from tests.tiny_models import write_tiny_sd


@pytest.fixture(scope="session")
def darkroom_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a running house; the same one for every test here."""
    model = write_tiny_sd(tmp_path_factory.mktemp("models") / "tiny")
    with running_house(DARKROOM_MODEL=str(model)) as url:
        yield url


@pytest.fixture
def client(darkroom_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=darkroom_url, timeout=60) as client:
        yield client
