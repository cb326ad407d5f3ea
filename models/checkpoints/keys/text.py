"""Text encoders: CLIP by the names of transformers and open_clip, and the paper's BERT."""

from __future__ import annotations

import re
from collections.abc import Collection

from models.checkpoints.key_plan import KeyPlan, third, transposed
from models.checkpoints.keys.rules import Rule, apply

# transformers. Old files and version 5 in memory leave out `text_model`.
_CLIP = [
    Rule(r"(?:text_model\.)?((?:embeddings|encoder|final_layer_norm)\..*)", r"text_model.\1"),
    Rule(r"text_projection\.weight", "text_projection.weight"),
]

_LAYER = r"transformer\.resblocks\.(\d+)"
_OUR_LAYER = r"text_model.encoder.layers.\1"

# open_clip, as in SDXL's second text encoder. Its projection is applied as x·P, ours as x·Pᵀ.
_OPEN_CLIP = [
    Rule(r"positional_embedding", "text_model.embeddings.position_embedding.weight"),
    Rule(r"token_embedding\.weight", "text_model.embeddings.token_embedding.weight"),
    Rule(r"ln_final\.(.*)", r"text_model.final_layer_norm.\1"),
    Rule(r"text_projection", "text_projection.weight", transposed),
    Rule(r"text_projection\.weight", "text_projection.weight"),
    Rule(rf"{_LAYER}\.ln_1\.(.*)", rf"{_OUR_LAYER}.layer_norm1.\2"),
    Rule(rf"{_LAYER}\.ln_2\.(.*)", rf"{_OUR_LAYER}.layer_norm2.\2"),
    Rule(rf"{_LAYER}\.mlp\.c_fc\.(.*)", rf"{_OUR_LAYER}.mlp.fc1.\2"),
    Rule(rf"{_LAYER}\.mlp\.c_proj\.(.*)", rf"{_OUR_LAYER}.mlp.fc2.\2"),
    Rule(rf"{_LAYER}\.attn\.out_proj\.(.*)", rf"{_OUR_LAYER}.self_attn.out_proj.\2"),
    *(
        Rule(
            rf"{_LAYER}\.attn\.in_proj_(weight|bias)",
            rf"{_OUR_LAYER}.self_attn.{name}_proj.\2",
            third(i),
        )
        for i, name in enumerate("qkv")
    ),
]

# BERTEmbedder of the paper (x_transformer.py there): layers alternate attention and feed-forward,
# each a pair of norm and layer. Our names are those of diffusers' LDMBertModel.
_BERT = [
    Rule(r"transformer\.token_emb\.weight", "model.embed_tokens.weight"),
    Rule(r"transformer\.pos_emb\.emb\.weight", "model.embed_positions.weight"),
    Rule(r"transformer\.norm\.(.*)", r"model.layer_norm.\1"),
]
_BERT_ATTENTION = {
    "0": "self_attn_layer_norm",
    "1.to_q": "self_attn.q_proj",
    "1.to_k": "self_attn.k_proj",
    "1.to_v": "self_attn.v_proj",
    "1.to_out": "self_attn.out_proj",
}
_BERT_FEED_FORWARD = {"0": "final_layer_norm", "1.net.0.0": "fc1", "1.net.2": "fc2"}


def clip_plan(keys: Collection[str]) -> KeyPlan:
    """Return the plan of a CLIP text encoder by transformers' names."""
    return apply(_CLIP, keys)


def open_clip_plan(keys: Collection[str]) -> KeyPlan:
    """Return the plan of a CLIP text encoder by open_clip's names."""
    return apply(_OPEN_CLIP, keys)


def penultimate_plan(keys: Collection[str]) -> KeyPlan:
    """Return the plan of open_clip's encoder without its last layer and its projection.

    Stable Diffusion 2 reads the last layer but one (FrozenOpenCLIPEmbedder, layer "penultimate").
    """
    unread = unread_layer(keys)
    read = [key for key in keys if key != "text_projection" and not key.startswith(unread)]
    return apply(_OPEN_CLIP, read)


def unread_layer(keys: Collection[str]) -> str:
    """Return the prefix of the last layer of open_clip's encoder."""
    key_of_layer = re.compile(r"transformer\.resblocks\.([0-9]{1,3})\..*")
    numbers = [int(match[1]) for key in keys if (match := key_of_layer.fullmatch(key))]
    return f"transformer.resblocks.{max(numbers, default=0)}."


def bert_plan(keys: Collection[str]) -> KeyPlan:
    """Return the plan of the paper's text encoder; keys are those after `cond_stage_model.`."""
    return apply([*_BERT, *_bert_layers(keys)], keys)


def _bert_layers(keys: Collection[str]) -> list[Rule]:
    key_of_layer = re.compile(r"transformer\.attn_layers\.layers\.([0-9]{1,3})\..*")
    numbers = {int(match[1]) for key in keys if (match := key_of_layer.fullmatch(key))}
    rules = []
    for number in sorted(numbers):
        layer, is_feed_forward = divmod(number, 2)
        table = _BERT_FEED_FORWARD if is_feed_forward else _BERT_ATTENTION
        for old, new in table.items():
            pattern = rf"transformer\.attn_layers\.layers\.{number}\.{old}\.(weight|bias)"
            rules.append(Rule(pattern, rf"model.layers.{layer}.{new}.\1"))
    return rules
