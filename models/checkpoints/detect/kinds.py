"""Kinds of weight files, detected from their keys: a model, or an extra network for one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal, get_args

from models.checkpoints.detect.families import CONTROLNET, UNET
from models.checkpoints.errors import CheckpointError
from models.checkpoints.key_plan import Shape
from models.checkpoints.keys.tiny import half_of

Kind = Literal["model", "lora", "embedding", "controlnet", "vae", "unet"]

# Networks with a folder of their own, by the `_class_name` of their config.json.
CLASS_KINDS: Mapping[str, Kind] = {
    "AutoencoderKL": "vae",
    "VQModel": "vae",
    "AutoencoderTiny": "vae",
    "ControlNetModel": "controlnet",
    "UNet2DConditionModel": "unet",
    "UNet2DModel": "unet",
}

_LORA = re.compile(
    r".*(?:\.lora_(?:up|down|A|B|mid)\b|\.lora\.(?:up|down)\.|_lora\.(?:up|down)\."
    r"|\.lora_linear_layer\.|\.hada_w\d|\.lokr_w\d|\.dora_scale).*"
)
# Widths of the text encoders whose vocabulary an embedding extends: CLIP-L, CLIP-H, CLIP-bigG.
_EMBEDDING_WIDTHS = (768, 1024, 1280)
# Of a UNet whose parameters have diffusers' names.
_UNET_KEYS = {"conv_in.weight", "conv_out.weight", "time_embedding.linear_1.weight"}
_CONTROLNET = (CONTROLNET, "controlnet_cond_embedding.")
_EMBEDDING_KEYS = {"emb_params", "clip_l", "clip_g", "string_to_param.*"}


def detect_kind(shapes: Mapping[str, Shape]) -> Kind:
    """Return the kind of a single file with these tensors.

    Raises CheckpointError for a file of no kind; the message names what was expected.
    """
    for kind, matches in _TESTS.items():
        if matches(shapes):
            return kind
    raise CheckpointError(_refusal(shapes))


def _is_first_stage(shapes: Mapping[str, Shape]) -> bool:
    bare = {key.removeprefix("first_stage_model.") for key in shapes}
    return {"encoder.conv_in.weight", "decoder.conv_in.weight"} <= bare


def _is_embedding(shapes: Mapping[str, Shape]) -> bool:
    """Detect textual inversion: one embedding of one or more vectors, for one or two encoders."""
    if shapes.keys() & _EMBEDDING_KEYS:
        return True
    vectors = all(shape and shape[-1] in _EMBEDDING_WIDTHS for shape in shapes.values())
    return len(shapes) == 1 and vectors and all(len(shape) <= 2 for shape in shapes.values())


# In the order in which they are tried.
_TESTS: Mapping[Kind, Callable[[Mapping[str, Shape]], bool]] = {
    "lora": lambda shapes: any(_LORA.fullmatch(key) for key in shapes),
    "controlnet": lambda shapes: any(key.startswith(_CONTROLNET) for key in shapes),
    "model": lambda shapes: any(key.startswith(UNET) for key in shapes),
    "unet": lambda shapes: shapes.keys() >= _UNET_KEYS,
    "vae": _is_first_stage,
    "embedding": _is_embedding,
}


def _refusal(shapes: Mapping[str, Shape]) -> str:
    if half := half_of(shapes.keys()):
        return (
            f"it is the {half} of a tiny autoencoder, whose other half is a file of its own: "
            "`darkroom models add` makes one of the two"
        )
    if any(key.startswith(("text_model.", "input_blocks.")) for key in shapes):
        return "it holds one network of a model only: add the folder that it belongs to"
    return (
        f"it is none of {', '.join(get_args(Kind))}: neither {UNET}* nor {CONTROLNET}*, no encoder "
        "and decoder, no low-rank pairs, no textual inversion embedding; it begins with "
        f"{', '.join(sorted(shapes)[:3])}"
    )
