"""`config.json` of each component of a single file, derived from its shapes and its family.

Shapes are by our parameter names. The keys written are those of diffusers and transformers. All
functions raise CheckpointError for a file without a tensor that they need.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from models.checkpoints.detect.families import Family
from models.checkpoints.errors import CheckpointError
from models.checkpoints.key_plan import Shape

Shapes = Mapping[str, Shape]
Config = dict[str, Any]

_CLIP_HEAD = 64  # channels of a head in every CLIP text encoder of these families
_BERT_HEAD = 64  # channels of a head in the paper's text encoder
_TIME_ID = 256  # channels of the embedding of each of SDXL's sizes and crops


def unet_config(shapes: Shapes, family: Family) -> Config:
    """Return the configuration of UNet2DConditionModel, or of UNet2DModel without a context."""
    levels = _levels(shapes, "down_blocks")
    config: Config = {
        "sample_size": family.sample_size,
        "in_channels": _size(shapes, "conv_in.weight", 1),
        "out_channels": _size(shapes, "conv_out.weight", 0),
        "block_out_channels": _widths(shapes, levels),
        "layers_per_block": _layers(shapes, levels),
        "down_block_types": [_block_type(shapes, f"down_blocks.{i}", "Down") for i in levels],
        "up_block_types": [_block_type(shapes, f"up_blocks.{i}", "Up") for i in levels],
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "norm_eps": 1e-5,
    }
    if family.signature.context:
        return config | _conditional(shapes, family, config["block_out_channels"])
    return config | _unconditional(shapes, family)


def _conditional(shapes: Shapes, family: Family, widths: list[int]) -> Config:
    """Return the settings of UNet2DConditionModel; `attention_head_dim` is the number of heads."""
    config: Config = {
        "_class_name": "UNet2DConditionModel",
        "cross_attention_dim": family.signature.context,
        "attention_head_dim": [family.heads(width) for width in widths],
        **_transformer_layers(shapes, len(widths)),
        "use_linear_projection": _projects_linearly(shapes),
    }
    if "mid_block.attentions.0.proj_in.weight" not in shapes:
        resnets = _count(shapes, "mid_block.resnets")
        config["mid_block_type"] = "UNetMidBlock2D" if resnets else None
    if "add_embedding.linear_1.weight" in shapes:
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": _TIME_ID,
            "projection_class_embeddings_input_dim": _size(
                shapes, "add_embedding.linear_1.weight", 1
            ),
        }
    if "class_embedding.weight" in shapes:
        config["num_class_embeds"] = _size(shapes, "class_embedding.weight", 0)
    context_only = [_attends_to_context_only(shapes, i, widths) for i in range(len(widths))]
    if any(context_only):
        config["only_cross_attention"] = context_only
    if "time_embedding.cond_proj.weight" in shapes:
        config["time_cond_proj_dim"] = _size(shapes, "time_embedding.cond_proj.weight", 1)
    return config


def _attends_to_context_only(shapes: Shapes, level: int, widths: list[int]) -> bool:
    """Return True if the first attention of a level's transformers reads the context.

    Of a context as wide as the level this cannot be told: it is taken for self-attention.
    """
    name = f"down_blocks.{level}.attentions.0.transformer_blocks.0.attn1.to_k.weight"
    shape = shapes.get(name, ())
    return len(shape) == 2 and shape[1] != widths[level]


def _projects_linearly(shapes: Shapes) -> bool:
    """Return True if the transformers begin with a matrix, not with a 1×1 convolution."""
    found = (shape for key, shape in shapes.items() if key.endswith(".proj_in.weight"))
    return len(next(found, ())) == 2


def _layers(shapes: Shapes, levels: range) -> int | list[int]:
    """Return the resnets of each level of the encoder, as one number if all have as many."""
    found = [_count(shapes, f"down_blocks.{i}.resnets") for i in levels]
    return found[0] if len(set(found)) == 1 else found


def _transformer_layers(shapes: Shapes, levels: int) -> Config:
    """Return the number of transformer blocks of each level.

    Levels of distilled networks have another number after each resnet, and the decoder has others
    than the encoder. A level without attention gets the number of the middle if it is the last,
    otherwise one.
    """
    middle = _count(shapes, "mid_block.attentions.0.transformer_blocks")
    down = [_level_depth(shapes, f"down_blocks.{i}") for i in range(levels)]
    encoder = [
        depth or (middle if i == levels - 1 and middle else 1) for i, depth in enumerate(down)
    ]
    up = [_level_depth(shapes, f"up_blocks.{i}") for i in range(_count(shapes, "up_blocks"))]
    mirrored = list(reversed(encoder))
    same = all(depth in (None, mirrored[i]) for i, depth in enumerate(up))
    if same and not any(isinstance(depth, list) for depth in encoder):
        return {"transformer_layers_per_block": encoder}
    decoder = [depth or mirrored[i] for i, depth in enumerate(up)]
    return {
        "transformer_layers_per_block": encoder,
        "reverse_transformer_layers_per_block": decoder,
    }


def _level_depth(shapes: Shapes, block: str) -> int | list[int] | None:
    """Return the transformer blocks after each resnet of a level, as one number if all are equal.

    None for a level without attention.
    """
    found = [
        _count(shapes, f"{block}.attentions.{i}.transformer_blocks")
        for i in range(_count(shapes, f"{block}.attentions"))
    ]
    if not any(found):
        return None
    return found[0] if len(set(found)) == 1 else found


def _unconditional(shapes: Shapes, family: Family) -> Config:
    """Return the settings of UNet2DModel; `attention_head_dim` is the width of a head there."""
    resampling = "resnet" if "down_blocks.0.downsamplers.0.conv1.weight" in shapes else "conv"
    config: Config = {
        "_class_name": "UNet2DModel",
        "downsample_type": resampling,
        "upsample_type": resampling,
    }
    if family.head_width is None:
        config["num_attention_heads"] = family.heads_at_each_level
    else:
        config["attention_head_dim"] = family.head_width
    if "mid_block.attentions.0.to_q.weight" not in shapes:
        config["add_attention"] = False
    added = _size(shapes, "down_blocks.0.resnets.0.time_emb_proj.weight", 0)
    if added == 2 * _size(shapes, "down_blocks.0.resnets.0.conv1.weight", 0):
        config |= {"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 32}
    return config


def _block_type(shapes: Shapes, block: str, direction: str) -> str:
    """Return the class of a block. direction: "Down" or "Up"."""
    if f"{block}.attentions.0.proj_in.weight" in shapes:
        return f"CrossAttn{direction}Block2D"
    if f"{block}.attentions.0.to_q.weight" in shapes:
        return f"Attn{direction}Block2D"
    sampler = f"{block}.{direction.lower()}samplers.0.conv1.weight"
    return f"Resnet{direction}sampleBlock2D" if sampler in shapes else f"{direction}Block2D"


def controlnet_config(shapes: Shapes, family: Family) -> Config:
    """Return the configuration of ControlNetModel: a UNet's encoder and the hint's convolutions."""
    levels = _levels(shapes, "down_blocks")
    widths = _widths(shapes, levels)
    blocks = range(0, _count(shapes, "controlnet_cond_embedding.blocks"), 2)
    hint = [f"controlnet_cond_embedding.blocks.{i}.weight" for i in blocks]
    encoder = _conditional(shapes, family, widths)
    encoder.pop("reverse_transformer_layers_per_block", None)  # of a decoder, which it has not
    return encoder | {
        "_class_name": "ControlNetModel",
        "in_channels": _size(shapes, "conv_in.weight", 1),
        "block_out_channels": widths,
        "layers_per_block": _count(shapes, "down_blocks.0.resnets"),
        "down_block_types": [_block_type(shapes, f"down_blocks.{i}", "Down") for i in levels],
        "conditioning_embedding_out_channels": [
            *(_size(shapes, name, 1) for name in hint),
            _size(shapes, "controlnet_cond_embedding.conv_out.weight", 1),
        ],
    }


def first_stage_config(shapes: Shapes, *, scaling_factor: float | None = None) -> Config:
    """Return the configuration of AutoencoderKL, or of another class by the tensors it has.

    scaling_factor: None for a first stage on its own, which has none.

    Raises CheckpointError for a first stage without an encoder.
    """
    if not any(key.startswith("encoder.") for key in shapes):
        raise CheckpointError(
            "its first stage has no encoder, without which no image can be the start of another: "
            "the file that it was taken from holds both halves"
        )
    if any(key.startswith("decoder.condition_encoder.") for key in shapes):
        return _asymmetric_config(shapes)
    levels = _levels(shapes, "encoder.down_blocks")
    config: Config = {
        "_class_name": "AutoencoderKL",
        "in_channels": _size(shapes, "encoder.conv_in.weight", 1),
        "out_channels": _size(shapes, "decoder.conv_out.weight", 0),
        "latent_channels": _size(shapes, "decoder.conv_in.weight", 1),
        "block_out_channels": _widths(shapes, levels, "encoder."),
        "layers_per_block": _count(shapes, "encoder.down_blocks.0.resnets"),
        "down_block_types": [
            _encoder_decoder_type(shapes, f"encoder.down_blocks.{i}") for i in levels
        ],
        "up_block_types": [_encoder_decoder_type(shapes, f"decoder.up_blocks.{i}") for i in levels],
        "act_fn": "silu",
    }
    if "encoder.mid_block.attentions.0.to_q.weight" not in shapes:
        config["mid_block_add_attention"] = False
    for convolution in ("quant_conv", "post_quant_conv"):
        if f"{convolution}.weight" not in shapes:
            config[f"use_{convolution}"] = False
    if "quantize.embedding.weight" in shapes:
        config["_class_name"] = "VQModel"
        config["num_vq_embeddings"] = _size(shapes, "quantize.embedding.weight", 0)
    if scaling_factor is not None:
        config["scaling_factor"] = scaling_factor
    return config


def _asymmetric_config(shapes: Shapes) -> Config:
    """Return the configuration of AsymmetricAutoencoderKL, whose latents are Stable Diffusion's."""
    levels = _levels(shapes, "encoder.down_blocks")
    ups = [f"decoder.up_blocks.{i}" for i in levels]
    return {
        "_class_name": "AsymmetricAutoencoderKL",
        "act_fn": "silu",
        "in_channels": _size(shapes, "encoder.conv_in.weight", 1),
        "out_channels": _size(shapes, "decoder.conv_out.weight", 0),
        "latent_channels": _size(shapes, "decoder.conv_in.weight", 1),
        "down_block_out_channels": _widths(shapes, levels, "encoder."),
        "down_block_types": [
            _encoder_decoder_type(shapes, f"encoder.down_blocks.{i}") for i in levels
        ],
        "layers_per_down_block": _count(shapes, "encoder.down_blocks.0.resnets"),
        "up_block_out_channels": [
            _size(shapes, f"{up}.resnets.0.conv1.weight", 0) for up in reversed(ups)
        ],
        "up_block_types": [_encoder_decoder_type(shapes, up) for up in ups],
        "layers_per_up_block": _count(shapes, "decoder.up_blocks.0.resnets") - 1,
    }


