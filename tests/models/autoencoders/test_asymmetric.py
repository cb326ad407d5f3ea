"""The asymmetric autoencoder against diffusers: keys, decoding, images, and bad configurations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from models.autoencoders.asymmetric import AsymmetricAutoencoderKL
from models.autoencoders.first_stage_config import AsymmetricConfig
from models.autoencoders.pixels import to_bytes
from models.autoencoders.registry import build_first_stage
from models.checkpoints.detect.single_file import single_file_folder
from models.checkpoints.errors import CheckpointError
from models.checkpoints.meta import meta_device
from models.denoising.sampling_params import SamplingParams
from models.executors.tiling import Tiling, tiled
from models.loading.inspection import inspect_checkpoint
from models.loading.loader import load_model
from models.pipeline import LatentDiffusion
from tests.models.autoencoders.compvis import original_weights
from tests.models.pipeline.test_pipeline import as_tensor, assert_same_image, photo, theirs
from tests.support.tiny_models import (
    write_tiny_asymmetric,
    write_tiny_inpainting,
    write_tiny_sd,
    write_tiny_sdxl,
)

CPU = torch.device("cpu")
FACTOR = 8
WIDTH, HEIGHT = 48, 32
MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[8:24, 16:40] = 255  # whole latents, as diffusers marks them

# As in the diffusers script that converts the published files, and in their config.json.
PUBLISHED: dict[str, Any] = {
    "_class_name": "AsymmetricAutoencoderKL",
    "act_fn": "silu",
    "down_block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_down_block": 2,
    "layers_per_up_block": 3,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 256,
    "scaling_factor": 0.18215,
    "up_block_out_channels": [192, 384, 768, 768],
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
LARGER = PUBLISHED | {"layers_per_up_block": 5, "up_block_out_channels": [256, 512, 1024, 1024]}
PARAMS = SamplingParams(
    "the red cat", "a bad cat", width=WIDTH, height=HEIGHT, steps=4, sampler="ddim",
    schedule="leading", guidance_scale=3.0, seed=8,
)  # fmt: skip
INPAINTING = replace(
    PARAMS, image=as_tensor(photo(WIDTH, HEIGHT)), mask=torch.from_numpy(MASK)[None] / 255
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_asymmetric(write_tiny_sd(tmp_path_factory.mktemp("four")))


@pytest.fixture(scope="module")
def model(folder: Path) -> LatentDiffusion:
    return load_model(str(folder), CPU)


def generated(model: LatentDiffusion, params: SamplingParams) -> Any:
    (last,) = list(model.generate([params]))[-1]
    return model.decode(last.x[None], params)[0].numpy()


def inpainted_by_diffusers(folder: Path) -> Any:
    return theirs(
        diffusers.StableDiffusionInpaintPipeline, folder, INPAINTING, strength=1.0,
        image=photo(WIDTH, HEIGHT), mask_image=Image.fromarray(MASK), width=WIDTH, height=HEIGHT,
    )  # fmt: skip


@pytest.mark.parametrize("config", [PUBLISHED, LARGER], ids=["x-1-5", "x-2"])
def test_keys_and_shapes_are_those_of_diffusers(config: dict[str, Any]) -> None:
    with meta_device():
        expected = diffusers.AsymmetricAutoencoderKL.from_config(config)
        ours = build_first_stage(config)
        saved_again = build_first_stage(config | dict(expected.config))
    parameters = [
        {name: tensor.shape for name, tensor in network.state_dict().items()}
        for network in (expected, ours, saved_again)
    ]
    assert parameters[0] == parameters[1] == parameters[2]
    assert ours.config.scaling_factor == 0.18215


def test_images_are_those_of_diffusers(model: LatentDiffusion, folder: Path) -> None:
    pipeline, size = diffusers.StableDiffusionPipeline, {"width": WIDTH, "height": HEIGHT}
    assert_same_image(generated(model, PARAMS), theirs(pipeline, folder, PARAMS, **size))


@pytest.mark.parametrize("channels", [4, 9])
def test_inpainted_images_are_those_of_diffusers(
    channels: int, model: LatentDiffusion, folder: Path, tmp_path: Path
) -> None:
    if channels == 9:
        folder = write_tiny_asymmetric(write_tiny_inpainting(tmp_path))
        model = load_model(str(folder), CPU)
    image = generated(model, INPAINTING)
    assert_same_image(image, inpainted_by_diffusers(folder))
    (last,) = list(model.generate([INPAINTING]))[-1]
    assert not np.array_equal(model.decode(last.x[None])[0].numpy(), image)  # without the mask
    restored = model.postprocess(INPAINTING, torch.from_numpy(image)).numpy()
    np.testing.assert_array_equal(restored[MASK == 0], np.asarray(photo(WIDTH, HEIGHT))[MASK == 0])


@pytest.mark.parametrize("names", ["diffusers", "original"])
def test_single_file_serves_as_the_first_stage_of_a_model(
    names: str, model: LatentDiffusion, folder: Path, tmp_path: Path
) -> None:
    """The original names are those that diffusers' script converts."""
    weights = load_file(folder / "vae/diffusion_pytorch_model.safetensors")
    if names == "original":
        weights = {
            name.replace(".condition_encoder.", ".encoder."): tensor.contiguous()
            for name, tensor in original_weights(weights).items()
        } | {"decoder.up_layers.0.weight": torch.zeros(1), "loss.logvar": torch.zeros(1)}
    file = tmp_path / "asymmetric.safetensors"
    save_file(weights, file)
    assert inspect_checkpoint(str(file)).lines()[-1] == "valid"
    other = write_tiny_sd(tmp_path / "model")
    (other / "vae/config.json").unlink()
    for path in sorted(other.glob("vae/*")):
        path.unlink()
    (other / "vae").rmdir()
    served = load_model(str(other), CPU, first_stage=single_file_folder(file))
    assert isinstance(served.autoencoder, AsymmetricAutoencoderKL)
    for params in (PARAMS, INPAINTING):
        np.testing.assert_array_equal(generated(served, params), generated(model, params))


