from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.loading.loader import load_model
from models.pipeline import LatentDiffusion
from tests.support.tiny_models import write_tiny_sd, write_tiny_sdxl


@pytest.fixture(scope="session")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_sd(tmp_path_factory.mktemp("lora-sd"))


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_sdxl(tmp_path_factory.mktemp("lora-sdxl"))


@pytest.fixture(scope="session")
def sd(sd_folder: Path) -> LatentDiffusion:
    return load_model(str(sd_folder), torch.device("cpu"))


@pytest.fixture(scope="session")
def sdxl(sdxl_folder: Path) -> LatentDiffusion:
    return load_model(str(sdxl_folder), torch.device("cpu"))
