"""The diffusers layout: our own names, and the older names of the same layout."""

from __future__ import annotations

import re
from collections.abc import Collection

from models.checkpoints.key_plan import KeyPlan, KeySource

# The names of the four projections of attention over pixels before diffusers 0.15.
_LEGACY_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_LEGACY_ATTENTION_KEY = re.compile(r"(.*\.attentions\.\d+)\.(query|key|value|proj_attn)\.(.*)")

# A buffer of old text encoders: 0, 1, 2, …; and the unused output head of the BERT in the paper's
# models.
_NOT_WEIGHTS = ("position_ids", "to_logits.weight", "to_logits.bias")

# The prefix of CLIP's text encoder in files, which transformers 5 leaves out in memory.
_TEXT_MODEL = "text_model."
_TEXT_MODULES = ("embeddings.", "encoder.layers.", "final_layer_norm.")

# Of the safety checker's vision encoder transformers 5 has one such prefix where files have two.
_VISION_MODEL = re.compile(r"vision_model\.(?:embeddings|encoder|pre_layrnorm|post_layernorm)\..*")


def diffusers_plan(keys: Collection[str]) -> KeyPlan:
    """Return the plan of a component's file in the diffusers layout."""
    bare = "embeddings.token_embedding.weight" in keys
    plan: KeyPlan = {}
    for key in keys:
        if not key.endswith(_NOT_WEIGHTS):
            name = _TEXT_MODEL + key if bare and key.startswith(_TEXT_MODULES) else key
            plan[_current_name(name)] = KeySource(key)
    return plan


def _current_name(name: str) -> str:
    if match := _LEGACY_ATTENTION_KEY.fullmatch(name):
        path, old, rest = match.groups()
        return f"{path}.{_LEGACY_ATTENTION[old]}.{rest}"
    if _VISION_MODEL.fullmatch(name):
        return f"vision_model.{name}"
    return name
