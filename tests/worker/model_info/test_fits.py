"""The served models that an extra network fits, and the reasons of those that it does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.loading.checkpoint_report import CheckpointReport
from models.loading.inspection import inspect_checkpoint
from models.loading.loader import load_model
from models.lora.merging import layers_of
from models.lora.names import UNET
from tests.models.lora import spellings
from tests.support.tiny_models import (
    CONTEXT,
    write_tiny_controlnet,
    write_tiny_sd,
    write_tiny_sdxl,
)
from worker.model_info.fits import with_fits
from worker.settings import WorkerSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two models of different families and a models config of them."""
    folder = tmp_path_factory.mktemp("models")
    write_tiny_sd(folder / "sd")
    write_tiny_sdxl(folder / "sdxl")
    text = '[models."小"]\nsource = "./sd"\n[models.sdxl]\nsource = "./sdxl"\n'
    (folder / "models.toml").write_text(text, "utf-8")
    return folder


def report(folder: Path, path: Path, name: str = "my-cat") -> CheckpointReport:
    settings = WorkerSettings(catalogue=folder / "models.toml", models_home=folder / "home")
    return with_fits(inspect_checkpoint(str(path)), path, name, settings)


def test_lora_fits_the_models_with_its_layers(folder: Path, tmp_path: Path) -> None:
    layers = layers_of(load_model(str(folder / "sd"), torch.device("meta")))
    pairs = spellings.random_pairs(layers, [(UNET, "down_blocks.0.attentions.0.proj_in")])
    file = spellings.save(tmp_path / "style.safetensors", spellings.kohya(pairs))
    found = report(folder, file)
    assert (found.valid, found.fitting) == (True, "小")
    [note] = found.all_notes
    assert note.startswith("it does not fit the served model sdxl: does not fit: keys of no layer")
    assert "  fits            小" in found.lines()


def test_lora_that_fits_no_model_has_the_reason_of_each(folder: Path, tmp_path: Path) -> None:
    tensors = {"lora_unet_x.lora_up.weight": torch.ones(4, 2),
               "lora_unet_x.lora_down.weight": torch.ones(2, 4)}  # fmt: skip
    found = report(folder, spellings.save(tmp_path / "x.safetensors", tensors))
    assert not found.valid
    assert [problem.split(":")[0] for problem in found.all_problems] == [
        "it does not fit the served model 小",
        "it does not fit the served model sdxl",
    ]
    assert all("lora_unet_x.lora_down.weight" in problem for problem in found.all_problems)


@pytest.mark.parametrize(
    ("tensors", "name", "reason"),
    [
        ({"emb_params": torch.ones(2, CONTEXT + 1)}, "my-cat", "must be (N, 32)"),
        ({"<cat>": torch.ones(76, CONTEXT)}, "my-cat", "76 vectors"),
        ({"<cat>": torch.ones(2, CONTEXT)}, "th", "the model already has 'th'"),
        ({"<cat>": torch.ones(2, CONTEXT)}, "cat (v2)", "prompts read ( ) [ ]"),
        ({"emb_params": torch.ones(2, CONTEXT), "x": torch.ones(1)}, "my-cat", "2 tensors"),
    ],
)
def test_embedding_that_no_prompt_can_use_is_refused(
    folder: Path, tmp_path: Path, tensors: dict[str, torch.Tensor], name: str, reason: str
) -> None:
    save_file(tensors, tmp_path / "e.safetensors")
    found = report(folder, tmp_path / "e.safetensors", name)
    assert not found.valid
    assert reason in found.all_problems[0]
    assert "is SDXL" in found.all_problems[1] or "syntax" in found.all_problems[1]


def test_embedding_fits_and_its_placeholder_is_told(folder: Path, tmp_path: Path) -> None:
    tensors = {
        "string_to_param.<hat>": torch.ones(2, CONTEXT),
        "string_to_token.<hat>": torch.ones(1),
    }
    file = tmp_path / "e.safetensors"
    save_file(tensors, file)
    found = report(folder, file, "帽子")
    assert (found.valid, found.fitting) == (True, "小")
    assert "'<hat>', as in the file, means nothing" in found.all_notes[0]
    installed = folder / "home/embeddings/帽子.safetensors"
    installed.parent.mkdir(parents=True)
    file.rename(installed)
    assert report(folder, installed, "帽子").fitting == "小"  # it does not conflict with itself


def test_controlnet_fits_the_models_of_its_shape(folder: Path, tmp_path: Path) -> None:
    write_tiny_controlnet(tmp_path / "canny", folder / "sd")
    assert report(folder, tmp_path / "canny").fitting == "小"


def test_model_that_cannot_be_described_is_named(folder: Path, tmp_path: Path) -> None:
    write_tiny_controlnet(tmp_path / "canny", folder / "sd")
    settings = WorkerSettings(model=str(tmp_path / "absent"), models_home=tmp_path)
    found = with_fits(
        inspect_checkpoint(str(tmp_path / "canny")), tmp_path / "canny", "canny", settings
    )
    assert found.valid
    [note] = found.all_notes
    assert note.startswith(f"not compared with {tmp_path / 'absent'}: ")
