"""Strict loading: every key that does not fit is named, and no code of a file is run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.autoencoders.autoencoder_kl import AutoencoderKL
from models.autoencoders.first_stage_config import AutoencoderConfig
from models.checkpoints.checkpoint import (
    CheckpointError,
    CheckpointMismatch,
    CheckpointMissing,
    load_component,
    resolve,
)
from models.checkpoints.errors import UnsupportedConfig
from models.loading.loader import load_model
from models.networks.config import UNetConfig
from models.networks.unet import UNet

CPU = torch.device("cpu")
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tiny_sd_folder: Path, tmp_path: Path) -> Path:
    """Copy the tiny model, for tests that damage it."""
    return Path(shutil.copytree(tiny_sd_folder, tmp_path / "model"))


def edit_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    """Set, add or (None) remove tensors of the UNet's file."""
    tensors = {**load_file(folder / WEIGHTS), **changes}
    save_file({n: t for n, t in tensors.items() if t is not None}, folder / WEIGHTS)


def test_every_missing_unexpected_and_misshapen_key_is_named(folder: Path) -> None:
    edit_weights(
        folder,
        **{
            "conv_in.weight": None,
            "mid_block.resnets.0.norm1.bias": None,
            "conv_out.bias": torch.zeros(5),
            "extra.weight": torch.zeros(1),
        },
    )
    with pytest.raises(CheckpointMismatch) as caught:
        load_model(str(folder), CPU)
    assert caught.value.missing == ["conv_in.weight", "mid_block.resnets.0.norm1.bias"]
    assert caught.value.unexpected == ["extra.weight"]
    assert caught.value.misshapen == ["conv_out.bias is (5,), expected (4,)"]
    for name in ("conv_in.weight", "extra.weight", "conv_out.bias", "(5,)", "(4,)"):
        assert name in str(caught.value)


def test_weights_are_loaded_exactly_in_the_requested_dtype(folder: Path) -> None:
    stored = load_file(folder / WEIGHTS)
    for dtype in (torch.float32, torch.float16):
        unet = load_component(folder / "unet", lambda c: UNet(UNetConfig.from_dict(c)), dtype, CPU)
        loaded = unet.state_dict()
        assert loaded.keys() == stored.keys()
        assert all(torch.equal(loaded[name], stored[name].to(dtype)) for name in stored)
        assert not any(p.requires_grad for p in unet.parameters())


def test_fp16_file_is_preferred_for_half_precision(folder: Path) -> None:
    tensors = {n: torch.full_like(t, 2.0).half() for n, t in load_file(folder / WEIGHTS).items()}
    save_file(tensors, folder / "unet/diffusion_pytorch_model.fp16.safetensors")

    def first_weight(dtype: torch.dtype) -> float:
        unet = load_component(folder / "unet", lambda c: UNet(UNetConfig.from_dict(c)), dtype, CPU)
        return float(unet.state_dict()["conv_in.bias"][0])

    assert first_weight(torch.float16) == 2.0
    assert first_weight(torch.float32) != 2.0


def test_old_attention_names_and_position_ids_are_read(folder: Path) -> None:
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    path = folder / "vae/diffusion_pytorch_model.safetensors"
    stored = load_file(path)
    renamed = {}
    for name, tensor in stored.items():
        for new, legacy in old.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{legacy}.")
        renamed[name] = tensor
    assert renamed.keys() != stored.keys()
    save_file(renamed, path)
    text = folder / "text_encoder/model.safetensors"
    ids = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    save_file({**load_file(text), **ids}, text)
    model = load_model(str(folder), CPU)
    assert all(torch.equal(t, stored[n]) for n, t in model.autoencoder.state_dict().items())


def test_pickle_in_the_folder_is_never_opened(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "unet/diffusion_pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(CheckpointMissing, match="safetensors"):
        load_model(str(folder), CPU)


@pytest.mark.parametrize("name", ["no/such/folder/here", "../up", "/nowhere", "a b"])
def test_source_that_is_neither_folder_nor_hub_id_is_refused(name: str) -> None:
    with pytest.raises(CheckpointMissing, match=r"neither a folder, nor a .safetensors"):
        resolve(name)


def test_hub_id_is_fetched(folder: Path) -> None:
    requested: list[str] = []

    def download(repository: str) -> Path:
        requested.append(repository)
        return folder

    assert resolve("owner/some-model", download) == folder
    assert requested == ["owner/some-model"]


def test_unreachable_hub_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointMissing, match="owner/some-model"):
        resolve("owner/some-model")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model_index.json", "{", "not JSON"),
        ("model_index.json", json.dumps({"_class_name": "FluxPipeline"}), "FluxPipeline"),
        ("unet/config.json", None, "missing"),
        ("scheduler/scheduler_config.json", None, "missing"),
    ],
)
def test_broken_folders_are_refused(
    folder: Path, file: str, content: str | None, message: str
) -> None:
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        load_model(str(folder), CPU)


def test_unsupported_configuration_is_refused_before_its_weights_are_read(folder: Path) -> None:
    config = json.loads((folder / "unet/config.json").read_text())
    (folder / "unet/config.json").write_text(json.dumps(config | {"class_embed_type": "simple"}))
    with pytest.raises(UnsupportedConfig, match="class_embed_type"):
        load_model(str(folder), CPU)


def test_first_stage_with_force_upcast_stays_in_single_precision(
    tiny_sdxl_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_sdxl_folder, tmp_path / "model"))
    config = json.loads((folder / "vae/config.json").read_text())
    (folder / "vae/config.json").write_text(json.dumps(config | {"force_upcast": True}))
    model = load_model(str(folder), CPU, torch.float16)
    assert model.autoencoder.dtype == torch.float32
    assert model.unet.conv_in.weight.dtype == torch.float16


def test_loading_reports_increasing_progress_up_to_one(folder: Path) -> None:
    reported: list[float] = []
    load_model(str(folder), CPU, report=lambda fraction, what: reported.append(fraction))
    assert reported == sorted(reported)
    assert reported[0] == 0.0
    assert reported[-1] == 1.0


def test_first_stage_loads_on_its_own(folder: Path) -> None:
    network = load_component(
        folder / "vae", lambda c: AutoencoderKL(AutoencoderConfig.from_dict(c)), torch.float32, CPU
    )
    assert network.config.factor == 4
