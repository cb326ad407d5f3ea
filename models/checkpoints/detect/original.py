"""A single file in the original spelling, taken apart into the components of our layout.

    model.diffusion_model.*              unet (or model_ema.*, the averaged weights, where complete)
    first_stage_model.*                  vae, or vqvae for the paper's models
    cond_stage_model.transformer.*       text_encoder (CLIP) or bert (the paper's)
    conditioner.embedders.{0,1}.*        text_encoder, text_encoder_2 (SDXL)
    cond_stage_model.{embedding,channel_mapper}.*    class_embedder, rescaler

Buffers that follow from the schedule, counters and second copies are left out by name; every
other key that feeds no component is reported, never dropped in silence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from models.checkpoints.detect.families import UNET, Family
from models.checkpoints.keys.autoencoder import autoencoder_plan
from models.checkpoints.keys.conditioning import conditioning_plan
from models.checkpoints.keys.text import bert_plan, clip_plan, open_clip_plan
from models.checkpoints.keys.unet import unet_plan
from models.checkpoints.parts import Part, Plan, Shape, below, prefixed

SCALE_FACTOR = "scale_factor"
# Keys that a fine-tuned model has if it predicts velocity, and if its schedule ends without signal.
MARKS = ("v_pred", "ztsnr")
FIRST_STAGE = "first_stage_model."
_COND = "cond_stage_model."
_EMA = "model_ema."

# Not weights, or weights that nothing reads.
_LEFT_OUT = re.compile(
    r"(?:betas|(?:sqrt_|log_|one_minus_|recip_|recipm1_)*alphas_cumprod(?:_prev)?"
    r"|posterior_\w+|logvar|lvlb_weights|denoiser\.sigmas|scale_factor|v_pred|ztsnr"
    r"|model_ema\..*"
    r"|.*\.position_ids"
    r"|.*\.logit_scale|cond_stage_model\.transformer\.to_logits\.\w+"
    r"|(?:cond_stage_model|conditioner\.embedders\.0)\.transformer\.text_projection\.weight"
    r"|(?:first_stage_model\.|cond_stage_model\.)?loss\..*"
    r"|cond_stage_model\.(?:encoder|decoder|quant_conv|post_quant_conv|quantize)\..*"
    r")"
)

_CLIP = {
    "text_encoder": (
        ("cond_stage_model.transformer.", clip_plan),
        ("conditioner.embedders.0.transformer.", clip_plan),
    ),
    "text_encoder_2": (
        ("conditioner.embedders.1.model.", open_clip_plan),
        ("conditioner.embedders.0.model.", open_clip_plan),
    ),
}


# Of a first stage's file: what it was trained with, and the counters of an average of its weights.
_OF_TRAINING = re.compile(r"(?:first_stage_model\.)?loss\..*|model_ema\.(?:decay|num_updates)")


@dataclass(frozen=True)
class Contents:
    """The components of a single file by the name of their folder, and the keys left over."""

    components: Mapping[str, Plan]
    unknown: tuple[str, ...]


def take_apart(shapes: Mapping[str, Shape], family: Family) -> Contents:
    """Where every component's parameters come from in a file with these tensors."""
    components = {part: _PLANS[part](shapes, family) for part in family.parts}
    used = {part.key for plan in components.values() for part in plan.values()}
    # Where the averaged weights are taken, those they average stand in the file unused.
    unused = UNET if any(key.startswith(_EMA) for key in used) else "\0"
    unknown = [
        key
        for key in shapes
        if key not in used and not _LEFT_OUT.fullmatch(key) and not key.startswith(unused)
    ]
    return Contents(components, tuple(sorted(unknown)))


def is_of_training(key: str) -> bool:
    """Whether a key of a first stage's file is no part of it, but of how it was trained."""
    return _OF_TRAINING.fullmatch(key) is not None


def _unet(shapes: Mapping[str, Shape], family: Family) -> Plan:
    plan = prefixed(unet_plan(below(UNET, shapes), family.heads), UNET)
    averaged = {name: Part(_averaged(part.key), part.cut) for name, part in plan.items()}
    return averaged if all(part.key in shapes for part in averaged.values()) else plan


def _averaged(key: str) -> str:
    """The key of the exponential moving average of `model.` + something: no dots after its own."""
    return _EMA + key.removeprefix("model.").replace(".", "")


def _first_stage(shapes: Mapping[str, Shape], family: Family) -> Plan:
    return prefixed(autoencoder_plan(below(FIRST_STAGE, shapes)), FIRST_STAGE)


def _conditioning(plan: Callable[[Collection[str]], Plan]) -> _PlanOfPart:
    def make(shapes: Mapping[str, Shape], family: Family) -> Plan:
        return prefixed(plan(below(_COND, shapes)), _COND)

    return make


def _clip(part: str) -> _PlanOfPart:
    def make(shapes: Mapping[str, Shape], family: Family) -> Plan:
        for prefix, plan in _CLIP[part]:
            keys = [key for key in below(prefix, shapes) if not _LEFT_OUT.fullmatch(prefix + key)]
            if keys:
                return prefixed(plan(keys), prefix)
        return {}

    return make


_PlanOfPart = Callable[[Mapping[str, Shape], Family], Plan]
_PLANS: dict[str, _PlanOfPart] = {
    "unet": _unet,
    "vae": _first_stage,
    "vqvae": _first_stage,
    "text_encoder": _clip("text_encoder"),
    "text_encoder_2": _clip("text_encoder_2"),
    "bert": _conditioning(bert_plan),
    "class_embedder": _conditioning(conditioning_plan),
    "rescaler": _conditioning(conditioning_plan),
}
