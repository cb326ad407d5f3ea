"""Values of published configurations: types, bounds, bookkeeping and unknown switches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import transformers

from models.autoencoders.first_stage_config import AutoencoderConfig
from models.checkpoints.errors import UnsupportedConfig
from models.networks.config import TextEncoderConfig, UNetConfig
from models.networks.controlnet import ControlNetConfig

UNET: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 8,
    "block_out_channels": [32, 64],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "attention_head_dim": 4,
    "cross_attention_dim": 32,
}
CONTROLNET: dict[str, Any] = {
    key: value for key, value in UNET.items() if key not in ("up_block_types", "sample_size")
} | {"_class_name": "ControlNetModel"}
VAE: dict[str, Any] = {"_class_name": "AutoencoderKL", "sample_size": 32}

# What `EMAModel.save_pretrained` of diffusers adds to the configuration of the averaged network.
EMA = {
    "decay": 0.9999,
    "inv_gamma": 1.0,
    "min_decay": 0.0,
    "optimization_step": 12000,
    "power": 0.75,
    "update_after_step": 0,
    "use_ema_warmup": False,
}
READERS: dict[str, tuple[Callable[[Any], Any], dict[str, Any]]] = {
    "unet": (UNetConfig.from_dict, UNET),
    "controlnet": (ControlNetConfig.from_dict, CONTROLNET),
    "vae": (AutoencoderConfig.from_dict, VAE),
    "text_encoder": (TextEncoderConfig.from_dict, {}),
}


@pytest.mark.parametrize("name", READERS)
def test_bookkeeping_is_ignored(name: str) -> None:
    read, config = READERS[name]
    more = EMA | {"gradient_checkpointing": True, "_name_or_path": "/tmp/x", "_commit_hash": "a"}
    assert read(config | more) == read(config)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("value", [True, 0, "on", [1, 2], {"a": 1}])
def test_unknown_switch_is_refused_by_name(name: str, value: Any) -> None:
    read, config = READERS[name]
    with pytest.raises(UnsupportedConfig, match=r"new_switch=.* is not supported"):
        read(config | {"new_switch": value})
    assert read(config | {"new_switch": None}) == read(config)


def test_everything_that_transformers_knows_of_clip_is_accepted() -> None:
    """Older versions wrote all attributes of a configuration, newer ones those that differ."""
    whole = transformers.CLIPTextConfig(bos_token_id=0, eos_token_id=2).to_dict()
    ours = TextEncoderConfig.from_dict(whole)
    assert (ours.hidden_size, ours.num_attention_heads) == (512, 8)


@pytest.mark.parametrize(
    ("key", "value", "same_as"),
    [
        ("sample_size", [8, 8], 8),
        ("sample_size", None, 64),
        ("layers_per_block", [2, 2], (2, 2)),
        ("layers_per_block", 2.0, 2),
        ("cross_attention_dim", [32, 32], 32),
        ("attention_head_dim", [4, 4], [4, 4]),
        ("only_cross_attention", None, False),
        ("num_class_embeds", 10.0, 10),
        ("use_linear_projection", None, False),
        ("transformer_layers_per_block", [1, 1], [1, 1]),
        ("transformer_layers_per_block", 1, 1),
        ("reverse_transformer_layers_per_block", [[1, 2, 1], 1], ((1, 2, 1), 1)),
    ],
)
def test_scalars_and_lists_stand_for_each_other(key: str, value: Any, same_as: Any) -> None:
    assert UNetConfig.from_dict(UNET | {key: value}) == UNetConfig.from_dict(UNET | {key: same_as})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sample_size", [8, 16], r"sample_size=\[8, 16\]: different values are not supported"),
        ("sample_size", True, "sample_size=True: must be a whole number"),
        ("layers_per_block", 10**9, "layers_per_block=1000000000: must be 1 to 8"),
        ("layers_per_block", [2, 3, 2], r"layers_per_block=\(2, 3, 2\) for block_out_channels"),
        ("layers_per_block", None, "layers_per_block=None: a value is needed"),
        ("block_out_channels", 32, "block_out_channels=32: must be a list"),
        ("block_out_channels", [], "a list has 1 to 16 values"),
        ("block_out_channels", [32, "64"], "must be a whole number"),
        ("block_out_channels", [32, 64, 64], "for block_out_channels"),
        ("attention_head_dim", [4], r"attention_head_dim=\(4,\) for block_out_channels"),
        ("transformer_layers_per_block", [[1, 1], 1], "needs reverse_transformer_layers_per"),
        ("transformer_layers_per_block", [[[1]], 1], "must be a whole number"),
        ("transformer_layers_per_block", [[1] * 17, 1], "a list has 1 to 16 values"),
        ("reverse_transformer_layers_per_block", [[1, 99], 1], "must be 1 to 16"),
        ("reverse_transformer_layers_per_block", [1, [1]], "for the .* layers of a level"),
        ("down_block_types", "DownBlock2D", "must be a list"),
        ("norm_eps", float("nan"), "norm_eps=nan: must be above 0"),
        ("norm_num_groups", None, "a value is needed"),
        ("flip_sin_to_cos", "yes", "must be true or false"),
        ("mid_block_type", "UNetMidBlock2DSimpleCrossAttn", "mid_block_type="),
        ("addition_embed_type", "text_time", "needs addition_time_embed_dim"),
        ("only_cross_attention", [True, False, True], "for block_out_channels"),
        ("only_cross_attention", [True, "no"], "must be true or false"),
        ("num_class_embeds", 0, "must be 1 to"),
        ("num_class_embeds", [10, 20], "different values are not supported"),
        ("class_embed_type", "timestep", "class_embed_type='timestep' is not supported"),
        ("dual_cross_attention", True, "dual_cross_attention=True is not supported"),
    ],
)
def test_other_values_are_refused_by_name(key: str, value: Any, message: str) -> None:
    with pytest.raises(UnsupportedConfig, match=message):
        UNetConfig.from_dict(UNET | {key: value})
