"""The first stages of CompVis/latent-diffusion and taming-transformers (model.py there).

In their files the decoder's levels are counted from the finest, and attention uses convolutions.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from models.checkpoints.key_plan import KeyPlan, as_matrix
from models.checkpoints.keys.rules import Rule, apply

_SAME = r"(?:en|de)coder\.conv_(?:in|out)\..*|(?:post_)?quant_conv\..*|quantize\.embedding\.weight"
_RESNET = r"(?P<rest>(?:norm1|norm2|conv1|conv2)\..*)"
_SHORTCUT = r"nin_shortcut(?P<rest>\..*)"
_MAPS = {"q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


def autoencoder_plan(keys: Collection[str]) -> KeyPlan:
    """Return the plan of our first stage of any class; keys are without prefix."""
    ups = [int(m[1]) for key in keys if (m := re.match(r"decoder\.up\.([0-9])\.", key))]
    return apply(_rules(max(ups, default=0)), keys)


def _rules(coarsest: int) -> list[Rule]:
    levels = [(rf"encoder\.down\.{i}", f"encoder.down_blocks.{i}") for i in range(coarsest + 1)]
    levels += [
        (rf"decoder\.up\.{coarsest - i}", f"decoder.up_blocks.{i}") for i in range(coarsest + 1)
    ]
    rules = [
        Rule(rf"(?P<rest>{_SAME})", r"\g<rest>"),
        Rule(r"(encoder|decoder)\.norm_out\.(.*)", r"\1.conv_norm_out.\2"),
        Rule(r"decoder\.encoder\.(layers\..*)", r"decoder.condition_encoder.\1"),
    ]
    for old, new in levels:
        rules += _resnet(rf"{old}\.block\.(\d+)", rf"{new}.resnets.\1")
        rules += _attention(rf"{old}\.attn\.(\d+)", rf"{new}.attentions.\1")
        rules.append(Rule(rf"{old}\.downsample\.(conv\..*)", rf"{new}.downsamplers.0.\1"))
        rules.append(Rule(rf"{old}\.upsample\.(conv\..*)", rf"{new}.upsamplers.0.\1"))
    for place in (1, 2):
        old, new = rf"(encoder|decoder)\.mid\.block_{place}", rf"\1.mid_block.resnets.{place - 1}"
        rules += _resnet(old, new)
    rules += _attention(r"(encoder|decoder)\.mid\.attn_1", r"\1.mid_block.attentions.0")
    return rules


def _resnet(old: str, new: str) -> list[Rule]:
    return [
        Rule(rf"{old}\.{_RESNET}", rf"{new}.\g<rest>"),
        Rule(rf"{old}\.{_SHORTCUT}", rf"{new}.conv_shortcut\g<rest>"),
    ]


def _attention(old: str, new: str) -> list[Rule]:
    rules = [Rule(rf"{old}\.norm\.(?P<rest>.*)", rf"{new}.group_norm.\g<rest>")]
    for theirs, ours in _MAPS.items():
        rules.append(Rule(rf"{old}\.{theirs}\.weight", rf"{new}.{ours}.weight", as_matrix))
        rules.append(Rule(rf"{old}\.{theirs}\.bias", rf"{new}.{ours}.bias"))
    return rules
