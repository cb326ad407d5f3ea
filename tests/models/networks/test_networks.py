"""The networks against diffusers and transformers, with the same random weights, in float32."""

from __future__ import annotations

import json
from typing import Any

import diffusers
import pytest
import torch
import transformers
from torch import Tensor, nn

from models.autoencoders.autoencoder_kl import AutoencoderKL
from models.autoencoders.first_stage_config import AutoencoderConfig
from models.checkpoints.errors import UnsupportedConfig
from models.checkpoints.meta import meta_device
from models.networks.config import TextEncoderConfig, UNetConfig
from models.networks.text_encoder import TextEncoder
from models.networks.unet import AddedConditioning, UNet
from tests.support.published import (
    REFINER,
    SD15,
    SDXL,
    key_list,
    published,
    small_autoencoder,
    small_text_encoder,
    small_unet,
)

TOLERANCE = 1e-4  # relative to the largest value of the reference


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def seeded(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


PUBLISHED_WEIGHTS = [
    (SD15, "unet", UNet, UNetConfig, "CompVis__stable-diffusion-v1-4.unet"),
    (SDXL, "unet", UNet, UNetConfig, f"{SDXL}.unet"),
    (REFINER, "unet", UNet, UNetConfig, f"{REFINER}.unet"),
    (SD15, "vae", AutoencoderKL, AutoencoderConfig, f"{SD15}.vae"),
    (SDXL, "vae", AutoencoderKL, AutoencoderConfig, f"{SDXL}.vae"),
    (SDXL, "text_encoder", TextEncoder, TextEncoderConfig, f"{SDXL}.text_encoder"),
    (SDXL, "text_encoder_2", TextEncoder, TextEncoderConfig, f"{SDXL}.text_encoder_2"),
]


@pytest.mark.parametrize(("model", "part", "network", "config", "keys"), PUBLISHED_WEIGHTS)
def test_parameters_are_those_of_the_published_file(
    model: str, part: str, network: Any, config: Any, keys: str
) -> None:
    with meta_device():
        module = network(config.from_dict(published(model, f"{part}/config.json")))
    assert shapes(module) == key_list(keys)


@pytest.mark.parametrize("size", [(16, 16), (9, 13)], ids=["even", "odd"])
@pytest.mark.parametrize("model", [SD15, SDXL])
def test_unet(model: str, size: tuple[int, int]) -> None:
    config = small_unet(model)
    theirs = diffusers.UNet2DConditionModel.from_config(config).eval()
    ours = UNet(UNetConfig.from_dict(config)).eval()
    ours.load_state_dict(theirs.state_dict())
    x, timestep, context = seeded(3, 4, *size), torch.tensor([1.0, 500.0, 981.0]), seeded(3, 77, 48)
    added, kwargs = None, {}
    if model == SDXL:
        pooled, ids = seeded(3, 64), torch.tensor([[1024.0, 768, 0, 8, 1024, 768]] * 3)
        added = AddedConditioning(pooled, ids)
        kwargs = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": ids}}
    with torch.no_grad():
        expected = theirs(x, timestep, context, **kwargs).sample
        assert relative_error(ours(x, timestep, context, added), expected) < TOLERANCE


@pytest.mark.parametrize("model", [SD15, SDXL])
def test_autoencoder(model: str) -> None:
    config = small_autoencoder(model)
    theirs = diffusers.AutoencoderKL.from_config(config).eval()
    ours = AutoencoderKL(AutoencoderConfig.from_dict(config)).eval()
    ours.load_state_dict(theirs.state_dict())
    image, z = seeded(2, 3, 40, 64).clamp(-1, 1), seeded(2, 4, 5, 8)
    with torch.no_grad():
        posterior, expected = ours.encode(image), theirs.encode(image).latent_dist
        assert relative_error(posterior.mean, expected.mean) < TOLERANCE
        assert relative_error(posterior.logvar, expected.logvar) < TOLERANCE
        assert relative_error(posterior.kl(), expected.kl()) < TOLERANCE
        assert relative_error(ours.decode(z), theirs.decode(z).sample) < TOLERANCE


@pytest.mark.parametrize(
    ("model", "part", "reference"),
    [
        (SD15, "text_encoder", transformers.CLIPTextModel),
        (SDXL, "text_encoder", transformers.CLIPTextModel),
        (SDXL, "text_encoder_2", transformers.CLIPTextModelWithProjection),
    ],
)
def test_text_encoder(model: str, part: str, reference: Any) -> None:
    config = small_text_encoder(model, part, hidden=64, projection=48)
    hub_only = ("architectures", "torch_dtype", "transformers_version", "_name_or_path")
    theirs = reference(
        transformers.CLIPTextConfig(**{k: v for k, v in config.items() if k not in hub_only})
    ).eval()
    ours = TextEncoder(TextEncoderConfig.from_dict(config)).eval()
    # In memory, transformers 5 lacks the prefix that the files have.
    ours.load_state_dict(
        {
            k if k.startswith("text_") else f"text_model.{k}": v
            for k, v in theirs.state_dict().items()
        }
    )
    ids = torch.randint(5, 49000, (2, 77), generator=torch.Generator().manual_seed(0))
    ids[:, 0], ids[0, 10:], ids[1, 40:] = 49406, 49407, 49407
    with torch.no_grad():
        features, expected = ours(ids), theirs(ids, output_hidden_states=True)
    assert relative_error(features.last, expected.last_hidden_state) < TOLERANCE
    assert relative_error(features.hidden_states[-2], expected.hidden_states[-2]) < TOLERANCE
    pooled = expected.text_embeds if part.endswith("_2") else expected.pooler_output
    assert relative_error(features.pooled, pooled) < TOLERANCE


def test_pooled_text_is_at_the_first_end_token_when_the_file_names_it() -> None:
    config = TextEncoderConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=8, eos_token_id=3,
    )  # fmt: skip
    encoder = TextEncoder(config).eval()
    features = encoder(torch.tensor([[1, 40, 49, 3, 3, 3, 3, 3]]))
    assert torch.equal(features.pooled[0], features.last[0, 3])


@pytest.mark.parametrize(
    ("config", "change"),
    [
        (UNetConfig, {"class_embed_type": "timestep"}),
        (UNetConfig, {"act_fn": "gelu"}),
        (UNetConfig, {"down_block_types": ["SimpleCrossAttnDownBlock2D"]}),
        (UNetConfig, {"addition_embed_type": "image"}),
        (UNetConfig, {"a_key_of_the_future": 3}),
        (AutoencoderConfig, {"norm_type": "spatial"}),
        (AutoencoderConfig, {"down_block_types": ["AttnDownEncoderBlock2D"]}),
        (TextEncoderConfig, {"hidden_act": "relu"}),
    ],
)
def test_unsupported_options_are_refused(config: Any, change: Any) -> None:
    ((key, value),) = change.items()
    named = value[0] if isinstance(value, list) else key
    with pytest.raises(UnsupportedConfig, match=named):
        config.from_dict(change)


@pytest.mark.parametrize(
    "config",
    [
        UNetConfig(
            block_out_channels=(32, 64),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            attention_head_dim=(2, 4),
        ),
        AutoencoderConfig(scaling_factor=0.5, force_upcast=True),
        TextEncoderConfig(with_projection=True),
        TextEncoderConfig(),
    ],
)
def test_configurations_survive_json(config: Any) -> None:
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config