def tiny_config(shapes: Shapes) -> Config:
    """Return the configuration of AutoencoderTiny, whose latents are not scaled."""
    encoder, decoder = (
        _blocks_between(shapes, f"{half}.layers") for half in ("encoder", "decoder")
    )
    width, in_channels = (_size(shapes, "encoder.layers.0.weight", axis) for axis in (0, 1))
    last = max(_indices(shapes, "decoder.layers"), default=0)
    return {
        "_class_name": "AutoencoderTiny",
        "act_fn": "relu",
        "in_channels": in_channels,
        "out_channels": _size(shapes, f"decoder.layers.{last}.weight", 0),
        "latent_channels": _size(shapes, "decoder.layers.0.weight", 1),
        "encoder_block_out_channels": [width] * len(encoder),
        "decoder_block_out_channels": [_size(shapes, "decoder.layers.0.weight", 0)] * len(decoder),
        "num_encoder_blocks": encoder,
        "num_decoder_blocks": decoder,
        "scaling_factor": 1.0,
    }


def _blocks_between(shapes: Shapes, prefix: str) -> list[int]:
    """Return the number of blocks between each two convolutions of a sequence."""
    counts: list[int] = []
    for place in sorted(_indices(shapes, prefix)):
        if f"{prefix}.{place}.weight" in shapes:
            counts.append(0)
        elif counts:
            counts[-1] += 1
    return counts[:-1]


