"""LoRAs added by `darkroom models add`: PEFT's configuration is kept with the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.checkpoints.convert.install import install
from models.checkpoints.convert.model_store import ModelStore
from models.checkpoints.errors import CheckpointError
from models.lora.factors import Factors
from models.lora.merging import layers_of
from models.lora.names import UNET
from models.lora.reading import read_lora
from models.lora.registry import LoraRegistry
from models.pipeline import LatentDiffusion
from tests.models.lora import spellings


@pytest.fixture
def adapter(tiny_sd: LatentDiffusion, tmp_path: Path) -> Path:
    """Write a folder as PEFT does, with alpha three times the rank."""
    layers = layers_of(tiny_sd)
    chosen = [layer for layer in layers.shapes if layer[0] == UNET and layer[1].endswith("to_k")]
    pairs = spellings.random_pairs(layers, chosen, rank=4)
    folder = tmp_path / "adapter"
    spellings.save(folder / "adapter_model.safetensors", spellings.peft(pairs, bare=True))
    (folder / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 12}))
    return folder


@pytest.mark.parametrize("inside", ["", "adapter_model.safetensors", "adapter_model.bin"])
def test_peft_adapter_keeps_its_scale(
    tiny_sd: LatentDiffusion, adapter: Path, tmp_path: Path, inside: str
) -> None:
    if inside.endswith(".bin"):
        file = adapter / "adapter_model.safetensors"
        torch.save(load_file(file), adapter / inside)
        file.unlink()
    root = tmp_path / "home"
    added = install(str(adapter / inside), ModelStore(root), name="style")
    assert (added.kind, added.path) == ("lora", root / "loras/style.safetensors")
    layers = layers_of(tiny_sd)
    assert LoraRegistry(root / "loras").fitting(layers) == ("style",)
    scales = [
        change.scale
        for change in read_lora(added.path, layers).changes.values()
        if isinstance(change, Factors)
    ]
    assert {*scales} == {3.0}


def test_adapter_without_weights_is_refused(adapter: Path, tmp_path: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"none of adapter_model\.safetensors"):
        install(str(adapter), ModelStore(tmp_path / "home"), name="style")
