"""Paddle's files (ppdiffusers, paddlenlp): matrices are transposed, CLIP has other names.

UNet and autoencoder keep diffusers' names. Matrices and embeddings both have two dimensions: only
their names differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from models.checkpoints.key_plan import Cut, KeyPlan, KeySource, Shape, transposed, whole
from models.checkpoints.keys.rules import Rule, apply

_LAYER = r"text_model\.transformer\.layers\.(\d+)\."
_OUR_LAYER = r"text_model.encoder.layers.\1."

_CLIP = [
    Rule(
        r"text_model\.token_embedding\.weight",
        "text_model.embeddings.token_embedding.weight",
    ),
    Rule(
        r"text_model\.positional_embedding\.weight",
        "text_model.embeddings.position_embedding.weight",
    ),
    Rule(r"text_model\.ln_final\.(.*)", r"text_model.final_layer_norm.\1"),
    Rule(r"text_projection", "text_projection.weight", transposed),
    Rule(_LAYER + r"norm1\.(.*)", _OUR_LAYER + r"layer_norm1.\2"),
    Rule(_LAYER + r"norm2\.(.*)", _OUR_LAYER + r"layer_norm2.\2"),
    Rule(_LAYER + r"linear1\.weight", _OUR_LAYER + "mlp.fc1.weight", transposed),
    Rule(_LAYER + r"linear1\.bias", _OUR_LAYER + "mlp.fc1.bias"),
    Rule(_LAYER + r"linear2\.weight", _OUR_LAYER + "mlp.fc2.weight", transposed),
    Rule(_LAYER + r"linear2\.bias", _OUR_LAYER + "mlp.fc2.bias"),
    Rule(_LAYER + r"(self_attn\..*\.weight)", _OUR_LAYER + r"\2", transposed),
    Rule(_LAYER + r"(self_attn\..*\.bias)", _OUR_LAYER + r"\2"),
]

_EMBEDDINGS = re.compile(r".*embedding\.weight|.*embed_tokens\.weight|.*embed_positions\.weight")


def paddle_plan(shapes: Mapping[str, Shape]) -> KeyPlan:
    """Return the plan of a `.pdparams` file of any component."""
    if any(key.startswith("text_model.transformer.") for key in shapes):
        return apply(_CLIP, shapes)
    return {key: KeySource(key, _cut(key, shape)) for key, shape in shapes.items()}


def _cut(key: str, shape: Shape) -> Cut:
    is_matrix = len(shape) == 2 and not _EMBEDDINGS.fullmatch(key)
    return transposed if is_matrix else whole
