"""The tensors of LoRA files by the ends of their keys, as data.

A key is the name of a layer and a suffix: `lora_unet_mid_block_attentions_0_proj_in` and `.alpha`.
"""

from __future__ import annotations

import re
from enum import Enum, auto


class TensorRole(Enum):
    """The role of a tensor in the change of a layer. O and I: the sides of the layer's weight."""

    DOWN = auto()  # (r, I) or (r, I, kh, kw)
    UP = auto()  # (O, r) or (O, r, 1, 1)
    MID = auto()  # (r, r, kh, kw), between the two: "use_cp" of LyCORIS for convolutions
    ALPHA = auto()  # a number; the change is scaled by alpha / r
    HADA_W1_A = auto()  # (O, r), or (r, O) with a core tensor
    HADA_W1_B = auto()  # (r, I · kh · kw), or (r, I) with a core tensor
    HADA_W2_A = auto()
    HADA_W2_B = auto()
    HADA_T1 = auto()  # (r, r, kh, kw), the core tensor of the first product
    HADA_T2 = auto()
    LOKR_W1 = auto()  # (O1, I1)
    LOKR_W1_A = auto()  # (O1, r)
    LOKR_W1_B = auto()  # (r, I1)
    LOKR_W2 = auto()  # (O2, I2) or (O2, I2, kh, kw)
    LOKR_W2_A = auto()  # (O2, r), or (r, O2) with a core tensor
    LOKR_W2_B = auto()  # (r, I2 · kh · kw), or (r, I2) with a core tensor
    LOKR_T2 = auto()  # (r, r, kh, kw)
    DORA_SCALE = auto()  # (O, 1, …) or (1, I, …): the lengths of rows or columns
    DORA_MAGNITUDE = auto()  # (O,) or (1, O, 1, 1): the lengths of rows, as PEFT writes them
    WEIGHT = auto()  # the difference of a weight
    BIAS = auto()  # the difference of a bias
    UP_BIAS = auto()  # the difference of a bias, scaled like the low-rank change
    NEW_BIAS = auto()  # a bias that replaces the layer's


SUFFIXES = {
    ".lora_down.weight": TensorRole.DOWN,
    ".lora_up.weight": TensorRole.UP,
    ".lora_mid.weight": TensorRole.MID,
    ".alpha": TensorRole.ALPHA,
    ".lora.down.weight": TensorRole.DOWN,
    ".lora.up.weight": TensorRole.UP,
    ".lora_linear_layer.down.weight": TensorRole.DOWN,
    ".lora_linear_layer.up.weight": TensorRole.UP,
    "_lora.down.weight": TensorRole.DOWN,
    "_lora.up.weight": TensorRole.UP,
    ".diff": TensorRole.WEIGHT,
    ".diff_b": TensorRole.BIAS,
    ".w_norm": TensorRole.WEIGHT,
    ".b_norm": TensorRole.BIAS,
    ".dora_scale": TensorRole.DORA_SCALE,
}

# PEFT may write the name of the adapter, and "weight", after these.
_PEFT_PARTS = {
    "lora_A": TensorRole.DOWN,
    "lora_B": TensorRole.UP,
    "lora_magnitude_vector": TensorRole.DORA_MAGNITUDE,
    **{
        role.name.lower(): role
        for role in TensorRole
        if role.name.startswith(("HADA_W", "HADA_T", "LOKR_"))
    },
}
_PEFT = re.compile(
    rf"(.+)\.({'|'.join(map(re.escape, _PEFT_PARTS))})(?:\.(?!bias)[^.]+)?(?:\.weight)?"
)
_PEFT_UP_BIAS = re.compile(r"(.+)\.lora_B(?:\.(?!bias)[^.]+)?\.bias")
_PEFT_BIAS = re.compile(r"(.+?)(?:\.base_layer)?\.bias")

BUNDLED = re.compile(r"bundle_emb\.(?P<word>[^.]+)\.(?P<part>clip_[lg]|string_to_param\..+)")

# Tensors of other kinds of adapter.
_UNSUPPORTED = {
    r"\.oft_(?:blocks|diag|R|embedding_R)(?:\.\w+)*": "OFT",
    r"\.on_input|\.ia3_l(?:\.\w+)?": "IA3",
    r"\.[ab][12]\.weight|\.bm\.weight|\.glora_\w+(?:\.\w+)*": "GLoRA",
    r"\.lora_E(?:\.\w+)?|\.ranknum(?:\.\w+)?": "AdaLoRA",
    r"\.(?:lambda_layer|[pq]_layer\.weight)": "T-LoRA",
    r"\.lora_embedding_[AB](?:\.\w+)*": "a LoRA of an embedding layer as PEFT writes it",
    r"\.set_weight": "a replacement of weights",
    r"\.reshape_weight": "a LoRA that enlarges layers",
    r"\.lora_(?:up|down|A)(?:\.\w+)?\.bias": "a LoRA with biases in this form",
    r"(?:unet|text_encoder):\d+:(?:up|down)": "a LoRA of lora_diffusion",
    r"\.(?:boft|c3a|fourierft|hra|vera|vblora|randlora|road|shira|waveft|delora|hira|miss"
    r"|gralora|ln_tuning)_\w+(?:\.\w+)*": "this method of PEFT",
}
_KINDS = {re.compile(rf".*(?:{pattern})"): kind for pattern, kind in _UNSUPPORTED.items()}


def split(key: str) -> tuple[str, TensorRole] | None:
    """Return a key as the name of a layer and a role; None for a key of no LoRA."""
    for suffix, role in SUFFIXES.items():
        if key.endswith(suffix):
            return key.removesuffix(suffix), role
    if match := _PEFT.fullmatch(key):
        return match[1], _PEFT_PARTS[match[2]]
    if match := _PEFT_UP_BIAS.fullmatch(key):
        return match[1], TensorRole.UP_BIAS
    return None


def split_bias(key: str) -> tuple[str, TensorRole] | None:
    """Return the key of a bias, which PEFT writes with its option `bias`; None for other keys."""
    match = _PEFT_BIAS.fullmatch(key)
    return (match[1], TensorRole.NEW_BIAS) if match else None


def unsupported_adapter(key: str) -> str | None:
    """Return the kind of adapter of a key if it cannot be merged, otherwise None."""
    return next((kind for pattern, kind in _KINDS.items() if pattern.fullmatch(key)), None)


def is_adapter_key(key: str) -> bool:
    """Return True for a key of a LoRA or another kind of adapter."""
    known = split(key) is not None or BUNDLED.fullmatch(key) is not None
    return known or unsupported_adapter(key) is not None
