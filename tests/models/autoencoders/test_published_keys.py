"""Every first stage at its published configuration has exactly the parameters of the file."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from torch import nn

from models.autoencoders.first_stage import FirstStage
from models.autoencoders.registry import build_first_stage
from models.checkpoints.meta import meta_device
from models.networks.bert import BertConfig, BertEncoder
from tests.models.autoencoders.compvis import original_names
from tests.models.checkpoints.references import bert_name
from tests.support.published import key_list, published
from tests.support.shared_files import shared_file

Shapes = dict[str, tuple[int, ...]]


def shapes(module: nn.Module) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def on_meta(config: dict[str, Any]) -> FirstStage:
    with meta_device():
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
    with meta_device():
        ours = shapes(BertEncoder(config))
    published = conditioning_keys(checkpoint)
    # The unused head is left out, here and when files are read.
    unused = {name for name in published if ".to_logits." in name}
    assert len(unused) == 2
    assert {f"cond_stage_model.{bert_name(name)}": shape for name, shape in ours.items()} == {
        name: shape for name, shape in published.items() if name not in unused
    }


def conditioning_keys(checkpoint: str) -> Shapes:
    prefix = "cond_stage_model."
    keys = key_list(f"original/ldm.{checkpoint}")
    return {name: shape for name, shape in keys.items() if name.startswith(prefix)}