def _encoder_decoder_type(shapes: Shapes, block: str) -> str:
    name = "DownEncoder" if block.startswith("encoder") else "UpDecoder"
    attends = f"{block}.attentions.0.to_q.weight" in shapes
    return f"Attn{name}Block2D" if attends else f"{name}Block2D"


def clip_config(shapes: Shapes, *, hidden_act: str) -> Config:
    """Return the configuration of CLIPTextModel, or of CLIPTextModelWithProjection."""
    name = "text_model.embeddings.token_embedding.weight"
    vocabulary, width = (_size(shapes, name, axis) for axis in (0, 1))
    projected = "text_projection.weight" in shapes
    return {
        "architectures": ["CLIPTextModelWithProjection" if projected else "CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": _size(shapes, "text_model.encoder.layers.0.mlp.fc1.weight", 0),
        "num_hidden_layers": _count(shapes, "text_model.encoder.layers"),
        "num_attention_heads": max(width // _CLIP_HEAD, 1),
        "max_position_embeddings": _size(
            shapes, "text_model.embeddings.position_embedding.weight", 0
        ),
        "hidden_act": hidden_act,
        "projection_dim": _size(shapes, "text_projection.weight", 0) if projected else width,
        # The historic value of all published files; see `TextEncoder`.
        "eos_token_id": 2,
    }


def bert_config(shapes: Shapes) -> Config:
    """Return the configuration of LDMBertModel."""
    vocabulary, width = (_size(shapes, "model.embed_tokens.weight", axis) for axis in (0, 1))
    return {
        "architectures": ["LDMBertModel"],
        "model_type": "ldmbert",
        "vocab_size": vocabulary,
        "max_position_embeddings": _size(shapes, "model.embed_positions.weight", 0),
        "d_model": width,
        "encoder_layers": _count(shapes, "model.layers"),
        "encoder_ffn_dim": _size(shapes, "model.layers.0.fc1.weight", 0),
        "encoder_attention_heads": _size(shapes, "model.layers.0.self_attn.q_proj.weight", 0)
        // _BERT_HEAD,
        "head_dim": _BERT_HEAD,
    }


def class_embedder_config(shapes: Shapes) -> Config:
    """Return the configuration of ClassEmbedder, by the names in the paper's configuration."""
    classes, width = (_size(shapes, "embedding.weight", axis) for axis in (0, 1))
    return {"_class_name": "ClassEmbedder", "n_classes": classes, "embed_dim": width}


def rescaler_config(shapes: Shapes) -> Config:
    """Return the configuration of SpatialRescaler: two halvings, for a first stage of factor 4."""
    mapper = "channel_mapper.weight"
    out_channels, in_channels = (_size(shapes, mapper, axis) for axis in (0, 1))
    return {
        "_class_name": "SpatialRescaler",
        "n_stages": 2,
        "in_channels": in_channels,
        "out_channels": out_channels,
    }


def component_config(
    component: str, shapes: Shapes, family: Family, scaling_factor: float | None
) -> Config:
    """Return the configuration of a component, by the name of its folder."""
    return _CONFIGS[component](shapes, family, scaling_factor)


def _family_first_stage(shapes: Shapes, family: Family, scaling_factor: float | None) -> Config:
    config = first_stage_config(shapes, scaling_factor=scaling_factor)
    factor = 2 ** (len(config["block_out_channels"]) - 1)
    config["sample_size"] = family.sample_size * factor
    if family.latents_mean and family.latents_std:
        config["latents_mean"] = list(family.latents_mean)
        config["latents_std"] = list(family.latents_std)
    return config | ({"force_upcast": True} if family.force_upcast else {})


_CONFIGS: Mapping[str, Callable[[Shapes, Family, float | None], Config]] = {
    "unet": lambda shapes, family, _: unet_config(shapes, family),
    "controlnet": lambda shapes, family, _: controlnet_config(shapes, family),
    "vae": _family_first_stage,
    "vqvae": _family_first_stage,
    # CLIP ViT-L/14 as trained by OpenAI; ViT-H/14 and ViT-bigG/14 by open_clip.
    "text_encoder": lambda shapes, family, _: clip_config(
        shapes, hidden_act="gelu" if family.open_clip else "quick_gelu"
    ),
    "text_encoder_2": lambda shapes, *_: clip_config(shapes, hidden_act="gelu"),
    "bert": lambda shapes, *_: bert_config(shapes),
    "class_embedder": lambda shapes, *_: class_embedder_config(shapes),
    "rescaler": lambda shapes, *_: rescaler_config(shapes),
}


def _size(shapes: Shapes, name: str, axis: int) -> int:
    """Return one side of a tensor. Raises CheckpointError for a file without it."""
    shape = shapes.get(name)
    if shape is None:
        raise CheckpointError(f"{name} is missing, without which its configuration is unknown")
    if len(shape) <= axis:
        raise CheckpointError(f"{name} has shape {shape}, which has too few dimensions")
    return shape[axis]


def _levels(shapes: Shapes, prefix: str) -> range:
    return range(_count(shapes, prefix))


def _count(shapes: Shapes, prefix: str) -> int:
    """Return the number of modules in the list `prefix`."""
    return len(_indices(shapes, prefix))


def _indices(shapes: Shapes, prefix: str) -> set[int]:
    """Return the indices of the modules with parameters in the list `prefix`."""
    pattern = re.compile(re.escape(prefix) + r"\.([0-9]{1,3})\..*")
    return {int(match[1]) for key in shapes if (match := pattern.fullmatch(key))}


def _widths(shapes: Shapes, levels: range, before: str = "") -> list[int]:
    return [_size(shapes, f"{before}down_blocks.{i}.resnets.0.conv1.weight", 0) for i in levels]
