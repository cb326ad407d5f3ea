"""The UNet of openaimodel.py (CompVis/latent-diffusion, Stability-AI/generative-models).

There the blocks going down are one list, `input_blocks`, and those going up another, with the
changes of resolution in between; ours has a list for each level. ControlNet (Zhang et al. 2023) has
the same blocks going down, with a convolution at each output.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from models.checkpoints.errors import UnknownFamily
from models.checkpoints.key_plan import KeyPlan, as_matrix, head_third
from models.checkpoints.keys.rules import Rule, apply, renamed

Heads = Callable[[int], int]

_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb": "class_embedding",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
    "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.resnets.1",
    "zero_convs.{n}.0": "controlnet_down_blocks.{n}",
    "middle_block_out.0": "controlnet_mid_block",
    "input_hint_block.0": "controlnet_cond_embedding.conv_in",
    "input_hint_block.14": "controlnet_cond_embedding.conv_out",
    # Between the two are convolutions, each followed by an activation without parameters.
    **{f"input_hint_block.{2 * i + 2}": f"controlnet_cond_embedding.blocks.{i}" for i in range(6)},
}

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}

# The modules of a transformer have the same names in both, as has a convolution named `conv`.
_TRANSFORMER = {name: name for name in ("norm", "proj_in", "transformer_blocks", "proj_out")}
_PIXEL_ATTENTION = {"norm": "group_norm"}


@dataclass(frozen=True)
class _Blocks:
    """The numbering of the two lists of blocks: `per_level` resnets in each level going down."""

    levels: int
    per_level: int

    def down(self, block: int, child: int) -> str:
        level, index = divmod(block - 1, self.per_level + 1)
        if index == self.per_level:
            return f"down_blocks.{level}.downsamplers.0"
        return f"down_blocks.{level}.{'attentions' if child else 'resnets'}.{index}"

    def up(self, block: int, child: int, *, attends: bool) -> str:
        level, index = divmod(block, self.per_level + 1)
        if child == 0:
            return f"up_blocks.{level}.resnets.{index}"
        if child == 1 and attends:
            return f"up_blocks.{level}.attentions.{index}"
        return f"up_blocks.{level}.upsamplers.0"


def unet_plan(keys: Collection[str], heads: Heads) -> KeyPlan:
    """Return the plan of our UNet or ControlNet; keys are without their prefix.

    heads: gives the number of heads of attention over pixels for a number of channels. The order
    of its matrices' rows depends on it, and it is not in the keys.

    Raises UnknownFamily.
    """
    below = _by_module(keys)
    plan: KeyPlan = {}
    for old, new in _modules(frozenset(keys), below):
        own = below.get(old, [])
        plan |= apply(_module_rules(frozenset(own), old, new, heads), own)
    return plan


def _by_module(keys: Iterable[str]) -> Mapping[str, list[str]]:
    """Return the keys below each module of up to three names, as all modules of `_modules` have."""
    below: defaultdict[str, list[str]] = defaultdict(list)
    for key in keys:
        names = key.split(".", 3)
        for count in range(1, len(names)):
            below[".".join(names[:count])].append(key)
    return dict(below)


def _modules(keys: frozenset[str], below: Collection[str]) -> list[tuple[str, str]]:
    """Return the modules with parameters, their names there and ours."""
    blocks = _blocks(keys)
    ends = {old.format(n=n): new.format(n=n) for old, new in _ENDS.items() for n in range(64)}
    modules = [(old, new) for old, new in ends.items() if old in below]
    for kind, block, child in sorted(_children(keys)):
        old = f"{kind}_blocks.{block}.{child}"
        attends = f"{old}.norm.weight" in keys
        if kind == "output":
            modules.append((old, blocks.up(block, child, attends=attends)))
        elif block > 0 and child < 2:
            modules.append((old, blocks.down(block, child)))
    return modules


def _module_rules(keys: frozenset[str], old: str, new: str, heads: Heads) -> list[Rule]:
    """Return the rules for one module, by its type."""
    before, after = re.escape(old) + r"\.", new + "."
    if f"{old}.in_layers.0.weight" in keys:
        return renamed(_RESNET, before, after)
    if f"{old}.qkv.weight" in keys:
        return [*renamed(_PIXEL_ATTENTION, before, after), *_pixel_rules(before, after, heads)]
    if f"{old}.proj_in.weight" in keys:
        return renamed(_TRANSFORMER, before, after)
    if f"{old}.weight" in keys:
        return [Rule(rf"{before}(weight|bias)", rf"{after}\1")]
    # Changes of resolution: a strided convolution `op` going down, a `conv` going up.
    return [Rule(rf"{before}(?:op|conv)\.(weight|bias)", rf"{after}conv.\1")]


def _pixel_rules(before: str, after: str, heads: Heads) -> list[Rule]:
    """Return the rules for attention over pixels: 1-d convolutions there, matrices here."""
    return [
        *(
            Rule(rf"{before}qkv\.(weight|bias)", rf"{after}{name}.\1", head_third(i, heads))
            for i, name in enumerate(("to_q", "to_k", "to_v"))
        ),
        Rule(rf"{before}proj_out\.weight", rf"{after}to_out.0.weight", as_matrix),
        Rule(rf"{before}proj_out\.bias", rf"{after}to_out.0.bias"),
    ]


def _children(keys: frozenset[str]) -> set[tuple[str, int, int]]:
    """Return ("input" or "output", index of the block, index of the child) of each child."""
    pattern = re.compile(r"(input|output)_blocks\.([0-9]{1,3})\.([0-2])\..*")
    matches = (pattern.fullmatch(key) for key in keys)
    return {(m[1], int(m[2]), int(m[3])) for m in matches if m}


def _blocks(keys: frozenset[str]) -> _Blocks:
    """Return the number of levels and of resnets in each, from the changes of resolution.

    Raises UnknownFamily.
    """
    children = _children(keys)
    ups = {block for kind, block, child in children if kind == "output"}
    downs = {block for kind, block, child in children if kind == "input"}
    per_level = _first_change(keys, children)
    if per_level is None:
        per_level = max(len(downs) - 1, 0)
    levels, rest = divmod(len(downs), per_level + 1)
    if rest or downs != set(range(len(downs))) or (ups and len(ups) != len(downs)):
        raise UnknownFamily(
            f"{len(downs)} blocks down and {len(ups)} up, with {per_level} resnets to a level, "
            "are not the blocks of a latent diffusion UNet"
        )
    return _Blocks(levels, per_level)


def _first_change(keys: frozenset[str], children: set[tuple[str, int, int]]) -> int | None:
    """Return the number of resnets of a level; None if the resolution never changes.

    It is the index of the first block going up that ends in a convolution or a second resnet.
    ControlNet has no such blocks: there it is the index of the first strided convolution.
    """
    changes = {
        block
        for kind, block, child in children
        if kind == "output"
        and child > 0
        and {f"output_blocks.{block}.{child}.{name}.weight" for name in ("conv", "in_layers.0")}
        & keys
    }
    if changes:
        return min(changes)
    strides = {
        block - 1
        for kind, block, child in children
        if kind == "input" and f"input_blocks.{block}.{child}.op.weight" in keys
    }
    return min(strides, default=None)
