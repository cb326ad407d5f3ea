"""Separate strengths in UNet and text encoders as in diffusers, and factors for each block."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.checkpoints.meta import meta_device
from models.lora.layers import Layers
from models.lora.merging import Strength, layers_of, networks, with_loras
from models.lora.names import TEXT, UNET
from models.lora.original_names import BLOCKS
from models.lora.reading import read_lora
from models.networks.config import UNetConfig
from models.networks.unet import UNet
from models.pipeline import LatentDiffusion
from protocol.request.loras.lora_use import BLOCK_LISTS
from tests.models.lora import spellings
from tests.models.lora.test_merging import assert_equal, fused, trained_layers
from tests.support.published import SD15, SDXL, published


def test_strengths_of_unet_and_text_encoder_are_those_of_diffusers(
    tiny_sd: LatentDiffusion, tiny_sd_folder: Path, tmp_path: Path
) -> None:
    layers = layers_of(tiny_sd)
    pairs = spellings.random_pairs(layers, trained_layers(tiny_sd))
    file = spellings.save(tmp_path / "one.safetensors", spellings.kohya(pairs, 2.0))
    theirs = fused(tiny_sd_folder, [file], [{"unet": 0.8, "text_encoder": -0.3}])
    ours = with_loras(tiny_sd, [(read_lora(file, layers), Strength(unet=0.8, text=-0.3))])
    assert_equal(ours.unet, theirs.unet)
    assert_equal(networks(ours)[TEXT], theirs.text_encoder, "text_model.{}")


def test_clients_and_models_mean_the_same_blocks() -> None:
    assert BLOCK_LISTS[26] == BLOCKS


@pytest.mark.parametrize(
    ("model", "expected"),
    [  # The blocks with transformers, as the lists of 17 and of 12 name them.
        (SD15, {"down_blocks.0.attentions.0": "IN01", "down_blocks.0.attentions.1": "IN02",
                "down_blocks.1.attentions.0": "IN04", "down_blocks.2.attentions.1": "IN08",
                "mid_block.attentions.0": "M00", "up_blocks.1.attentions.0": "OUT03",
                "up_blocks.2.attentions.2": "OUT08", "up_blocks.3.attentions.2": "OUT11"}),
        (SDXL, {"down_blocks.1.attentions.0": "IN04", "down_blocks.1.attentions.1": "IN05",
                "down_blocks.2.attentions.0": "IN07", "mid_block.attentions.0": "M00",
                "up_blocks.0.attentions.0": "OUT00", "up_blocks.1.attentions.2": "OUT05"}),
    ],
)  # fmt: skip
def test_blocks_of_published_models(model: str, expected: dict[str, str]) -> None:
    config = UNetConfig.from_dict(published(model, "unet/config.json"))
    with meta_device():
        layers = Layers.of({UNET: UNet(config)}, config)
    found = {path: BLOCKS[layers.blocks[f"{path}.proj_in"]] for path in expected}
    assert found == expected
    assert layers.blocks["conv_in"] == BLOCKS.index("IN00")
    assert not {"conv_out", "time_embedding.linear_1"} & layers.blocks.keys()


def test_factor_of_a_block_multiplies_the_changes_of_its_layers(
    tiny_sd: LatentDiffusion, tmp_path: Path
) -> None:
    layers = layers_of(tiny_sd)
    pairs = spellings.random_pairs(layers, layers.shapes)
    lora = read_lora(spellings.save(tmp_path / "a.safetensors", spellings.kohya(pairs)), layers)
    factors = torch.rand(len(BLOCKS)).tolist()
    merged = with_loras(tiny_sd, [(lora, Strength(0.5, 0.8, tuple(factors)))])
    for component, path in layers.shapes:
        factor = factors[0]
        if component == UNET:
            factor = factors[layers.blocks[path]] if path in layers.blocks else 1.0
        strength = factor * (0.5 if component == UNET else 0.8)
        down, up = pairs[component, path]
        before, after = (
            networks(model)[component].get_parameter(f"{path}.weight")
            for model in (tiny_sd, merged)
        )
        expected = before + strength * torch.einsum("or,r...->o...", up.flatten(1), down)
        torch.testing.assert_close(after, expected)
