"""Folders that `save_pretrained` of the installed diffusers and transformers writes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertModel
from diffusers.training_utils import EMAModel
from torch import Tensor

from models.autoencoders.registry import load_first_stage
from models.checkpoints.checkpoint import load_component, read_json
from models.loading.controlnets import load_controlnet
from models.loading.footprint import networks_of
from models.loading.inspection import inspect_checkpoint
from models.loading.loader import load_model
from models.networks.config import UNetConfig
from models.networks.unet import UNet
from models.pipeline import LatentDiffusion
from models.samplers.noise_schedule import NoiseSchedule
from tests.models.published import small_models
from tests.support.sampling import sample
from tests.support.tiny_models import (
    write_tiny_controlnet,
    write_tiny_depth,
    write_tiny_distilled,
    write_tiny_edit,
    write_tiny_inpainting,
    write_tiny_ldm3d,
    write_tiny_refiner,
    write_tiny_sd,
    write_tiny_sdxl,
    write_tiny_upscaling,
    write_tiny_vae,
)

CPU, FLOAT = torch.device("cpu"), torch.float32
TOLERANCE = 1e-5
PROMPTS = ("", "a red cat", "The CAT, (at) the <|endoftext|>!  “café”")

DEPTH_TO_IMAGE = "StableDiffusionDepth2ImgPipeline"
ESTIMATOR = ("depth_estimator", "feature_extractor")  # which clients replace by a depth map

Write = Callable[[Path], Path]


def distilled(folder: Path) -> Path:
    return write_tiny_distilled(write_tiny_sd(folder))


WRITERS: dict[str, Write] = {
    "sd": write_tiny_sd,
    "v-prediction": partial(write_tiny_sd, prediction_type="v_prediction"),
    "inpainting": write_tiny_inpainting,
    "instruct-pix2pix": write_tiny_edit,
    "depth-to-image": write_tiny_depth,
    "x4 upscaler": write_tiny_upscaling,
    "distilled": distilled,
    "ldm3d": write_tiny_ldm3d,
    "sdxl": write_tiny_sdxl,
    "refiner": write_tiny_refiner,
    "unconditional": small_models.write_unconditional,
    "paper's text to image": small_models.write_text_to_image,
    "super-resolution": small_models.write_super_resolution,
}


def saved(source: Path, folder: Path, **options: Any) -> Path:
    pipeline(source).save_pretrained(folder, **options)
    return folder


def pipeline(source: Path) -> Any:
    """Return the pipeline of a folder, with the classes of diffusers and transformers."""
    if (source / "vae").is_dir():
        name = read_json(source / "model_index.json")["_class_name"]
        left_out = dict.fromkeys(ESTIMATOR) if name == DEPTH_TO_IMAGE else {}
        return diffusers.DiffusionPipeline.from_pretrained(source, **left_out)
    # A folder of the paper's models names our own classes.
    classes = {
        "unet": getattr(diffusers, read_json(source / "unet/config.json")["_class_name"]),
        "vqvae": getattr(diffusers, read_json(source / "vqvae/config.json")["_class_name"]),
        "scheduler": diffusers.DDIMScheduler,
        "bert": LDMBertModel,
        "tokenizer": transformers.BertTokenizer,
    }
    kind = getattr(diffusers, read_json(source / "model_index.json")["_class_name"])
    parts = {name: part for name, part in classes.items() if (source / name).is_dir()}
    return kind(**{name: part.from_pretrained(source / name) for name, part in parts.items()})


def weights(model: LatentDiffusion) -> list[dict[str, Tensor]]:
    return [dict(network.state_dict()) for network in networks_of(model)]


@pytest.mark.parametrize("name", sample(WRITERS, every=2))
def test_saved_folder_holds_the_same_model(name: str, tmp_path: Path) -> None:
    """The model before it was saved equals the references: see `tests/models/published`."""
    source = WRITERS[name](tmp_path / "source")
    folder = saved(source, tmp_path / "saved")
    names = {path.name for path in folder.rglob("*")}
    assert not {"vocab.json", "merges.txt", "vocab.txt"} & names
    report = inspect_checkpoint(str(folder))
    assert report.valid, report.all_problems
    before, after = load_model(str(source), CPU, FLOAT), load_model(str(folder), CPU, FLOAT)
    assert after.noise_schedule == before.noise_schedule
    assert isinstance(after.noise_schedule, NoiseSchedule)
    for one, other in zip(weights(before), weights(after), strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
    if before.conditioner.tokenizer is not None:
        assert after.conditioner.tokenizer is not None
        for prompt in PROMPTS:
            rows = before.conditioner.tokenizer.rows(prompt)
            assert after.conditioner.tokenizer.rows(prompt) == rows, prompt


def test_variant_in_shards(tmp_path: Path) -> None:
    source = write_tiny_sd(tmp_path / "source")
    folder = saved(source, tmp_path / "saved", variant="fp16", max_shard_size="60KB")
    assert (folder / "unet/diffusion_pytorch_model.safetensors.index.fp16.json").is_file()
    assert inspect_checkpoint(str(folder)).valid
    before, after = load_model(str(source), CPU, FLOAT), load_model(str(folder), CPU, FLOAT)
    assert torch.equal(before.unet.conv_in.weight, after.unet.conv_in.weight)


def test_averaged_network_has_bookkeeping_in_its_configuration(tmp_path: Path) -> None:
    folder = write_tiny_sd(tmp_path / "model")
    network = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")
    average = EMAModel(
        network.parameters(),
        decay=0.9,
        use_ema_warmup=True,
        model_cls=diffusers.UNet2DConditionModel,
        model_config=network.config,
    )
    average.step(network.parameters())
    average.save_pretrained(str(folder / "unet"))
    config = read_json(folder / "unet/config.json")
    assert {"decay", "inv_gamma", "power", "optimization_step"} <= config.keys()
    assert inspect_checkpoint(str(folder)).valid
    assert load_model(str(folder), CPU, FLOAT).unet.config == UNetConfig.from_dict(
        {key: value for key, value in config.items() if key in UNetConfig.__dataclass_fields__}
    )


def test_network_on_its_own(tmp_path: Path) -> None:
    """A ControlNet, a first stage and a tiny autoencoder, each as its class saves it."""
    model = write_tiny_sd(tmp_path / "model")
    write_tiny_controlnet(tmp_path / "control", model)
    write_tiny_vae(tmp_path / "tiny")
    networks: dict[str, Any] = {
        "edges": diffusers.ControlNetModel.from_pretrained(tmp_path / "control"),
        "vae": diffusers.AutoencoderKL.from_pretrained(model / "vae"),
        "small": diffusers.AutoencoderTiny.from_pretrained(tmp_path / "tiny"),
    }
    for name, network in networks.items():
        network.save_pretrained(tmp_path / "saved" / name)
        report = inspect_checkpoint(str(tmp_path / "saved" / name))
        assert report.valid, report.all_problems
    load_controlnet(tmp_path / "saved/edges", FLOAT, CPU)


# -- networks with other parts --------------------------------------------------------------------


def close(ours: Tensor, theirs: Tensor) -> bool:
    return bool((ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max())


@torch.no_grad()
@pytest.mark.parametrize("kind", ["UNetMidBlock2D", None])
def test_unet_without_attention_in_the_middle(kind: str | None, tmp_path: Path) -> None:
    torch.manual_seed(1)
    config = read_json(write_tiny_sd(tmp_path / "model") / "unet/config.json")
    config |= {"mid_block_type": kind}
    theirs = diffusers.UNet2DConditionModel.from_config(config).eval()
    theirs.save_pretrained(tmp_path / "unet")
    ours = load_component(tmp_path / "unet", lambda c: UNet(UNetConfig.from_dict(c)), FLOAT, CPU)
    x, t, context = torch.randn(2, 4, 8, 8), torch.tensor([3, 771]), torch.randn(2, 7, 32)
    assert close(ours(x, t, context), theirs(x, t, context).sample)
    again = UNetConfig.from_dict(ours.config.to_dict())
    assert again == ours.config


@torch.no_grad()
@pytest.mark.parametrize("change", [{"add_attention": False}, {"mid_block_type": None}])
def test_unconditional_unet_without_attention_in_the_middle(
    change: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    config = small_models.unconditional_unet(3).to_dict() | change
    theirs = diffusers.UNet2DModel.from_config(config).eval()
    theirs.save_pretrained(tmp_path / "unet")
    ours = load_component(tmp_path / "unet", lambda c: UNet(UNetConfig.from_dict(c)), FLOAT, CPU)
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([3, 771])
    assert close(ours(x, t), theirs(x, t).sample)


@torch.no_grad()
@pytest.mark.parametrize(
    "change",
    [
        {"use_quant_conv": False, "use_post_quant_conv": False},
        {"use_post_quant_conv": False},
        {"mid_block_add_attention": False},
    ],
)
def test_first_stage_without_some_layers(change: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(1)
    config = read_json(write_tiny_sd(tmp_path / "model") / "vae/config.json") | change
    theirs = diffusers.AutoencoderKL.from_config(config).eval()
    theirs.save_pretrained(tmp_path / "vae")
    ours = load_first_stage(tmp_path / "vae", FLOAT, CPU)
    image, latents = torch.rand(1, 3, 16, 16) * 2 - 1, torch.randn(1, 4, 4, 4)
    assert close(ours.encode(image).mode(), theirs.encode(image).latent_dist.mode())
    assert close(ours.decode(latents), theirs.decode(latents).sample)
