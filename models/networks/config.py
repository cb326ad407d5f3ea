"""The JSON files of a checkpoint's networks as frozen records.

The field names are those of the published files (`unet/config.json`, `vae/config.json`,
`text_encoder/config.json`), so a file becomes a record without a map: see
`models.checkpoints.config_fields`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from models.checkpoints.config_fields import select
from models.checkpoints.errors import UnsupportedConfig

# A number for a level, or one for each of its layers.
Depth = int | tuple[int, ...]


def _per_level(value: int | tuple[int, ...], levels: int) -> tuple[int, ...]:
    return (value,) * levels if isinstance(value, int) else tuple(value)


def _per_layer(depth: Depth, layers: int) -> tuple[int, ...]:
    return (depth,) * layers if isinstance(depth, int) else depth


def check_heads(width: int, heads: int) -> None:
    """Raise UnsupportedConfig for a transformer whose heads do not share its width evenly."""
    if width % heads:
        raise UnsupportedConfig(f"hidden_size={width} for num_attention_heads={heads}")


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
    "only_cross_attention": (False, None),
    "resnet_out_scale_factor": (1.0,),
    "resnet_skip_time_act": (False,),
    "time_embedding_type": ("positional",),
    # Every kernel here adds up products and computes the softmax in float32.
    "upcast_attention": (False, True, None),
    "attention_type": ("default",),
}

# Defaults of a UNet2DModel file, which differ from those of a UNet2DConditionModel file.
_UNCONDITIONAL_DEFAULTS: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": (224, 448, 672, 896),
    "down_block_types": ("DownBlock2D",) + ("AttnDownBlock2D",) * 3,
    "up_block_types": ("AttnUpBlock2D",) * 3 + ("UpBlock2D",),
    "mid_block_type": "UNetMidBlock2D",
}


def _sample_size(data: Mapping[str, Any]) -> Any:
    """Return the size in a file, or that of diffusers' pipelines for a file without one."""
    if data.get("sample_size") is not None:
        return data["sample_size"]
    return 128 if data.get("addition_embed_type") == "text_time" else 64


# Keys that only one of the two classes has.
_CONDITIONAL_ONLY = (
    "cross_attention_dim",
    "transformer_layers_per_block",
    "reverse_transformer_layers_per_block",
    "use_linear_projection",
    "addition_embed_type",
    "addition_time_embed_dim",
    "projection_class_embeddings_input_dim",
    "time_cond_proj_dim",
    "num_class_embeds",
    "only_cross_attention",
)
_UNCONDITIONAL_ONLY = (
    "add_attention",
    "attn_norm_num_groups",
    "downsample_type",
    "upsample_type",
)

_PLAIN_BLOCKS = {
    "DownBlock2D",
    "UpBlock2D",
    "ResnetDownsampleBlock2D",
    "ResnetUpsampleBlock2D",
}
_ATTENTION_BLOCKS = {"AttnDownBlock2D", "AttnUpBlock2D"}
_CROSS_ATTENTION_BLOCKS = {"CrossAttnDownBlock2D", "CrossAttnUpBlock2D"}


def mismatch(pairs: Mapping[str, tuple[Any, Any]]) -> str | None:
    """Describe the pairs whose second value is not the first; None if all are equal."""
    wrong = [f"{key} {its}, not {wanted}" for key, (its, wanted) in pairs.items() if its != wanted]
    return f"it has {'; '.join(wrong)}" if wrong else None


