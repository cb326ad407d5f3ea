"""The paper's other conditioning networks: a class embedding, and a rescaler of label maps."""

from __future__ import annotations

from collections.abc import Collection

from models.checkpoints.key_plan import KeyPlan
from models.checkpoints.keys.rules import Rule, apply

_SAME = [
    Rule(r"embedding\.weight", "embedding.weight"),
    Rule(r"(channel_mapper\.(?:weight|bias))", r"\1"),
]


def conditioning_plan(keys: Collection[str]) -> KeyPlan:
    """Return the plan of a class embedder or rescaler; keys are those after `cond_stage_model.`."""
    return apply(_SAME, keys)
