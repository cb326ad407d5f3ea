"""The published diffusers folders with small networks, against diffusers.

Each folder is made of the published JSON and tokenizer files. Only the width and depth of its
networks are changed; diffusers and transformers write their random weights.
"""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers
from torch import nn

from models.autoencoders.registry import build_first_stage
from models.checkpoints.meta import meta_device
from models.denoising.sampling_params import SamplingParams
from models.loading.loader import load_model
from models.networks.config import TextEncoderConfig, UNetConfig
from models.networks.text_encoder import TextEncoder
from models.networks.unet import UNet
from tests.models.pipeline.test_pipeline import as_tensor, assert_same_image, ours, photo
from tests.support.published import REFINER, SD15, SDXL, key_list, published
from tests.support.shared_files import shared_file

SD14 = "CompVis__stable-diffusion-v1-4"
RIFFUSION = "riffusion__riffusion-model-v1"
LDM3D = "Intel__ldm3d"
WIDTH, POOLED = 48, 32  # of the shrunk text encoders


@dataclass(frozen=True)
class Published:
    """A checkpoint, its default sampler, and its text encoders."""

    name: str
    sampler: str
    texts: tuple[str, ...] = ("text_encoder",)
    img2img_only: bool = False  # img2img only

    def __str__(self) -> str:
        return self.name


CHECKPOINTS = (
    Published(SD15, "plms"),
    Published(SD14, "plms"),
    Published(RIFFUSION, "ddim"),
    Published(LDM3D, "plms"),
    Published(SDXL, "euler", ("text_encoder", "text_encoder_2")),
    Published(REFINER, "euler", ("text_encoder_2",), img2img_only=True),
)


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


# Its files are not public: configuration and keys were inferred from its components.
INFERRED = Published("rinna__japanese-stable-diffusion", "plms")


@pytest.mark.parametrize("checkpoint", [*CHECKPOINTS, INFERRED], ids=str)
def test_at_full_size_every_parameter_has_its_published_name_and_shape(
    checkpoint: Published,
) -> None:
    name = checkpoint.name
    with meta_device():
        unet = UNet(UNetConfig.from_dict(published(name, "unet/config.json")))
        first_stage = build_first_stage(published(name, "vae/config.json"))
        texts = {
            part: TextEncoder(TextEncoderConfig.from_dict(published(name, f"{part}/config.json")))
            for part in checkpoint.texts
        }
    assert shapes(unet) == key_list(f"{name}.unet")
    assert shapes(first_stage) == modern(key_list(f"{name}.vae"))
    for part, encoder in texts.items():
        expected = key_list(f"{name}.{part}")
        expected.pop("text_model.embeddings.position_ids", None)  # 0, 1, 2, …: no weights
        assert shapes(encoder) == expected


def modern(keys: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Return today's names of the autoencoder's attention, which older files spell differently."""
    spelled = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
    renamed = {}
    for key, shape in keys.items():
        parts = key.split(".")
        if "attentions" in parts and parts[-2] in spelled:
            parts[-2] = spelled[parts[-2]]
        renamed[".".join(parts)] = shape
    return renamed


def shrunk(checkpoint: Published, folder: Path) -> Path:
    """Write the published folder with narrow networks and random weights."""
    name = checkpoint.name
    files = shared_file(f"facts/checkpoints/configs/{name}")
    for part in ("scheduler", *(t.replace("text_encoder", "tokenizer") for t in checkpoint.texts)):
        shutil.copytree(files / part, folder / part)
    index = json.loads((files / "model_index.json").read_text())
    index |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
    if index["_class_name"] == "StableDiffusionLDM3DPipeline":
        # Its own post-processing fails on six channels; its networks are those of the plain class.
        index["_class_name"] = "StableDiffusionPipeline"
    (folder / "model_index.json").write_text(json.dumps(index))
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        diffusers.UNet2DConditionModel.from_config(narrow_unet(checkpoint)).save_pretrained(
            folder / "unet"
        )
        vae = published(name, "vae/config.json") | {"block_out_channels": [32, 32, 64, 64]}
        diffusers.AutoencoderKL.from_config(vae).save_pretrained(folder / "vae")
        for part in checkpoint.texts:
            text_encoder(checkpoint, part).save_pretrained(folder / part)
    return folder


def narrow_unet(checkpoint: Published) -> dict[str, Any]:
    config = published(checkpoint.name, "unet/config.json")
    config |= {
        "block_out_channels": [32, 32, 64, 64][: len(config["block_out_channels"])],
        "cross_attention_dim": WIDTH * len(checkpoint.texts),
        "layers_per_block": 1,
    }
    if isinstance(config["attention_head_dim"], list):
        config["attention_head_dim"] = [2, 2, 4, 4][: len(config["block_out_channels"])]
    if config.get("addition_embed_type"):
        ids = 5 if checkpoint.img2img_only else 6
        config |= {
            "transformer_layers_per_block": 1,
            "addition_time_embed_dim": 16,
            "projection_class_embeddings_input_dim": POOLED + 16 * ids,
        }
    return config


def text_encoder(checkpoint: Published, part: str) -> transformers.PreTrainedModel:
    data = published(checkpoint.name, f"{part}/config.json") | {
        "hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 3,
        "num_attention_heads": 4, "projection_dim": POOLED, "dtype": "float32",
    }  # fmt: skip
    data.pop("torch_dtype", None)
    kind = (data.get("architectures") or ["CLIPTextModel"])[0]
    model = getattr(transformers, kind)(transformers.CLIPTextConfig(**data))
    assert isinstance(model, transformers.PreTrainedModel)
    return model


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=str)
def test_shrunk_model_equals_diffusers(checkpoint: Published, tmp_path: Path) -> None:
    """Allow one level of 255, with networks in double precision: random weights and guidance can
    amplify the rounding of single precision, which differs between processors, beyond one level."""
    folder = shrunk(checkpoint, tmp_path)
    dtype = torch.float32 if checkpoint.img2img_only else torch.float64
    model = load_model(str(folder), torch.device("cpu"), dtype)
    image = photo(64, 64)
    params = SamplingParams(
        "Photo of a café, 8k (masterpiece)", "blurry", width=64, height=64, steps=6,
        sampler=checkpoint.sampler, schedule="leading", guidance_scale=5.0, seed=7,
        strength=0.5, image=as_tensor(image) if checkpoint.img2img_only else None,
    )  # fmt: skip
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7))
    given: dict[str, Any] = {"width": 64, "height": 64, "latents": noise.to(dtype)}
    if (
        checkpoint.img2img_only
    ):  # diffusers generates its own noise, other noise in double precision
        given = {"image": image, "strength": 0.5}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe: Any = diffusers.DiffusionPipeline.from_pretrained(folder, torch_dtype=dtype)
        pipe.set_progress_bar_config(disable=True)
        if model.autoencoder.config.out_channels > 3:
            decode = pipe.vae.decode
            pipe.vae.decode = lambda z, **more: (decode(z, return_dict=False)[0][:, :3],)
        expected = pipe(
            params.prompt, negative_prompt="blurry", num_inference_steps=6, guidance_scale=5.0,
            generator=torch.Generator().manual_seed(7), **given,
        ).images[0]  # fmt: skip
    assert_same_image(ours(model, params)[..., :3], np.asarray(expected))
