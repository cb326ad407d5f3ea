"""Installs on disks that are too small."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.checkpoints.convert.disk_space import RESERVE, check_space, converted_size
from models.checkpoints.convert.install import install
from models.checkpoints.convert.model_store import ModelStore
from models.checkpoints.errors import CheckpointError
from tests.support.tiny_models import write_tiny_sd


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes that every disk has free beyond the reserve, in a list that tests may change."""
    found = [0]

    def usage(folder: Path) -> shutil._ntuple_diskusage:
        assert folder.exists()
        return shutil._ntuple_diskusage(10**12, 0, found[0] + RESERVE)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    return found


def test_space_of_a_folder_that_does_not_exist_yet(tmp_path: Path, free: list[int]) -> None:
    folder = tmp_path / "models" / "new"
    check_space(folder, 0)
    with pytest.raises(CheckpointError, match=r"0\.50 GB are needed .* but 0\.00 GB are free"):
        check_space(folder, 500_000_000)
    free[0] = 500_000_000
    check_space(folder, 500_000_000)


def test_one_variant_of_each_network_counts(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_tiny_sd(folder)
    before = converted_size(folder)
    assert before >= (folder / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(bytes(1000))
    (folder / "original.ckpt").write_bytes(bytes(1000))
    assert converted_size(folder) == before


def test_install_on_a_full_disk_is_refused(tmp_path: Path, free: list[int]) -> None:
    weights = tmp_path / "pencil.safetensors"
    rank = {"lora_unet_a.lora_down.weight": (4, 8), "lora_unet_a.lora_up.weight": (8, 4)}
    save_file({name: torch.zeros(shape) for name, shape in rank.items()}, weights)
    store = ModelStore(tmp_path / "home")
    with pytest.raises(CheckpointError, match="are free"):
        install(str(weights), store)
    assert not list(store.root.glob("*"))
