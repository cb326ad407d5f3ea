"""The paper's other conditioning networks: a class's embedding, and a rescaler of label maps."""

from __future__ import annotations

from collections.abc import Collection

from models.checkpoints.keys.rules import Rule, apply
from models.checkpoints.parts import Plan

_SAME = [
    Rule(r"embedding\.weight", "embedding.weight"),
    Rule(r"(channel_mapper\.(?:weight|bias))", r"\1"),
]


def conditioning_plan(keys: Collection[str]) -> Plan:
    """Where their parameters come from; keys after `cond_stage_model.`."""
    return apply(_SAME, keys)
