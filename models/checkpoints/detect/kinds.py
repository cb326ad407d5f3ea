"""Kinds of weight files, detected from their keys: a model, or an extra network for one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal, get_args

from models.checkpoints.detect.families import CONTROLNET, UNET
from models.checkpoints.detect.unsupported import refuse_keys
from models.checkpoints.errors import CheckpointError
from models.checkpoints.key_plan import Shape
from models.checkpoints.keys.adapters import is_adapter_key
from models.checkpoints.keys.embeddings import is_inversion_key
from models.checkpoints.keys.tiny import half_of
from models.checkpoints.keys.upscaler import upscaler_network

Kind = Literal["model", "lora", "embedding", "controlnet", "vae", "unet", "upscaler"]

# The class of upscalers whose network is not ours; it is known when they are loaded.
OTHER_UPSCALER = "OtherUpscaler"

# Networks with a folder of their own, by the `_class_name` of their config.json.
CLASS_KINDS: Mapping[str, Kind] = {
    "AutoencoderKL": "vae",
    "AsymmetricAutoencoderKL": "vae",
    "VQModel": "vae",
    "AutoencoderTiny": "vae",
    "ControlNetModel": "controlnet",
    "UNet2DConditionModel": "unet",
    "UNet2DModel": "unet",
    "RRDBNet": "upscaler",
    "SRVGGNetCompact": "upscaler",
    OTHER_UPSCALER: "upscaler",
}

# Of a UNet whose parameters have diffusers' names.
_UNET_KEYS = {"conv_in.weight", "conv_out.weight", "time_embedding.linear_1.weight"}
# Of the embedding of a ControlNet's control image; the others are keys of a UNet, too.
_CONTROLNET = (
    f"{CONTROLNET}input_hint_block.",
    "input_hint_block.",
    "controlnet_cond_embedding.",
)
_EMBEDDING_KEYS = {"emb_params", "clip_l", "clip_g"}
# The only tensor of a file by such a key is a parameter of a network.
_PARAMETER = re.compile(r".*\.(?:weight|bias|running_\w+)")


def detect_kind(shapes: Mapping[str, Shape]) -> Kind:
    """Return the kind of a single file with these tensors.

    A file is a LoRA if most of its keys are: in a network, they are keys that do not belong there.

    Raises CheckpointError for a file of no kind; the message names what was expected, or the
    published model that the file is of.
    """
    adapters = [key for key in shapes if is_adapter_key(key)]
    if 2 * len(adapters) > len(shapes):
        return "lora"
    refuse_keys(shapes)
    others = {key: shape for key, shape in shapes.items() if key not in set(adapters)}
    for kind, matches in _TESTS.items():
        if matches(others):
            return kind
    if adapters:
        return "lora"
    raise CheckpointError(_refusal(shapes))


def _is_first_stage(shapes: Mapping[str, Shape]) -> bool:
    bare = {key.removeprefix("first_stage_model.") for key in shapes}
    return {"encoder.conv_in.weight", "decoder.conv_in.weight"} <= bare


def _is_embedding(shapes: Mapping[str, Shape]) -> bool:
    """Detect textual inversion: one embedding of one or more vectors, for one or two encoders."""
    if shapes.keys() & _EMBEDDING_KEYS or any(map(is_inversion_key, shapes)):
        return True
    [key], [shape] = (shapes, shapes.values()) if len(shapes) == 1 else ([""], [()])
    return len(shape) in (1, 2) and not _PARAMETER.fullmatch(key)


# In the order in which they are tried.
_TESTS: Mapping[Kind, Callable[[Mapping[str, Shape]], bool]] = {
    "controlnet": lambda shapes: any(key.startswith(_CONTROLNET) for key in shapes),
    "model": lambda shapes: any(key.startswith(UNET) for key in shapes),
    "unet": lambda shapes: shapes.keys() >= _UNET_KEYS,
    "vae": _is_first_stage,
    "upscaler": lambda shapes: upscaler_network(shapes) is not None,
    "embedding": _is_embedding,
}


def _refusal(shapes: Mapping[str, Shape]) -> str:
    if half := half_of(shapes.keys()):
        return (
            f"it is the {half} of a tiny autoencoder, whose other half is a file of its own: "
            "`darkroom models add` makes one of the two"
        )
    if "decoder.conv_in.weight" in {key.removeprefix("first_stage_model.") for key in shapes}:
        return "it holds the decoder of a first stage without its encoder, which is needed, too"
    if any(key.startswith(("text_model.", "input_blocks.")) for key in shapes):
        return "it holds one network of a model only: add the folder that it belongs to"
    return (
        f"it is none of {', '.join(get_args(Kind))}: neither {UNET}* nor {CONTROLNET}*, no encoder "
        "and decoder, no low-rank pairs, no textual inversion embedding, no ESRGAN; it begins with "
        f"{', '.join(sorted(shapes)[:3])}. An upscaler of another architecture is added with "
        "--kind upscaler"
    )
