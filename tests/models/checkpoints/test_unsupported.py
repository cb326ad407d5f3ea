"""Transformer models are refused in one sentence that names them, in each form."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import save_file

from models.checkpoints.checkpoint import resolve
from models.checkpoints.convert.conversion import Conversion
from models.checkpoints.detect.kinds import detect_kind
from models.checkpoints.errors import UnknownFamily
from models.checkpoints.meta import meta_device
from models.loading.inspection import inspect_checkpoint
from models.loading.loader import load_model

ONLY = "only latent diffusion models with a UNet are supported"
SMALL = {"num_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2}

# Name, class of the transformer, its settings, class of the pipeline.
DIFFUSERS: list[tuple[str, str, dict[str, Any], str]] = [
    (
        "Stable Diffusion 3",
        "SD3Transformer2DModel",
        {"joint_attention_dim": 16, "caption_projection_dim": 16, "pooled_projection_dim": 16},
        "StableDiffusion3Pipeline",
    ),
    (
        "Flux",
        "FluxTransformer2DModel",
        {
            "num_single_layers": 1,
            "joint_attention_dim": 16,
            "pooled_projection_dim": 16,
            "axes_dims_rope": [2, 2, 4],
        },
        "FluxPipeline",
    ),
    (
        "PixArt",
        "PixArtTransformer2DModel",
        {"cross_attention_dim": 16, "caption_channels": 16, "sample_size": 8},
        "PixArtSigmaPipeline",
    ),
    (
        "Sana",
        "SanaTransformer2DModel",
        {
            "cross_attention_head_dim": 8,
            "num_cross_attention_heads": 2,
            "cross_attention_dim": 16,
            "caption_channels": 16,
            "sample_size": 8,
        },
        "SanaPipeline",
    ),
    (
        "Qwen-Image",
        "QwenImageTransformer2DModel",
        {"joint_attention_dim": 16, "axes_dims_rope": [2, 2, 4]},
        "QwenImagePipeline",
    ),
    (
        "Wan",
        "WanTransformer3DModel",
        {"text_dim": 16, "freq_dim": 16, "ffn_dim": 32},
        "WanPipeline",
    ),
]

# Keys of files in the layouts of their authors.
ORIGINAL = {
    "Flux": [
        "double_blocks.0.img_attn.qkv.weight",
        "single_blocks.0.linear1.weight",
        "img_in.bias",
    ],
    "Chroma": ["double_blocks.0.img_attn.qkv.weight", "distilled_guidance_layer.in_proj.weight"],
    "HunyuanVideo": [
        "double_blocks.0.img_mod.linear.weight",
        "txt_in.individual_token_refiner.blocks.0.norm1.weight",
        "single_blocks.0.linear1.weight",
    ],
    "Stable Diffusion 3": ["joint_blocks.0.context_block.attn.qkv.weight", "pos_embed"],
    "PixArt": [
        "blocks.0.scale_shift_table",
        "y_embedder.y_proj.fc1.weight",
        "x_embedder.proj.bias",
    ],
    "AuraFlow": ["double_layers.0.attn.w1q.weight", "register_tokens"],
    "Lumina": ["noise_refiner.0.attention.qkv.weight", "context_refiner.0.attention.qkv.weight"],
}


def keys_of(class_name: str, settings: dict[str, Any]) -> list[str]:
    with meta_device(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = getattr(diffusers, class_name)(**SMALL, **settings)
    return list(network.state_dict())


@pytest.mark.parametrize(("name", "class_name", "settings", "pipeline"), DIFFUSERS)
def test_file_of_a_transformer_in_the_diffusers_layout_is_named(
    name: str, class_name: str, settings: dict[str, Any], pipeline: str
) -> None:
    shapes = dict.fromkeys(keys_of(class_name, settings), (1,))
    with pytest.raises(UnknownFamily, match=f"^it is {name}, a transformer model, and {ONLY}$"):
        detect_kind(shapes)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("name", ORIGINAL)
def test_single_file_is_refused_by_name(name: str, prefix: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    first_stage = ["first_stage_model.decoder.conv_in.weight"] if prefix else []
    keys = [prefix + key for key in ORIGINAL[name]] + first_stage
    save_file({key: torch.zeros(1) for key in keys}, path)
    sentence = f"it is {name}, a transformer model, and {ONLY}$"
    with pytest.raises(UnknownFamily, match=sentence):
        resolve(str(path))
    with pytest.raises(UnknownFamily, match=sentence):
        inspect_checkpoint(str(path))
    (tmp_path / "added").mkdir()
    with pytest.raises(UnknownFamily, match=sentence):
        Conversion(path, tmp_path / "added").run()


@pytest.mark.parametrize(
    ("pipeline", "name"),
    [
        *((pipeline, f"{name}, a transformer model") for name, _, _, pipeline in DIFFUSERS),
        ("PixArtAlphaPipeline", "PixArt, a transformer model"),
        ("SomethingNewPipeline", "a transformer model"),
    ],
)
def test_folder_is_refused_by_name(pipeline: str, name: str, tmp_path: Path) -> None:
    index = {"_class_name": pipeline, "transformer": ["diffusers", "A"], "vae": ["diffusers", "B"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    sentence = f"{pipeline} is {name}, and {ONLY}"
    with pytest.raises(UnknownFamily, match=f"{sentence}$"):
        load_model(str(tmp_path), torch.device("cpu"))
    assert inspect_checkpoint(str(tmp_path)).problems == (sentence,)
    (tmp_path / "added").mkdir()
    with pytest.raises(UnknownFamily, match=sentence):
        Conversion(tmp_path, tmp_path / "added").run()


@pytest.mark.parametrize(
    "class_name", [*(entry[1] for entry in DIFFUSERS), "NewTransformer2DModel"]
)
def test_folder_of_the_transformer_alone_is_refused(class_name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": class_name}))
    with pytest.raises(UnknownFamily, match=f"^{class_name} is .*, and {ONLY}$"):
        inspect_checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    ("channels", "width", "context", "name"),
    [
        (8, 320, 1024, "Stable Video Diffusion"),
    ],
)
def test_single_file_of_another_unet_is_refused_by_name(
    channels: int, width: int, context: int, name: str, tmp_path: Path
) -> None:
    unet = {
        "input_blocks.0.0.weight": torch.zeros(width, channels, 1, 1),
        "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(1, context),
    }
    path = tmp_path / "model.safetensors"
    save_file({f"model.diffusion_model.{key}": value for key, value in unet.items()}, path)
    with pytest.raises(UnknownFamily, match=f"it is {name}, which is not supported$"):
        resolve(str(path))


@pytest.mark.parametrize(
    ("markers", "name"),
    [
        (("embedder.model.visual.proj",), "unCLIP"),
    ],
)
def test_marker_of_another_training_is_refused_by_name(
    markers: tuple[str, ...], name: str, tmp_path: Path
) -> None:
    keys = (*markers, "model.diffusion_model.input_blocks.0.0.weight")
    path = tmp_path / "model.safetensors"
    save_file({key: torch.zeros(1) for key in keys}, path)
    with pytest.raises(UnknownFamily, match=f"it is {name}, which is not supported$"):
        resolve(str(path))


@pytest.mark.parametrize(
    ("pipeline", "name"),
    [
        ("StableDiffusionImageVariationPipeline", "Stable Diffusion image variations"),
        ("StableUnCLIPImg2ImgPipeline", "unCLIP"),
        ("KandinskyV22Pipeline", "Kandinsky"),
        ("StableCascadeDecoderPipeline", "Stable Cascade"),
        ("KolorsPipeline", "Kolors"),
    ],
)
def test_folder_of_another_task_is_refused_by_name(
    pipeline: str, name: str, tmp_path: Path
) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    with pytest.raises(UnknownFamily, match=f"{pipeline} is {name}, which is not supported$"):
        load_model(str(tmp_path), torch.device("cpu"))
