"""Images whose decoding overflows in half precision are decoded again in single precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.autoencoders.autoencoder_kl import AutoencoderKL
from models.autoencoders.first_stage_config import AutoencoderConfig
from models.executors.eager import eager_executors
from models.executors.tiling import Tiling, tiled
from models.loading.loader import load_model
from models.pipeline import LatentDiffusion
from tests.support.tiny_models import write_tiny_sd

CPU = torch.device("cpu")
TILES = Tiling(side=32)


@pytest.fixture
def model(tmp_path: Path) -> LatentDiffusion:
    """A model in half precision, whose decoder overflows for latents beyond 1."""
    model = load_model(str(write_tiny_sd(tmp_path)), CPU, torch.float16)
    assert isinstance(model.autoencoder, AutoencoderKL)
    with torch.no_grad():
        model.autoencoder.decoder.conv_in.weight.fill_(1000)
    return model


def in_single_precision(model: LatentDiffusion, latents: Tensor) -> Tensor:
    """Decode with the same weights in single precision, in the same tiles."""
    stage = AutoencoderKL(AutoencoderConfig(**vars(model.autoencoder.config)))
    stage.load_state_dict({k: v.float() for k, v in model.autoencoder.state_dict().items()})
    executors = tiled(eager_executors(model.unet, stage.eval()), stage, TILES)
    return replace(model, autoencoder=stage, executors=executors).decode(latents)


def test_only_the_image_that_overflows_is_decoded_again(model: LatentDiffusion) -> None:
    calm, wild = torch.full((1, 4, 8, 8), 0.001), torch.randn(1, 4, 8, 8).abs() * 50
    wild[..., :4] *= -1
    decoded = model.decode(calm)
    assert model.overflows.count == 0
    again = model.decode(wild)
    assert model.overflows.count == 1
    expected = in_single_precision(model, wild)
    assert (again.int() - expected.int()).abs().max() <= 1
    assert expected.float().std() > 5
    assert torch.equal(model.decode(calm), decoded)
    assert model.overflows.count == 1


def test_in_tiles_the_rest_of_the_image_is_decoded_again(model: LatentDiffusion) -> None:
    cut = replace(model, executors=tiled(model.executors, model.autoencoder, TILES))
    latents = torch.full((1, 4, 24, 8), 0.001)
    latents[..., 18:, :] = torch.randn(1, 4, 6, 8) * 50
    image, expected = cut.decode(latents), in_single_precision(cut, latents)
    assert image.shape == (1, 96, 32, 3)
    assert cut.overflows.count == 1
    assert (image[:, 72:].int() - expected[:, 72:].int()).abs().max() <= 1
    assert expected[:, 72:].float().std() > 5
