"""What a checkpoint's JSON files say about its networks, as frozen records.

The field names are those of the published files (`unet/config.json`, `vae/config.json`,
`text_encoder/config.json`), so a file becomes a record without a map. Published files also carry
switches that this code does not implement. Each is listed with the values that leave the result
as it is; any other value is refused, because drawing wrongly in silence is worse than refusing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self


class UnsupportedConfig(ValueError):
    """A published configuration asks for something this code cannot compute."""


def _select(
    cls: type[Any], data: Mapping[str, Any], neutral: Mapping[str, tuple[Any, ...]]
) -> dict[str, Any]:
    """The entries of `data` that are fields of `cls`; refuses every other key that matters."""
    names = {field.name for field in fields(cls)}
    chosen: dict[str, Any] = {}
    for key, value in data.items():
        if key in names:
            chosen[key] = tuple(value) if isinstance(value, list) else value
        elif not key.startswith("_") and value not in neutral.get(key, (None,)):
            raise UnsupportedConfig(f"{cls.__name__}: {key}={value!r} is not supported")
    return chosen


def _per_level(value: int | tuple[int, ...], levels: int) -> tuple[int, ...]:
    return (value,) * levels if isinstance(value, int) else tuple(value)


# Keys of a published UNet file with the values that change nothing.
_UNET_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "act_fn": ("silu",),
    "addition_embed_type_num_heads": (64,),
    "center_input_sample": (False,),
    "class_embeddings_concat": (False,),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "downsample_padding": (1,),
    "dropout": (0.0,),
    "dual_cross_attention": (False,),
    "mid_block_scale_factor": (1,),
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    "only_cross_attention": (False, None),
    "resnet_out_scale_factor": (1.0,),
    "resnet_skip_time_act": (False,),
    "resnet_time_scale_shift": ("default",),
    "time_embedding_type": ("positional",),
    "upcast_attention": (False, None),
    "attention_type": ("default",),
}


@dataclass(frozen=True)
class UNetConfig:
    """The UNet of Stable Diffusion 1.x and SDXL (Rombach et al. 2022; Podell et al. 2023).

    `attention_head_dim` is, in the published files, the number of heads; see `heads`.
    """

    sample_size: int = 64
    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    up_block_types: tuple[str, ...] = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    layers_per_block: int = 2
    transformer_layers_per_block: int | tuple[int, ...] = 1
    attention_head_dim: int | tuple[int, ...] = 8
    num_attention_heads: int | tuple[int, ...] | None = None
    cross_attention_dim: int = 768
    use_linear_projection: bool = False
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    flip_sin_to_cos: bool = True
    freq_shift: int = 0
    addition_embed_type: str | None = None
    addition_time_embed_dim: int | None = None
    projection_class_embeddings_input_dim: int | None = None

    def __post_init__(self) -> None:
        if self.addition_embed_type not in (None, "text_time"):
            raise UnsupportedConfig(f"addition_embed_type={self.addition_embed_type!r}")
        known = {"CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"}
        for kind in (*self.down_block_types, *self.up_block_types):
            if kind not in known:
                raise UnsupportedConfig(f"block type {kind!r}: this network has {sorted(known)}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(**_select(cls, data, _UNET_NEUTRAL))

    def to_dict(self) -> dict[str, Any]:
        return {"_class_name": "UNet2DConditionModel", **asdict(self)}

    @property
    def heads(self) -> tuple[int, ...]:
        """Attention heads of each level."""
        return _per_level(
            self.num_attention_heads or self.attention_head_dim, len(self.block_out_channels)
        )

    @property
    def transformer_depth(self) -> tuple[int, ...]:
        """Transformer blocks after each resnet of each level that has attention."""
        return _per_level(self.transformer_layers_per_block, len(self.block_out_channels))


_AUTOENCODER_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "act_fn": ("silu",),
    "mid_block_add_attention": (True,),
    "use_quant_conv": (True,),
    "use_post_quant_conv": (True,),
}


@dataclass(frozen=True)
class AutoencoderConfig:
    """The KL-regularised autoencoder (Rombach et al. 2022, section 3.1 and appendix G)."""

    sample_size: int = 512
    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",) * 4
    up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",) * 4
    layers_per_block: int = 2
    norm_num_groups: int = 32
    scaling_factor: float = 0.18215
    force_upcast: bool = False

    def __post_init__(self) -> None:
        if set(self.down_block_types) != {"DownEncoderBlock2D"}:
            raise UnsupportedConfig(f"down_block_types={self.down_block_types}")
        if set(self.up_block_types) != {"UpDecoderBlock2D"}:
            raise UnsupportedConfig(f"up_block_types={self.up_block_types}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        # `force_upcast` is true by default in files that leave it out, but Stable Diffusion 1.x
        # files predate it and decode soundly in half precision; only a written `true` counts.
        return cls(**_select(cls, data, _AUTOENCODER_NEUTRAL))

    def to_dict(self) -> dict[str, Any]:
        return {"_class_name": "AutoencoderKL", "act_fn": "silu", **asdict(self)}

    @property
    def factor(self) -> int:
        """Pixels per latent along each side."""
        return 1 << (len(self.block_out_channels) - 1)


# transformers writes many keys that concern training or other tasks; they change no feature.
_TEXT_IRRELEVANT = {
    "architectures",
    "attention_dropout",
    "bos_token_id",
    "dropout",
    "dtype",
    "initializer_factor",
    "initializer_range",
    "model_type",
    "pad_token_id",
    "torch_dtype",
    "transformers_version",
    "use_cache",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
}


@dataclass(frozen=True)
class TextEncoderConfig:
    """A CLIP text transformer (Radford et al. 2021)."""

    vocab_size: int = 49408
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    eos_token_id: int = 49407
    projection_dim: int = 512
    with_projection: bool = False

    def __post_init__(self) -> None:
        if self.hidden_act not in ("quick_gelu", "gelu"):
            raise UnsupportedConfig(f"hidden_act={self.hidden_act!r}: have quick_gelu, gelu")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        kept = {key: value for key, value in data.items() if key not in _TEXT_IRRELEVANT}
        projected = "CLIPTextModelWithProjection" in (data.get("architectures") or ())
        return cls(**{**_select(cls, kept, {}), "with_projection": projected})

    def to_dict(self) -> dict[str, Any]:
        data = asdict(self)
        projected = data.pop("with_projection")
        architecture = "CLIPTextModelWithProjection" if projected else "CLIPTextModel"
        return {"architectures": [architecture], "model_type": "clip_text_model", **data}
