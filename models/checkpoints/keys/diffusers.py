"""Our own spelling, today's diffusers layout, and the older ones of the same layout."""

from __future__ import annotations

import re
from collections.abc import Collection

from models.checkpoints.parts import Part, Plan

# Before diffusers 0.15 attention over pixels named its four linear maps so.
_LEGACY_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_LEGACY_ATTENTION_KEY = re.compile(r"(.*\.attentions\.\d+)\.(query|key|value|proj_attn)\.(.*)")

# A buffer that old text encoders stored beside their weights: just 0, 1, 2, …; and the head that
# the BERT of the paper's models was made with and never asked.
_NOT_WEIGHTS = ("position_ids", "to_logits.weight", "to_logits.bias")

# transformers 5 holds CLIP's text encoder without this prefix; files have it.
_TEXT_MODEL = "text_model."
_TEXT_MODULES = ("embeddings.", "encoder.layers.", "final_layer_norm.")

# And the safety checker's vision encoder with one of these, where files have two.
_VISION_MODEL = re.compile(r"vision_model\.(?:embeddings|encoder|pre_layrnorm|post_layernorm)\..*")


def diffusers_plan(keys: Collection[str]) -> Plan:
    """Where parameters come from in a component's file of the diffusers layout."""
    bare = "embeddings.token_embedding.weight" in keys
    plan: Plan = {}
    for key in keys:
        if not key.endswith(_NOT_WEIGHTS):
            name = _TEXT_MODEL + key if bare and key.startswith(_TEXT_MODULES) else key
            plan[_today(name)] = Part(key)
    return plan


def _today(name: str) -> str:
    if match := _LEGACY_ATTENTION_KEY.fullmatch(name):
        path, old, rest = match.groups()
        return f"{path}.{_LEGACY_ATTENTION[old]}.{rest}"
    if _VISION_MODEL.fullmatch(name):
        return f"vision_model.{name}"
    return name
