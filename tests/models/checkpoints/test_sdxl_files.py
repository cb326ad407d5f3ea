"""SDXL base and refiner as single files, with the published structure and few channels.

The original names come from diffusers' own converters (the published mapping), the second text
encoder is open_clip's, and diffusers reads the same file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor

from models.checkpoints.checkpoint import load_component, read_json, resolve
from models.checkpoints.detect.families import Family, Signature, families
from models.networks.config import TextEncoderConfig, UNetConfig
from models.networks.text_encoder import TextEncoder
from models.networks.unet import AddedConditioning, UNet
from tests.models.checkpoints.published import mapping
from tests.models.checkpoints.references import (
    clip_state,
    clip_text,
    compvis_first_stage,
    open_clip_transformer,
    shaken,
    small,
)
from tests.support.published import REFINER, SDXL, published

CPU, FLOAT = torch.device("cpu"), torch.float32
POOLED, WIDTH = 64, 32
Only = Callable[..., None]

# Names of the family, the published model and its mapping; time ids; prefix of the second encoder.
KINDS = [
    ("sdxl", SDXL, "sdxl-base", 6, "conditioner.embedders.1.model."),
    ("sdxl-refiner", REFINER, "sdxl-refiner", 5, "conditioner.embedders.0.model."),
]


def narrow(model: str, ids: int) -> dict[str, Any]:
    """Return the published UNet's configuration with all blocks and few channels."""
    config = published(model, "unet/config.json")
    widths = [
        WIDTH * width // config["block_out_channels"][0] for width in config["block_out_channels"]
    ]
    return config | {
        "block_out_channels": widths,
        "attention_head_dim": [width // 16 for width in widths],
        "cross_attention_dim": 48,
        "projection_class_embeddings_input_dim": POOLED + ids * 256,
        "sample_size": 8,
    }


def narrow_family(name: str, context: int = 48) -> Family:
    (family,) = (family for family in families() if family.name == name)
    signature = Signature(family.signature.in_channels, WIDTH, context)
    return replace(family, signature=signature, head_width=16)


@pytest.mark.parametrize(("name", "model", "mapped", "ids", "second"), KINDS)
def test_outputs_of_a_single_file_equal_those_of_the_references(
    name: str, model: str, mapped: str, ids: int, second: str, only: Only, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    only(narrow_family(name))
    theirs = shaken(UNet2DConditionModel.from_config(narrow(model, ids)))
    where = mapping(f"{mapped}.unet")
    state = {where[key]: tensor for key, tensor in theirs.state_dict().items()}
    assert all(key.startswith("model.diffusion_model.") for key in state)
    state |= first_stage_state()
    with open_clip_transformer() as code:
        text = shaken(
            code.TextTransformer(
                context_length=77, vocab_size=99, width=64, heads=1, layers=2, output_dim=64
            )
        )
    state |= {f"{second}{key}": tensor for key, tensor in text.state_dict().items()}
    state |= {f"{second}logit_scale": torch.tensor(4.6), "denoiser.sigmas": torch.rand(1000)}
    if name == "sdxl":
        spelled = clip_state(clip_text())
        state |= {f"conditioner.embedders.0.transformer.{k}": v for k, v in spelled.items()}
    path = tmp_path / "single.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)

    folder = resolve(str(path))
    check_unet(theirs, folder, ids)
    check_text(text, folder)
    check_configs(folder, name)
    check_diffusers_reads_the_same_weights(path, folder, theirs)


def first_stage_state() -> dict[str, Tensor]:
    network = compvis_first_stage(small("sd1"))
    return {f"first_stage_model.{key}": tensor for key, tensor in network.state_dict().items()}


def check_unet(theirs: Any, folder: Path, ids: int) -> None:
    ours = load_component(
        folder / "unet", lambda config: UNet(UNetConfig.from_dict(config)), FLOAT, CPU
    )
    x, t, context = torch.randn(2, 4, 8, 8), torch.tensor([3, 771]), torch.randn(2, 7, 48)
    pooled, sizes = torch.randn(2, POOLED), torch.rand(2, ids) * 1024
    added = {"text_embeds": pooled, "time_ids": sizes}
    expected = theirs(x, t, context, added_cond_kwargs=added).sample
    got = ours(x, t, context, AddedConditioning(pooled, sizes))
    assert (got - expected).abs().max() <= 1e-4 * expected.abs().max()


def check_text(theirs: Any, folder: Path) -> None:
    config = read_json(folder / "text_encoder_2/config.json")
    assert config["hidden_act"] == "gelu"
    ours = load_component(
        folder / "text_encoder_2", lambda c: TextEncoder(TextEncoderConfig.from_dict(c)), FLOAT, CPU
    )
    ids = torch.randint(3, 90, (2, 77))
    ids[:, 30] = 98  # the end of the text: the largest of all
    expected = theirs(ids)
    assert (ours(ids).pooled - expected).abs().max() <= 1e-4 * expected.abs().max()


def check_configs(folder: Path, name: str) -> None:
    index = read_json(folder / "model_index.json")
    refiner = name == "sdxl-refiner"
    assert index["force_zeros_for_empty_prompt"] is not refiner
    assert index.get("requires_aesthetics_score", False) is refiner
    assert ("text_encoder" in index) is not refiner
    vae = read_json(folder / "vae/config.json")
    assert (vae["scaling_factor"], vae["force_upcast"]) == (0.13025, True)
    assert read_json(folder / "tokenizer_2/tokenizer_config.json")["pad_token"] == "!"


def check_diffusers_reads_the_same_weights(path: Path, folder: Path, theirs: Any) -> None:
    read = UNet2DConditionModel.from_single_file(
        str(path), config=str(folder), subfolder="unet", local_files_only=True
    )
    found = read.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in theirs.state_dict().items())
