"""Networks that replace a model's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from models.checkpoints.checkpoint import CheckpointError, CheckpointMissing
from models.checkpoints.hub import fetch_component as fetch
from models.denoising.sampling_params import SamplingParams
from models.loading.loader import load_model
from models.loading.replacements import resolve_network
from models.pipeline import LatentDiffusion
from tests.support.published import published
from tests.support.tiny_models import write_tiny_distilled, write_tiny_sd, write_tiny_sdxl

CPU = torch.device("cpu")


def latents_of(model: LatentDiffusion) -> torch.Tensor:
    params = SamplingParams("the red cat", width=32, height=32, steps=2, seed=3, guidance_scale=1.0)
    return list(model.generate([params]))[-1][0].x


def test_latents_stay_equal_and_images_are_those_of_the_other(
    tiny_sd: LatentDiffusion, tmp_path: Path
) -> None:
    other = write_tiny_sdxl(tmp_path / "xl")  # a first stage of the same shape, other weights
    vae = resolve_network(str(other), "vae", fetch)
    replaced = load_model(str(tiny_sd.folder), CPU, first_stage=vae)
    latents = latents_of(replaced)
    assert torch.equal(latents, latents_of(tiny_sd))
    theirs = load_model(str(other), torch.device("cpu"))
    images = [model.decode(latents[None]) for model in (replaced, theirs, tiny_sd)]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])
    assert replaced.number != tiny_sd.number


@pytest.mark.parametrize(
    ("setting", "precision"), [(None, torch.float32), (False, torch.float16), (True, torch.float32)]
)
def test_precision_is_the_models_own_where_a_file_does_not_set_it(
    setting: bool | None, precision: torch.dtype, tmp_path: Path
) -> None:
    """As stabilityai/sdxl-vae, which overflows in half precision and lacks the setting."""
    model = write_tiny_sdxl(tmp_path / "xl")
    path = model / "vae/config.json"
    config = json.loads(path.read_text()) | {"scaling_factor": 0.13025}
    path.write_text(json.dumps(config | {"force_upcast": True}))
    other = write_tiny_sdxl(tmp_path / "other")
    del config["force_upcast"]
    upcast = {} if setting is None else {"force_upcast": setting}
    (other / "vae/config.json").write_text(json.dumps(config | upcast))
    loaded = load_model(str(model), torch.device("cpu"), torch.float16)
    assert loaded.autoencoder.dtype == torch.float32
    vae = resolve_network(str(other), "vae", fetch)
    replaced = load_model(str(model), CPU, torch.float16, first_stage=vae).autoencoder
    assert replaced.dtype == precision
    assert replaced.config.force_upcast is (setting is not False)
    assert "force_upcast" not in published("stabilityai__sdxl-vae", "config.json")


def test_sdxls_first_stage_is_in_single_precision_without_the_setting(
    tmp_path: Path,
) -> None:
    model = write_tiny_sdxl(tmp_path / "xl")
    path = model / "vae/config.json"
    config = json.loads(path.read_text())
    del config["force_upcast"]
    for scale, precision in ((0.13025, torch.float32), (0.18215, torch.float16)):
        path.write_text(json.dumps(config | {"scaling_factor": scale}))
        stage = load_model(str(model), torch.device("cpu"), torch.float16).autoencoder
        assert stage.dtype == precision
        assert stage.config.force_upcast is (precision == torch.float32)


def test_unet_replaces_a_models_own(tiny_sd: LatentDiffusion, tmp_path: Path) -> None:
    distilled = write_tiny_distilled(write_tiny_sd(tmp_path / "distilled"))
    replaced = load_model(
        str(tiny_sd.folder), CPU, unet=resolve_network(str(distilled), "unet", fetch)
    )
    assert torch.equal(latents_of(replaced), latents_of(load_model(str(distilled), CPU)))
    assert not torch.equal(latents_of(replaced), latents_of(tiny_sd))
    other = write_tiny_sdxl(tmp_path / "xl") / "unet"
    with pytest.raises(CheckpointError, match=r"does not fit .*_type text_time, not"):
        load_model(str(tiny_sd.folder), torch.device("meta"), unet=other)


def test_first_stage_of_another_shape_is_refused(tiny_sd: LatentDiffusion, tmp_path: Path) -> None:
    folder = write_tiny_sd(tmp_path / "other") / "vae"
    config = json.loads((folder / "config.json").read_text())
    levels = {"block_out_channels": [32, 64], "sample_size": 32}
    kinds = {
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
    }
    (folder / "config.json").write_text(json.dumps(config | levels | kinds))
    with pytest.raises(CheckpointError, match="4 channels for 2 pixels, the model's have 4"):
        load_model(str(tiny_sd.folder), torch.device("meta"), first_stage=folder)


@pytest.mark.parametrize(("sdxl", "scale"), [(False, 0.18215), (True, 0.13025)])
def test_first_stage_serves_a_model_that_holds_none(
    tmp_path: Path, sdxl: bool, scale: float
) -> None:
    """Single files of a first stage have no scale: it is that of the family."""
    write = write_tiny_sdxl if sdxl else write_tiny_sd
    whole, bare = write(tmp_path / "whole"), write(tmp_path / "bare")
    shutil.move(bare / "vae", tmp_path / "vae")
    with pytest.raises(CheckpointMissing, match="named as `vae` in the models config"):
        load_model(str(bare), CPU)
    for folder in (whole / "vae", tmp_path / "vae"):
        config = json.loads((folder / "config.json").read_text())
        config |= {"scaling_factor": scale, "force_upcast": sdxl}
        if folder.parent == tmp_path:
            del config["scaling_factor"], config["force_upcast"]
        (folder / "config.json").write_text(json.dumps(config))
    served, expected = (
        load_model(str(bare), CPU, first_stage=tmp_path / "vae"),
        load_model(str(whole)),
    )
    latents = latents_of(served)
    assert torch.equal(served.decode(latents[None]), expected.decode(latents[None]))
    assert served.autoencoder.config == expected.autoencoder.config


def test_first_stage_of_other_channels_serves_no_model(tmp_path: Path) -> None:
    bare = write_tiny_sd(tmp_path / "bare")
    folder = bare / "vae"
    config = json.loads((folder / "config.json").read_text()) | {"latent_channels": 16}
    (folder / "config.json").write_text(json.dumps(config))
    shutil.move(folder, tmp_path / "vae")
    with pytest.raises(CheckpointError, match="have 16 channels, the model's have 4"):
        load_model(str(bare), torch.device("meta"), first_stage=tmp_path / "vae")


@pytest.mark.parametrize("source", ["/nowhere/vae", "vae", "a/b/c"])
def test_missing_source_is_refused(source: str) -> None:
    with pytest.raises(CheckpointMissing, match="neither a folder nor a hub id"):
        resolve_network(source, "vae", fetch)
