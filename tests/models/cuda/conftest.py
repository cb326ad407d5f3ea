"""Tiny models as in tests/models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.loading.loader import load_model
from models.pipeline import LatentDiffusion
from tests.support.tiny_models import write_tiny_sd


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory: pytest.TempPathFactory) -> LatentDiffusion:
    folder: Path = write_tiny_sd(tmp_path_factory.mktemp("tiny-sd"))
    return load_model(str(folder), torch.device("cpu"))
