"""Tests of checkpoints in CompVis' format: the files have the published keys, shapes and types, and
the comparison, on small networks, accepts correct networks only."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.full_size.ckpt import Original
from bench.full_size.finding import TOLERANCE
from bench.full_size.originals import (
    CHECKPOINTS,
    OURS,
    build,
    compare_checkpoint,
    published,
    write_checkpoint,
)
from models.checkpoints.meta import meta_device
from tests.support.shared_files import shared_file

pytestmark = pytest.mark.early

pytest.importorskip("ldm", reason="stable-diffusion-sdkit is not installed")

DTYPES = {"F32": torch.float32, "I32": torch.int32, "I64": torch.int64}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_written_checkpoint_has_the_published_names_shapes_and_types(name: str) -> None:
    stored = f"{name}.ckpt" if name.startswith("sd-") else f"ldm.{name}"
    keys = shared_file(f"facts/checkpoints/keys/original/{stored}.json")
    with meta_device():
        state = published(shared_file("facts/checkpoints/configs"), name).state()
    tensors = json.loads(keys.read_text("utf-8"))["tensors"]
    assert {key: (tensor.dtype, list(tensor.shape)) for key, tensor in state.items()} == {
        key: (DTYPES[dtype], shape) for key, (dtype, shape) in tensors.items()
    }


def small(
    unet: dict[str, Any], first_stage: str, conditioner: Any, ddconfig: Any = None, **others: Any
) -> dict[str, Any]:
    """Return a published configuration with small sizes, but with the widths that distinguish
    model families."""
    channels = 3 if first_stage == "VQModelInterface" else 4
    shape = {
        "double_z": channels == 4, "z_channels": channels, "resolution": 16, "in_channels": 3,
        "out_ch": 3, "ch": 32, "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [],
    }  # fmt: skip
    common = {
        "image_size": 8, "in_channels": channels, "out_channels": channels, "num_res_blocks": 1,
        "attention_resolutions": [2], "channel_mult": [1, 1],
    }  # fmt: skip
    return {
        "linear_start": 0.0015, "linear_end": 0.0195, "timesteps": 1000, "image_size": 8,
        "unet_config": {"target": "ldm.UNetModel", "params": common | unet},
        "first_stage_config": {
            "target": f"ldm.{first_stage}",
            "params": {"embed_dim": channels, "n_embed": 40, "ddconfig": shape | (ddconfig or {})},
        },
        "cond_stage_config": conditioner,
        **others,
    }  # fmt: skip


def cond(kind: str, **params: Any) -> dict[str, Any]:
    return {"target": f"ldm.modules.encoders.modules.{kind}", "params": params}


VQ, KL = "VQModelInterface", "AutoencoderKL"
CROSS = {"use_spatial_transformer": True}
SMALL = {
    "churches": small(
        {
            "model_channels": 192, "num_heads": 8, "use_scale_shift_norm": True,
            "resblock_updown": True,
        },
        KL, "__is_unconditional__", scale_by_std=True, linear_end=0.0155,
    ),
    "class": small(
        {"model_channels": 192, "num_heads": 1, "context_dim": 512, **CROSS},
        VQ, cond("ClassEmbedder", n_classes=7, embed_dim=512, key="class_label"), use_ema=False,
    ),
    "layout": small(
        {
            "model_channels": 128, "num_head_channels": 32, "context_dim": 512,
            "transformer_depth": 3, **CROSS,
        },
        VQ,
        cond("BERTEmbedder", n_embed=512, n_layer=2, vocab_size=60, max_seq_len=9),
        linear_end=0.0205,
    ),
    "semantic": small(
        {"model_channels": 128, "in_channels": 6, "num_heads": 8},
        VQ, cond("SpatialRescaler", n_stages=2, in_channels=11, out_channels=3), linear_end=0.0205,
    ),
    "stable": small(
        {"model_channels": 320, "num_heads": 8, "context_dim": 768, "legacy": False, **CROSS},
        KL, cond("FrozenCLIPEmbedder"), linear_start=0.00085, linear_end=0.012,
        scale_factor=0.18215,
    ),
    "inpainting": small(
        {"model_channels": 256, "in_channels": 7, "num_heads": 8, "resblock_updown": True},
        VQ, "__is_first_stage__", {"attn_type": "none"}, linear_end=0.0205,
    ),
}  # fmt: skip
CONDITIONERS = {
    "class": ["class_embedder"], "layout": ["bert"], "semantic": ["rescaler"],
    "stable": ["text_encoder"],
}  # fmt: skip
CLIP = {
    "vocab_size": 60, "hidden_size": 768, "intermediate_size": 96, "num_hidden_layers": 1,
    "num_attention_heads": 12, "max_position_embeddings": 77, "hidden_act": "quick_gelu",
    "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1,
}  # fmt: skip


# `make test` compares one model, and one network with wrong outputs.
MODELS = [n if n == "class" else pytest.param(n, marks=pytest.mark.long) for n in SMALL]
PARTS = [n if n == "unet" else pytest.param(n, marks=pytest.mark.long) for n in OURS]


def small_original(name: str) -> Original:
    torch.manual_seed(len(name))
    return build(SMALL[name], clip=CLIP)


@pytest.mark.parametrize("name", MODELS)
def test_all_networks_of_a_checkpoint_are_compared(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.ckpt"
    computed = write_checkpoint(small_original(name), path)
    found = {
        part: (parameters, error)
        for part, parameters, error in compare_checkpoint(computed, path, tmp_path)
    }
    assert list(found) == ["unet", "first_stage", *CONDITIONERS.get(name, []), "scheduler"]
    assert {part: each for part, each in found.items() if each[1] > TOLERANCE} == {}
    assert not path.exists()
    assert sum(parameters for parameters, _ in found.values()) > 1_000_000


def test_weights_that_are_not_averaged_are_detected(tmp_path: Path) -> None:
    model, path = small_original("semantic"), tmp_path / "semantic.ckpt"
    write_checkpoint(model, path)
    compared = compare_checkpoint(model.compute(), path, tmp_path)
    found = {part: error for part, _, error in compared}
    assert found.pop("unet") > 0.01
    assert max(found.values()) <= TOLERANCE


@pytest.mark.parametrize("part", PARTS)
def test_wrong_outputs_are_detected(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = next((name for name, parts in CONDITIONERS.items() if part in parts), "semantic")
    correct = OURS[part].run
    wrong = replace(OURS[part], run=lambda *inputs: [1.001 * out for out in correct(*inputs)])
    monkeypatch.setitem(OURS, part, wrong)
    path = tmp_path / "wrong.ckpt"
    computed = write_checkpoint(small_original(name), path)
    found = {part: error for part, _, error in compare_checkpoint(computed, path, tmp_path)}
    assert found.pop(part) == pytest.approx(1e-3, rel=0.1)
    assert max(found.values()) <= TOLERANCE
