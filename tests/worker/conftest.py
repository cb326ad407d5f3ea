"""Fixtures of the worker's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from models.loading.loader import load_model
from models.pipeline import LatentDiffusion
from tests.support.tiny_models import write_tiny_sd
from tests.worker.consumer.harness import close_clients


@pytest.fixture(autouse=True)
def clients_are_closed() -> Iterator[None]:
    """Close all Redis clients after each test."""
    yield
    close_clients()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> LatentDiffusion:
    return load_model(str(write_tiny_sd(tmp_path_factory.mktemp("engine-sd"))), torch.device("cpu"))
