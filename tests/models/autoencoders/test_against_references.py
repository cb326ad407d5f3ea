"""First stages and conditioning networks against references with the same random weights.

Reduced, with every kind of block kept: diffusers' classes, and CompVis' own code as packaged in
stable-diffusion-sdkit.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any, TypeVar

import diffusers
import pytest
import torch
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import (
    LDMBertConfig,
    LDMBertModel,
)
from torch import Tensor, nn

from models.autoencoders.first_stage import Gaussian, Point
from models.autoencoders.registry import build_first_stage
from models.autoencoders.vq import VQModel
from models.networks.bert import BertConfig, BertEncoder
from models.networks.embedders import (
    ClassEmbedder,
    ClassEmbedderConfig,
    SpatialRescaler,
    SpatialRescalerConfig,
)
from tests.models.autoencoders.compvis import Autoencoder, original_weights

M = TypeVar("M", bound=nn.Module)

TOLERANCE = 1e-5  # relative to the largest value of the reference

PLAIN = {
    "block_out_channels": [32, 64, 64],
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "layers_per_block": 2,
}
ATTENTIVE = PLAIN | {
    "down_block_types": ["DownEncoderBlock2D", "AttnDownEncoderBlock2D", "AttnDownEncoderBlock2D"],
    "up_block_types": ["AttnUpDecoderBlock2D", "AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
}
KL = {"_class_name": "AutoencoderKL", "latent_channels": 4}
VQ = {"_class_name": "VQModel", "latent_channels": 3, "num_vq_embeddings": 64, "scaling_factor": 1}
DEPTH = {"in_channels": 6, "out_channels": 6}
DEPTH_4C = {"in_channels": 4, "out_channels": 4}

CONFIGS: dict[str, dict[str, Any]] = {
    "kl": KL | PLAIN,
    "kl-attention": KL | ATTENTIVE | {"latent_channels": 16},
    "kl-depth": KL | PLAIN | DEPTH,
    "kl-depth-4c": KL | PLAIN | DEPTH_4C,
    "vq": VQ | PLAIN,
    "vq-attention": VQ | ATTENTIVE | {"latent_channels": 8},
    "vq-noattn": VQ | PLAIN | {"mid_block_add_attention": False},
}


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


def seeded(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def randomised(module: M) -> M:
    """Set weights that reveal mistakes: norms that scale, codes as far apart as latents are."""
    generator = torch.Generator().manual_seed(7)
    for name, parameter in module.named_parameters():
        if "norm" in name:
            noise = 0.3 * torch.randn(parameter.shape, generator=generator)
            parameter.data = noise + (1 if name.endswith("weight") else 0)
        elif name == "quantize.embedding.weight":
            parameter.data = torch.randn(parameter.shape, generator=generator)
    return module.eval()


def random_latents(config: dict[str, Any]) -> Tensor:
    return seeded(2, config["latent_channels"], 6, 10)


def random_image(config: dict[str, Any]) -> Tensor:
    return seeded(2, config.get("in_channels", 3), 24, 40).clamp(-1, 1)


@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_first_stages_of_diffusers(name: str) -> None:
    config = CONFIGS[name]
    theirs = randomised(getattr(diffusers, config["_class_name"]).from_config(config))
    ours = build_first_stage(config).eval()
    ours.load_state_dict(theirs.state_dict())
    image, z = random_image(config), random_latents(config)
    posterior, expected = ours.encode(image), theirs.encode(image)
    if config["_class_name"] == "VQModel":
        assert isinstance(posterior, Point)
        assert relative_error(posterior.mode(), expected.latents) < TOLERANCE
        assert torch.equal(posterior.sample(seeded(*posterior.mode().shape)), posterior.mode())
    else:
        assert isinstance(posterior, Gaussian)
        assert relative_error(posterior.mean, expected.latent_dist.mean) < TOLERANCE
        assert relative_error(posterior.logvar, expected.latent_dist.logvar) < TOLERANCE
    assert relative_error(ours.decode(z), theirs.decode(z).sample) < TOLERANCE


@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_first_stages_of_compvis(name: str) -> None:
    config = CONFIGS[name]
    ours = randomised(build_first_stage(config))
    theirs = Autoencoder(config).eval()
    theirs.load_state_dict(original_weights(ours.state_dict()))
    image, z = random_image(config), random_latents(config)
    assert relative_error(ours.moments(image), theirs.encode(image)) < TOLERANCE
    assert relative_error(ours.decode(z), theirs.decode(z)) < TOLERANCE


@torch.inference_mode()
def test_given_codes_are_decoded_without_quantisation() -> None:
    stage = randomised(build_first_stage(CONFIGS["vq"]))
    assert isinstance(stage, VQModel)
    z = random_latents(CONFIGS["vq"])
    codes = stage.quantize(z)
    assert not torch.equal(codes, z)
    assert torch.equal(stage.quantize(codes), codes)
    assert torch.equal(stage.decode_codes(codes), stage.decode(z))


@pytest.mark.parametrize(
    "shape", [{}, {"max_position_embeddings": 92, "vocab_size": 300, "d_model": 32}]
)
@torch.inference_mode()
def test_the_text_encoder_of_the_paper(shape: dict[str, int]) -> None:
    config = {
        "vocab_size": 500,
        "d_model": 48,
        "encoder_layers": 3,
        "encoder_ffn_dim": 96,
        "encoder_attention_heads": 4,
        "head_dim": 8,
    } | shape
    theirs = randomised(LDMBertModel(LDMBertConfig(**config)))
    ours = BertEncoder(BertConfig.from_dict(config)).eval()
    weights = {k: v for k, v in theirs.state_dict().items() if not k.startswith("to_logits")}
    ours.load_state_dict(weights)
    length = config.get("max_position_embeddings", 77)
    ids = torch.randint(0, config["vocab_size"], (3, length), generator=torch.Generator())
    assert relative_error(ours(ids), theirs(ids).last_hidden_state) < TOLERANCE


@torch.inference_mode()
def test_the_class_embedder_of_compvis(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its file also contains encoders that need open_clip, whose requirements are not installed.
    monkeypatch.setitem(sys.modules, "open_clip", ModuleType("open_clip"))
    compvis = importlib.import_module("ldm.modules.encoders.modules")
    monkeypatch.delitem(sys.modules, compvis.__name__)
    theirs = compvis.ClassEmbedder(embed_dim=16, n_classes=11, ucg_rate=0.5)
    ours = ClassEmbedder(ClassEmbedderConfig(n_classes=11, embed_dim=16))
    ours.load_state_dict(theirs.state_dict())
    classes = torch.tensor([0, 7, 10])
    expected = theirs({"class": classes}, disable_dropout=True)
    assert torch.equal(ours(classes), expected)
    nothing = theirs.get_unconditional_conditioning(1, device="cpu")["class"]
    assert ours.unconditional == int(nothing)


@torch.inference_mode()
def test_the_spatial_rescaler_halves_by_averaging() -> None:
    rescaler = SpatialRescaler(SpatialRescalerConfig(in_channels=10))
    maps = nn.functional.one_hot(torch.randint(0, 10, (2, 24, 40))).movedim(-1, 1).float()
    averaged = maps.unflatten(3, (10, 4)).unflatten(2, (6, 4)).mean((3, 5))
    expected = torch.einsum("oi,bihw->bohw", rescaler.channel_mapper.weight[:, :, 0, 0], averaged)
    assert relative_error(rescaler(maps), expected) < TOLERANCE