def test_scale_that_a_single_file_does_not_have_is_that_of_the_model(tmp_path: Path) -> None:
    model = write_tiny_asymmetric(write_tiny_sdxl(tmp_path))
    path = model / "vae/config.json"
    own = json.loads(path.read_text("utf-8")) | {"scaling_factor": 0.13025, "force_upcast": True}
    path.write_text(json.dumps(own), "utf-8")
    file = model / "vae/diffusion_pytorch_model.safetensors"
    served = load_model(str(model), CPU, torch.float16, first_stage=single_file_folder(file))
    assert isinstance(served.autoencoder, AsymmetricAutoencoderKL)
    assert served.autoencoder.config.scaling_factor == 0.13025
    assert served.autoencoder.dtype == torch.float32


def test_model_and_first_stage_are_valid(folder: Path) -> None:
    for path in (folder, folder / "vae"):
        assert inspect_checkpoint(str(path)).lines()[-1] == "valid"


@torch.inference_mode()
def test_tiles_are_conditioned_on_their_part_of_the_image(
    model: LatentDiffusion, folder: Path
) -> None:
    """Every tile but for what fades into its neighbours is that of diffusers for its part."""
    side, fade = 64, 16
    cut = replace(model, executors=tiled(model.executors, model.autoencoder, Tiling(side)))
    network = diffusers.AsymmetricAutoencoderKL.from_pretrained(folder / "vae")
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(1, 4, 14, 14, generator=generator)
    image = torch.rand(3, 112, 112, generator=generator) * 2 - 1
    mask = (torch.rand(1, 112, 112, generator=generator) > 0.5).float()
    decoded = cut.decode(latents, replace(INPAINTING, image=image, mask=mask))
    for top, left in ((0, 0), (0, 48), (48, 0), (48, 48)):
        down, across = slice(top, top + side), slice(left, left + side)
        part = [slice(s.start // FACTOR, s.stop // FACTOR) for s in (down, across)]
        z = latents[..., part[0], part[1]] / model.autoencoder.config.scaling_factor
        known = {"image": image[None, :, down, across], "mask": mask[None, :, down, across]}
        expected = to_bytes(network.decode(z, **known).sample).int()
        inner = [
            slice(fade if s.start else 0, side if s.start else side - fade) for s in (down, across)
        ]
        mine = decoded[:, down, across].int()
        difference = (mine - expected)[:, inner[0], inner[1]]
        assert difference.abs().max() <= 1
        assert expected.float().std() > 5


def test_overflow_is_decoded_again_with_the_mask(folder: Path) -> None:
    half = load_model(str(folder), CPU, torch.float16)
    assert isinstance(half.autoencoder, AsymmetricAutoencoderKL)
    with torch.no_grad():
        half.autoencoder.decoder.conv_in.weight.fill_(1000)
    latents = torch.randn(1, 4, 4, 6, generator=torch.Generator().manual_seed(1)) * 50
    again = half.decode(latents, INPAINTING)
    assert half.overflows.count == 1
    network = AsymmetricAutoencoderKL(half.autoencoder.config)
    network.load_state_dict({k: v.float() for k, v in half.autoencoder.state_dict().items()})
    single = replace(half, autoencoder=network.eval()).decode(latents, INPAINTING)
    assert (again.int() - single.int()).abs().max() <= 1
    assert single.float().std() > 5


def test_several_images_of_a_batch_are_those_of_each_alone(model: LatentDiffusion) -> None:
    latents = torch.randn(3, 4, 4, 6, generator=torch.Generator().manual_seed(2))
    together = model.decode(latents, INPAINTING)
    alone = [model.decode(one[None], INPAINTING) for one in latents]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"up_block_out_channels": [64, 128, 256]}, r"up_block_out_channels=\(64, 128, 256\): 4"),
        ({"up_block_out_channels": [192, 192, 192, 192]}, "each twice the one before"),
        ({"up_block_out_channels": [64, 64, 64, 1024]}, "each twice the one before"),
        ({"up_block_out_channels": [1, 2, 4, 16]}, "each twice the one before"),
        ({"up_block_out_channels": []}, "a list has 1 to 16 values"),
        ({"up_block_out_channels": 192}, "up_block_out_channels"),
        ({"down_block_out_channels": [128, 256, 512]}, "down_block_types="),
        ({"down_block_types": ["DownBlock2D"] * 4}, "down_block_types="),
        ({"up_block_types": ["UpDecoderBlock2D"] * 3}, "up_block_types="),
        ({"in_channels": 4}, "in_channels=4: 3 are needed"),
        ({"out_channels": 6}, "out_channels=6: 3 are needed"),
        ({"layers_per_up_block": 1000}, "layers_per_up_block=1000: must be 1 to 8"),
        ({"layers_per_down_block": 0}, "layers_per_down_block=0: must be 1 to 8"),
        ({"act_fn": "gelu"}, "act_fn='gelu' is not supported"),
        ({"shift_factor": 0.1}, "shift_factor=0.1 is not supported"),
    ],
)
def test_bad_configuration_is_refused(changes: dict[str, Any], words: str) -> None:
    with meta_device(), pytest.raises(CheckpointError, match=words):
        build_first_stage(PUBLISHED | changes)


def test_first_stage_of_another_factor_is_refused(folder: Path, tmp_path: Path) -> None:
    other = write_tiny_sdxl(tmp_path)
    with pytest.raises(CheckpointError, match="4 channels for 8 pixels, the model's have 4"):
        load_model(str(other), CPU, first_stage=folder / "vae")


def test_configuration_is_read_as_it_was_written() -> None:
    config = AsymmetricConfig.from_dict(LARGER)
    assert AsymmetricConfig.from_dict(config.to_dict()) == config
