"""Folders and files of networks conditioned on images, with wrong parts: refused by name."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.checkpoints.checkpoint import resolve
from models.checkpoints.errors import CheckpointError, CheckpointMissing, UnsupportedConfig
from models.loading.inspection import inspect_checkpoint
from models.loading.loader import load_model
from tests.support.tiny_models import write_tiny_depth, write_tiny_edit, write_tiny_upscaling

CPU = torch.device("cpu")
IMAGE_NOISE = "low_res_scheduler/scheduler_config.json"
MAX_BYTES = 32 * 2**20  # of Python's own memory, while such a folder is refused


def changed(folder: Path, file: str, **entries: Any) -> Path:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
    return folder


@pytest.fixture(scope="module")
def upscaling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_upscaling(tmp_path_factory.mktemp("upscaling"))


@pytest.mark.parametrize("level", [-1, 1000, 10**12, 1.5, "350", True, None, [1]])
def test_noise_level_beyond_its_schedule_is_refused(upscaling: Path, level: Any) -> None:
    before = (upscaling / "model_index.json").read_text()
    try:
        changed(upscaling, "model_index.json", max_noise_level=level)
        with pytest.raises(UnsupportedConfig, match=r"max_noise_level=.* is not a whole number"):
            load_model(str(upscaling), CPU)
    finally:
        (upscaling / "model_index.json").write_text(before)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"num_train_timesteps": 10**12}, "num_train_timesteps is 1000000000000"),
        ({"num_train_timesteps": "1000"}, "num_train_timesteps is '1000'"),
        ({"beta_schedule": "exponential"}, "beta_schedule is 'exponential'"),
        ({"beta_end": 1e300}, "beta_end is 1e"),
        ({"beta_start": [0.1]}, "beta_start is"),
        ({"trained_betas": [0.1] * 7}, "7 trained_betas for 1000 timesteps"),
        ({"trained_betas": ["a"] * 1000}, IMAGE_NOISE),
        ({"trained_betas": "0.1"}, IMAGE_NOISE),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr is not supported"),
    ],
)
def test_wrong_schedule_of_the_images_noise_is_refused(
    upscaling: Path, entries: dict[str, Any], message: str
) -> None:
    before = (upscaling / IMAGE_NOISE).read_text()
    tracemalloc.start()
    try:
        changed(upscaling, IMAGE_NOISE, **entries)
        with pytest.raises(UnsupportedConfig, match=message):
            load_model(str(upscaling), torch.device("meta"))
        assert tracemalloc.get_traced_memory()[1] < MAX_BYTES
    finally:
        tracemalloc.stop()
        (upscaling / IMAGE_NOISE).write_text(before)


def test_missing_schedule_of_the_images_noise_is_named(tmp_path: Path) -> None:
    folder = write_tiny_upscaling(tmp_path)
    (folder / IMAGE_NOISE).unlink()
    with pytest.raises(CheckpointMissing, match=IMAGE_NOISE):
        load_model(str(folder), CPU)
    assert not inspect_checkpoint(str(folder)).valid


@pytest.mark.parametrize(
    ("write", "pipeline", "message"),
    [
        (write_tiny_edit, "StableDiffusionDepth2ImgPipeline", "8 channels.* 4 .*latents and 1 of"),
        (write_tiny_depth, "StableDiffusionInstructPix2PixPipeline", "5 channels.*and 4 of"),
        (write_tiny_depth, "StableDiffusionPipeline", "5 channels.*and 0 of"),
        (write_tiny_upscaling, "StableDiffusionInstructPix2PixPipeline", "7 channels.*and 4 of"),
    ],
)
def test_network_for_other_inputs_is_refused(
    write: Callable[[Path], Path], pipeline: str, message: str, tmp_path: Path
) -> None:
    folder = changed(write(tmp_path), "model_index.json", _class_name=pipeline)
    with pytest.raises(CheckpointError, match=message):
        load_model(str(folder), CPU)


@pytest.mark.parametrize(
    "labels", [torch.zeros(1), torch.zeros(1000, 3), torch.zeros(()), torch.zeros(0, 1024)]
)
def test_single_file_with_wrong_labels_is_refused(
    labels: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "x4.safetensors"
    state = {
        "input_blocks.0.0.weight": torch.zeros(256, 7, 3, 3),
        "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(1, 1024),
        "label_emb.weight": labels,
    }
    save_file({f"model.diffusion_model.{key}": value for key, value in state.items()}, path)
    with pytest.raises(CheckpointError, match=r"x4\.safetensors"):
        load_model(resolve(str(path)).as_posix(), CPU)
