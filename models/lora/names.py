"""The names of layers and of their tensors in LoRA files, as data.

A key is a layer's name and a suffix: `lora_unet_mid_block_attentions_0_proj_in` and `.alpha`. A
name whose dots became underscores cannot be split again. Therefore all possible names of a model's
layers are listed, and a key is looked up in the list.

    kohya      lora_unet_…, lora_te_… (lora_te1_…, lora_te2_…), with underscores; for SDXL also with
               the names of the original code (sd-scripts, networks/lora.py; LyCORIS)
    ComfyUI    diffusion_model.…, the original names with dots
    diffusers  unet.…, text_encoder.…, text_encoder_2.…; before 0.23 with `.processor.to_q_lora`
    PEFT       base_model.model.…, of one network, whichever has such a layer
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, auto


class TensorRole(Enum):
    """The role of a tensor in the change of a layer."""

    DOWN = auto()  # (r, in) or (r, in, kh, kw)
    UP = auto()  # (out, r) or (out, r, 1, 1)
    MID = auto()  # (r, r, kh, kw), between the two: "use_cp" of LyCORIS for convolutions
    ALPHA = auto()  # a number; the change is scaled by alpha / r


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
    ".lora_A.weight": TensorRole.DOWN,
    ".lora_B.weight": TensorRole.UP,
    ".lora_A.default.weight": TensorRole.DOWN,
    ".lora_B.default.weight": TensorRole.UP,
}

# Tensors of other kinds of adapter. None of them is `scale · up @ down`.
UNSUPPORTED_ADAPTERS = {
    r"\.dora_scale|\.lora_magnitude_vector(\.weight|\.default\.weight)?": "DoRA",
    r"\.hada_(w[12]_[ab]|t[12])": "LoHa",
    r"\.lokr_(w[12](_[ab])?|t2)": "LoKr",
    r"\.oft_(blocks|diag)|\.oft_R\.weight": "OFT",
    r"\.on_input|\.ia3_l": "IA3",
    r"\.[ab][12]\.weight": "GLoRA",
    r"\.diff(_b)?|\.[wb]_norm|\.set_weight": "a full difference of weights",
    r"\.lora_(up|down|A|B)\.bias": "a LoRA with biases",
    r"bundle_emb\..*": "textual inversion (add the embedding on its own)",
}

UNET, TEXT, TEXT_2 = "unet", "text_encoder", "text_encoder_2"
_UNDERSCORED = {UNET: ("lora_unet_",), TEXT: ("lora_te_", "lora_te1_"), TEXT_2: ("lora_te2_",)}

# The projections of attention in older files of diffusers, by the last part of our names.
_PROCESSORS = {"to_q": "to_q", "to_k": "to_k", "to_v": "to_v", "to_out.0": "to_out"}
_TEXT_PROCESSORS = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


def split(key: str) -> tuple[str, TensorRole] | None:
    """Return a key as the name of a layer and a role; None for a key of no LoRA."""
    for suffix, role in SUFFIXES.items():
        if key.endswith(suffix):
            return key[: -len(suffix)], role
    return None


def unsupported_adapter(key: str) -> str | None:
    """Return the kind of adapter of a key if it cannot be merged, otherwise None."""
    for pattern, kind in UNSUPPORTED_ADAPTERS.items():
        if re.search(rf"({pattern})$", key):
            return kind
    return None


def spellings(component: str, path: str, original: str | None) -> Iterator[str]:
    """Yield every name that a file may have for the layer at `path` of `component`.

    original: its name in the original code, for layers of a UNet.
    """
    for dotted in (path, *_without_text_model(path)):
        for prefix in (f"{component}.", "base_model.model."):
            yield prefix + dotted
        for prefix in _UNDERSCORED[component]:
            yield prefix + dotted.replace(".", "_")
    for processor in _processors(component, path):
        yield f"{component}.{processor}"
        yield processor
    if original is not None:
        yield "lora_unet_" + original.replace(".", "_")
        yield f"diffusion_model.{original}"


def _without_text_model(path: str) -> Iterator[str]:
    """Yield the name that transformers 5 writes, without `text_model.`."""
    if path.startswith("text_model."):
        yield path.removeprefix("text_model.")


def _processors(component: str, path: str) -> Iterator[str]:
    last = {UNET: _PROCESSORS}.get(component, _TEXT_PROCESSORS)
    for ours, theirs in last.items():
        if path.endswith(f".{ours}"):
            attention = path.removesuffix(f".{ours}")
            yield (
                f"{attention}.processor.{theirs}" if component == UNET else f"{attention}.{theirs}"
            )
