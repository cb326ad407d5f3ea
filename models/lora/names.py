"""Every spelling that LoRA files use for a layer and for the parts of its change, as data.

A key is a layer's name and a suffix: `lora_unet_mid_block_attentions_0_proj_in` and `.alpha`. Names
in which dots became underscores cannot be split again, so nothing is guessed from them: all the
names that a model's own layers can go by are written down, and a key means what stands there.

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


class Part(Enum):
    """Of a layer's change."""

    DOWN = auto()  # (r, in) or (r, in, kh, kw)
    UP = auto()  # (out, r) or (out, r, 1, 1)
    MID = auto()  # (r, r, kh, kw), between the two: LyCORIS' "use_cp" for convolutions
    ALPHA = auto()  # a number; the change is scaled by alpha / r


SUFFIXES = {
    ".lora_down.weight": Part.DOWN,
    ".lora_up.weight": Part.UP,
    ".lora_mid.weight": Part.MID,
    ".alpha": Part.ALPHA,
    ".lora.down.weight": Part.DOWN,
    ".lora.up.weight": Part.UP,
    ".lora_linear_layer.down.weight": Part.DOWN,
    ".lora_linear_layer.up.weight": Part.UP,
    "_lora.down.weight": Part.DOWN,
    "_lora.up.weight": Part.UP,
    ".lora_A.weight": Part.DOWN,
    ".lora_B.weight": Part.UP,
    ".lora_A.default.weight": Part.DOWN,
    ".lora_B.default.weight": Part.UP,
}

# What other kinds of adapter call their parts. None of them is `scale · up @ down`.
OTHER_KINDS = {
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

# The projections of attention as diffusers' older files call them, by our layers' last names.
_PROCESSORS = {"to_q": "to_q", "to_k": "to_k", "to_v": "to_v", "to_out.0": "to_out"}
_TEXT_PROCESSORS = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


def split(key: str) -> tuple[str, Part] | None:
    """A file's key as the name of a layer and a part; None if it is no part of a LoRA."""
    for suffix, part in SUFFIXES.items():
        if key.endswith(suffix):
            return key[: -len(suffix)], part
    return None


def other_kind(key: str) -> str | None:
    """What kind of adapter the key belongs to, if it is one that we know and cannot merge."""
    for pattern, kind in OTHER_KINDS.items():
        if re.search(rf"({pattern})$", key):
            return kind
    return None


def spellings(component: str, path: str, original: str | None) -> Iterator[str]:
    """Every name that a file may have for the layer at `path` of `component`.

    `original`: its name in the original code, for layers of a UNet.
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
    """transformers 5 leaves `text_model.` out of what it writes for LoRA."""
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
