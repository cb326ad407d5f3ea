"""What a file of weights is for, told by its keys: a model, or something that goes with one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from models.checkpoints.detect.families import CONTROLNET, UNET
from models.checkpoints.errors import CheckpointError
from models.checkpoints.keys.tiny import half_of
from models.checkpoints.parts import Shape

Kind = Literal["model", "lora", "embedding", "controlnet", "vae", "unet"]
KINDS: tuple[Kind, ...] = ("model", "lora", "embedding", "controlnet", "vae", "unet")

# Networks that are folders of their own, by the `_class_name` of their config.json.
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
_EMBEDDING_KEYS = {"emb_params", "clip_l", "clip_g", "string_to_param.*"}


def kind_of(shapes: Mapping[str, Shape]) -> Kind:
    """What a single file with these tensors is.

    Raises CheckpointError for what is none of `KINDS`, saying what was looked for.
    """
    keys = shapes.keys()
    if any(_LORA.fullmatch(key) for key in keys):
        return "lora"
    if any(key.startswith((CONTROLNET, "controlnet_cond_embedding.")) for key in keys):
        return "controlnet"
    if any(key.startswith(UNET) for key in keys):
        return "model"
    if keys >= _UNET_KEYS:
        return "unet"
    if _is_first_stage(shapes):
        return "vae"
    if _is_embedding(shapes):
        return "embedding"
    if half := half_of(keys):
        raise CheckpointError(
            f"it is the {half} of a tiny autoencoder, whose other half is a file of its own: "
            "`darkroom models add` makes one of the two"
        )
    if any(key.startswith(("text_model.", "input_blocks.")) for key in keys):
        raise CheckpointError(
            "it holds one network of a model only: add the folder that it belongs to"
        )
    raise CheckpointError(
        f"it is none of {', '.join(KINDS)}: neither {UNET}* nor {CONTROLNET}*, no encoder and "
        f"decoder, no low-rank pairs, no learned word; it begins with {', '.join(sorted(keys)[:3])}"
    )


def _is_first_stage(shapes: Mapping[str, Shape]) -> bool:
    bare = {key.removeprefix("first_stage_model.") for key in shapes}
    return {"encoder.conv_in.weight", "decoder.conv_in.weight"} <= bare


def _is_embedding(shapes: Mapping[str, Shape]) -> bool:
    """Learned words: one in each file, of one vector or several, for one text encoder or two."""
    if shapes.keys() & _EMBEDDING_KEYS:
        return True
    vectors = all(shape and shape[-1] in _EMBEDDING_WIDTHS for shape in shapes.values())
    return len(shapes) == 1 and vectors and all(len(shape) <= 2 for shape in shapes.values())
