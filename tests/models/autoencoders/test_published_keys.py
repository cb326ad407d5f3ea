"""Every first stage at its published configuration has exactly the parameters of the file."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch
from torch import nn

from models.autoencoders.first_stage import FirstStage
from models.autoencoders.registry import build_first_stage
from models.networks.bert import BertConfig, BertEncoder
from models.networks.embedders import (
    ClassEmbedder,
    ClassEmbedderConfig,
    SpatialRescaler,
    SpatialRescalerConfig,
)
from tests.models.autoencoders.compvis import original_names
from tests.support.published import key_list, published
from tests.support.shared_files import shared_file

Shapes = dict[str, tuple[int, ...]]


def shapes(module: nn.Module) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def on_meta(config: dict[str, Any]) -> FirstStage:
    with torch.device("meta"):
        return build_first_stage(config)


@pytest.mark.parametrize(
    ("model", "part"),
    [
        ("Intel__ldm3d", "vae/"),
        ("Intel__ldm3d-4c", "vae/"),
        ("CompVis__ldm-celebahq-256", "vqvae/"),
        ("stabilityai__sdxl-vae", ""),
    ],
)
def test_files_of_the_diffusers_layout(model: str, part: str) -> None:
    stage = on_meta(published(model, f"{part}config.json"))
    assert shapes(stage) == key_list(f"{model}.{part.strip('/') or 'vae'}")


def test_celebahq_has_scaling_factor_one() -> None:
    config = published("CompVis__ldm-celebahq-256", "vqvae/config.json")
    assert "scaling_factor" not in config
    assert on_meta(config).config.scaling_factor == 1


ZOO = [
    "kl-f4",
    "kl-f8",
    "kl-f16",
    "kl-f32",
    "vq-f4",
    "vq-f4-noattn",
    "vq-f8",
    "vq-f8-n256",
    "vq-f16",
]


def zoo_config(name: str) -> dict[str, Any]:
    """Return an autoencoder of the paper as a diffusers configuration with as many parameters."""
    folder = "facts/checkpoints/configs/CompVis__latent-diffusion"
    known = json.loads(shared_file(f"{folder}/diffusers_equivalents.json").read_text("utf-8"))
    (entry,) = (value for key, value in known.items() if key.split(" ")[0] == name)
    return {"_class_name": entry["diffusers_class"], **entry["config"]}


@pytest.mark.parametrize("name", ZOO)
def test_autoencoders_of_the_paper(name: str) -> None:
    ours = shapes(on_meta(zoo_config(name)))
    names = original_names(ours)
    # In those files attention is a 1x1 convolution.
    renamed = {
        names[n]: (*s, 1, 1) if is_projection(n) and len(s) == 2 else s for n, s in ours.items()
    }
    assert renamed == key_list(f"original/ae.{name}")


def is_projection(name: str) -> bool:
    return re.search(r"attentions\.\d+\.to_", name) is not None


@pytest.mark.parametrize(
    ("checkpoint", "config"),
    [
        ("txt2img-1p4B-eval", BertConfig()),
        ("text2img256", BertConfig(d_model=640, encoder_ffn_dim=2560)),
        (
            "layout2img-openimages256",
            BertConfig(
                vocab_size=8192,
                max_position_embeddings=92,
                d_model=512,
                encoder_layers=16,
                encoder_ffn_dim=2048,
            ),
        ),
    ],
)
def test_text_encoders_of_the_paper(checkpoint: str, config: BertConfig) -> None:
    with torch.device("meta"):
        ours = shapes(BertEncoder(config))
    published = conditioning_keys(checkpoint)
    # The unused head is left out, here and when files are read.
    unused = {name for name in published if ".to_logits." in name}
    assert len(unused) == 2
    assert {bert_name(name): shape for name, shape in ours.items()} == {
        name: shape for name, shape in published.items() if name not in unused
    }


def conditioning_keys(checkpoint: str) -> Shapes:
    prefix = "cond_stage_model."
    keys = key_list(f"original/ldm.{checkpoint}")
    return {name: shape for name, shape in keys.items() if name.startswith(prefix)}


def bert_name(name: str) -> str:
    """Return diffusers' name; x-transformers keeps both kinds of layers in one list."""
    prefix = "cond_stage_model.transformer."
    fixed = {
        "model.embed_tokens.weight": "token_emb.weight",
        "model.embed_positions.weight": "pos_emb.emb.weight",
        "model.layer_norm.weight": "norm.weight",
        "model.layer_norm.bias": "norm.bias",
    }
    if name in fixed:
        return prefix + fixed[name]
    found = re.fullmatch(r"model\.layers\.(\d+)\.(.*)\.(weight|bias)", name)
    assert found
    layer, part, kind = int(found[1]), found[2], found[3]
    places = {
        "self_attn_layer_norm": (0, "0"),
        "self_attn.q_proj": (0, "1.to_q"),
        "self_attn.k_proj": (0, "1.to_k"),
        "self_attn.v_proj": (0, "1.to_v"),
        "self_attn.out_proj": (0, "1.to_out"),
        "final_layer_norm": (1, "0"),
        "fc1": (1, "1.net.0.0"),
        "fc2": (1, "1.net.2"),
    }
    offset, path = places[part]
    return f"{prefix}attn_layers.layers.{2 * layer + offset}.{path}.{kind}"


@pytest.mark.parametrize(
    ("checkpoint", "network"),
    [
        ("cin256", ClassEmbedder(ClassEmbedderConfig(n_classes=1000))),
        ("cin256-v2", ClassEmbedder(ClassEmbedderConfig())),
        ("semantic_synthesis256", SpatialRescaler(SpatialRescalerConfig())),
        ("semantic_synthesis512", SpatialRescaler(SpatialRescalerConfig())),
    ],
)
def test_embedders_of_the_paper(checkpoint: str, network: nn.Module) -> None:
    ours = {f"cond_stage_model.{name}": shape for name, shape in shapes(network).items()}
    assert ours == conditioning_keys(checkpoint)