@dataclass(frozen=True)
class UNetConfig:
    """The UNets of latent diffusion (Rombach et al. 2022, table 12 to 15; Podell et al. 2023).

    A file of diffusers' UNet2DConditionModel or, with `cross_attention_dim` None, of its
    UNet2DModel, which has no context. `attention_head_dim` has two meanings, as in diffusers: the
    heads of a level in the former, the width of a head in the latter (None: one head).
    `num_attention_heads` is the number of heads in both. UNet2DModel itself does not have that key:
    here a config.json uses it for networks with as many heads at every level, independent of its
    width (inpainting_big and lsun_churches256 of the paper: 8). `time_cond_proj_dim` is the width
    of the embedded guidance scale, for networks that were distilled with guidance. `mid_block_type`
    and `add_attention`: see `mid_resnets` and `mid_attends`. Networks that were distilled block by
    block have another number of transformer blocks after each resnet; their decoder's, coarsest
    level first, are `reverse_transformer_layers_per_block`. `num_class_embeds` is the number of
    labels that may be added to the time embedding. In levels with `only_cross_attention`, finest
    first, both attentions of a transformer block read the context.
    """

    sample_size: int = 64
    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    up_block_types: tuple[str, ...] = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    mid_block_type: str | None = "UNetMidBlock2DCrossAttn"
    add_attention: bool = True
    layers_per_block: int | tuple[int, ...] = 2
    transformer_layers_per_block: int | tuple[Depth, ...] = 1
    reverse_transformer_layers_per_block: tuple[Depth, ...] | None = None
    attention_head_dim: int | tuple[int, ...] | None = 8
    num_attention_heads: int | tuple[int, ...] | None = None
    cross_attention_dim: int | None = 768
    use_linear_projection: bool = False
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    attn_norm_num_groups: int | None = None
    resnet_time_scale_shift: str = "default"
    downsample_type: str = "conv"
    upsample_type: str = "conv"
    flip_sin_to_cos: bool = True
    freq_shift: int = 0
    addition_embed_type: str | None = None
    addition_time_embed_dim: int | None = None
    projection_class_embeddings_input_dim: int | None = None
    time_cond_proj_dim: int | None = None
    num_class_embeds: int | None = None
    only_cross_attention: bool | tuple[bool, ...] = False

    def __post_init__(self) -> None:
        if self.addition_embed_type not in (None, "text_time"):
            raise UnsupportedConfig(f"addition_embed_type={self.addition_embed_type!r}")
        if self.resnet_time_scale_shift not in ("default", "scale_shift"):
            raise UnsupportedConfig(f"resnet_time_scale_shift={self.resnet_time_scale_shift!r}")
        for key in ("downsample_type", "upsample_type"):
            if getattr(self, key) not in ("conv", "resnet"):
                raise UnsupportedConfig(f"{key}={getattr(self, key)!r}: have conv, resnet")
        if self.mid_block_type not in (None, "UNetMidBlock2D", "UNetMidBlock2DCrossAttn"):
            raise UnsupportedConfig(f"mid_block_type={self.mid_block_type!r}")
        self._check_added_conditioning()
        if self.is_unconditional:
            self._check_unconditional()
        elif self.attention_head_dim is None and self.num_attention_heads is None:
            raise UnsupportedConfig("attention_head_dim=None: cross attention needs its heads")
        self._check_blocks()

    def _check_added_conditioning(self) -> None:
        for key in ("addition_time_embed_dim", "projection_class_embeddings_input_dim"):
            if self.addition_embed_type is not None and getattr(self, key) is None:
                raise UnsupportedConfig(f"addition_embed_type='text_time' needs {key}")

    def _check_unconditional(self) -> None:
        if self.resnet_time_scale_shift != "default" and self.attn_norm_num_groups is None:
            raise UnsupportedConfig("scale_shift without attn_norm_num_groups: attention unnormed")
        for key in ("attention_head_dim", "num_attention_heads"):
            if isinstance(getattr(self, key), tuple):
                raise UnsupportedConfig(f"{key}={getattr(self, key)!r} of a UNet2DModel")

    def _check_blocks(self) -> None:
        attentive = _ATTENTION_BLOCKS if self.is_unconditional else _CROSS_ATTENTION_BLOCKS
        for way, kinds in (("Down", self.down_block_types), ("Up", self.up_block_types)):
            known = {kind for kind in attentive | _PLAIN_BLOCKS if way in kind}
            for kind in kinds:
                if kind not in known:
                    raise UnsupportedConfig(f"block type {kind!r}: have {sorted(known)}")
            if len(kinds) != len(self.block_out_channels):
                raise UnsupportedConfig(f"{kinds} for block_out_channels={self.block_out_channels}")
        self._check_levels()

    def _check_levels(self) -> None:
        for key in (
            "attention_head_dim",
            "num_attention_heads",
            "layers_per_block",
            "transformer_layers_per_block",
            "reverse_transformer_layers_per_block",
            "only_cross_attention",
        ):
            value = getattr(self, key)
            if isinstance(value, tuple) and len(value) != len(self.block_out_channels):
                raise UnsupportedConfig(
                    f"{key}={value} for block_out_channels={self.block_out_channels}"
                )
        self._check_depths()
        groups = self.norm_num_groups
        for index, (channels, heads) in enumerate(
            zip(self.block_out_channels, self.heads, strict=True)
        ):
            if channels % groups:
                raise UnsupportedConfig(f"norm_num_groups={groups} for {channels} channels")
            if self._attends(index) and (heads < 1 or channels % heads):
                given = f"attention_head_dim={self.attention_head_dim}"
                raise UnsupportedConfig(f"{given}: {channels} channels for {heads} heads")

    def _check_depths(self) -> None:
        """Raise UnsupportedConfig for a list with fewer numbers than its level has layers."""
        depths = self.transformer_layers_per_block
        nested = isinstance(depths, tuple) and any(isinstance(depth, tuple) for depth in depths)
        if nested and self.reverse_transformer_layers_per_block is None:
            raise UnsupportedConfig(
                f"transformer_layers_per_block={depths} needs reverse_transformer_layers_per_block"
            )
        for index, layers in enumerate(self.layers):
            for kind, found, wanted in (
                (self.down_block_types[index], self.encoder_depths(index), layers),
                (self.up_block_types[-1 - index], self.decoder_depths(index), layers + 1),
            ):
                if kind in _CROSS_ATTENTION_BLOCKS and len(found) < wanted:
                    raise UnsupportedConfig(
                        f"{list(found)} transformer blocks for the {wanted} layers of a level"
                    )

    def _attends(self, index: int) -> bool:
        """Return True for a level with attention; 0 is the finest. The middle is of the last."""
        kinds = (self.down_block_types[index], self.up_block_types[-1 - index])
        last = index == len(self.block_out_channels) - 1
        return any("Attn" in kind for kind in kinds) or (last and self.mid_attends)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        kind = data.get("_class_name", "UNet2DConditionModel")
        given = {**data, "sample_size": _sample_size(data)}
        if kind == "UNet2DConditionModel":
            return cls(**select(cls, given, _UNET_NEUTRAL, foreign=_UNCONDITIONAL_ONLY))
        if kind != "UNet2DModel":
            raise UnsupportedConfig(f"_class_name={kind!r}: have UNet2DConditionModel, UNet2DModel")
        # The size of a learned time embedding; `time_embedding_type` is never a learned one here.
        kept = {key: value for key, value in given.items() if key != "num_train_timesteps"}
        chosen = select(cls, kept, _UNET_NEUTRAL, foreign=_CONDITIONAL_ONLY)
        return cls(**{**_UNCONDITIONAL_DEFAULTS, **chosen, "cross_attention_dim": None})

    def to_dict(self) -> dict[str, Any]:
        kind = "UNet2DModel" if self.is_unconditional else "UNet2DConditionModel"
        foreign = _CONDITIONAL_ONLY if self.is_unconditional else _UNCONDITIONAL_ONLY
        kept = {key: value for key, value in asdict(self).items() if key not in foreign}
        if self.is_unconditional and self.mid_block_type is not None:
            kept["mid_block_type"] = "UNetMidBlock2D"  # the only one of that class
        return {"_class_name": kind, **kept}

    @property
    def is_unconditional(self) -> bool:
        """Return True if the network has no context: it has self-attention over pixels only."""
        return self.cross_attention_dim is None

    @property
    def mid_resnets(self) -> int:
        """Return the resnets of the middle block: none without such a block.

        diffusers' class without attention to a context has one resnet in networks with a context.
        """
        if self.mid_block_type is None:
            return 0
        return 2 if self.is_unconditional or self.mid_attends else 1

    @property
    def mid_attends(self) -> bool:
        """Return True if the middle block has attention."""
        if self.is_unconditional:
            return self.mid_block_type is not None and self.add_attention
        return self.mid_block_type == "UNetMidBlock2DCrossAttn"

    @property
    def heads(self) -> tuple[int, ...]:
        """Return the attention heads of each level."""
        levels = len(self.block_out_channels)
        if self.num_attention_heads is not None:
            return _per_level(self.num_attention_heads, levels)
        dim = self.attention_head_dim
        if self.is_unconditional:
            return tuple(c // dim if isinstance(dim, int) else 1 for c in self.block_out_channels)
        assert dim is not None  # __post_init__ has refused it
        return _per_level(dim, levels)

    def attends_to_context_only(self, index: int) -> bool:
        """Return True if a level, counted from the finest, has no attention among its pixels."""
        only = self.only_cross_attention
        return only if isinstance(only, bool) else only[index]

    @property
    def layers(self) -> tuple[int, ...]:
        """Return the resnets of each level of the encoder; those of the decoder have one more."""
        return _per_level(self.layers_per_block, len(self.block_out_channels))

    @property
    def _depths(self) -> tuple[Depth, ...]:
        depths = self.transformer_layers_per_block
        return (depths,) * len(self.layers) if isinstance(depths, int) else depths

    def encoder_depths(self, index: int) -> tuple[int, ...]:
        """Return the transformer blocks after each resnet of a level of the encoder."""
        return _per_layer(self._depths[index], self.layers[index])

    def decoder_depths(self, index: int) -> tuple[int, ...]:
        """Return the transformer blocks after each resnet of a level of the decoder."""
        reverse = self.reverse_transformer_layers_per_block
        depth = self._depths[index] if reverse is None else reverse[-1 - index]
        return _per_layer(depth, self.layers[index] + 1)

    @property
    def mid_depth(self) -> int:
        """Return the transformer blocks of the middle block."""
        return self.encoder_depths(-1)[0]

    @property
    def pooled_dim(self) -> int | None:
        """Return the width of the pooled text that SDXL adds to the time embedding, or None.

        It is the input width of the added embedding less the embedded ids: six of them, or five for
        the refiner, whose one text encoder gives a context as wide as the pooled text.
        """
        whole, each = self.projection_class_embeddings_input_dim, self.addition_time_embed_dim
        if self.addition_embed_type is None or whole is None or each is None:
            return None
        ids = 5 if whole - 5 * each == self.cross_attention_dim else 6
        return whole - ids * each

    @property
    def time_ids(self) -> int:
        """Return the number of sizes, crops and scores that SDXL adds to the time embedding."""
        whole, each = self.projection_class_embeddings_input_dim, self.addition_time_embed_dim
        if self.pooled_dim is None or whole is None or each is None:
            return 0
        return (whole - self.pooled_dim) // each


# Keys that transformers writes for every network: about training, other tasks, and generated text.
# They change no feature.
_TEXT_IRRELEVANT_NAMES = """
    add_cross_attention attention_dropout bad_words_ids begin_suppress_tokens bos_token_id
    chunk_size_feed_forward cross_attention_hidden_size decoder_start_token_id diversity_penalty
    do_sample dropout early_stopping encoder_no_repeat_ngram_size exponential_decay_length_penalty
    finetuning_task forced_bos_token_id forced_eos_token_id id2label initializer_factor
    initializer_range is_decoder is_encoder_decoder label2id length_penalty max_length min_length
    no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_attentions
    output_hidden_states output_scores pad_token_id prefix problem_type pruned_heads
    remove_invalid_values repetition_penalty return_dict return_dict_in_generate sep_token_id
    suppress_tokens task_specific_params temperature tf_legacy_loss tie_encoder_decoder
    tie_word_embeddings tokenizer_class top_k top_p torchscript typical_p use_bfloat16 use_cache
"""
_TEXT_IRRELEVANT = frozenset(_TEXT_IRRELEVANT_NAMES.split())


# Of a file without these keys, as in transformers: the number of heads cannot be told from shapes.
_TEXT_DEFAULTS = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}


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
        check_heads(self.hidden_size, self.num_attention_heads)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        kept = {key: value for key, value in data.items() if key not in _TEXT_IRRELEVANT}
        architectures = data.get("architectures")
        projected = architectures is not None and "CLIPTextModelWithProjection" in str(
            architectures
        )
        chosen = {**_TEXT_DEFAULTS, **select(cls, kept, {})}
        return cls(**{**chosen, "with_projection": projected})

    def to_dict(self) -> dict[str, Any]:
        data = asdict(self)
        projected = data.pop("with_projection")
        architecture = "CLIPTextModelWithProjection" if projected else "CLIPTextModel"
        return {"architectures": [architecture], "model_type": "clip_text_model", **data}
