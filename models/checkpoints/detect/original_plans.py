"""Key plans of the components of a single file in the original layout.

    model.diffusion_model.*              unet (or model_ema.*, the averaged weights, where complete)
    first_stage_model.*                  vae, or vqvae for the paper's models
    cond_stage_model.transformer.*       text_encoder (CLIP) or bert (the paper's)
    cond_stage_model.model.*             text_encoder (open_clip's, without its last layer: SD 2)
    conditioner.embedders.{0,1}.*        text_encoder, text_encoder_2 (SDXL)
    cond_stage_model.{embedding,channel_mapper}.*    class_embedder, rescaler

Buffers that follow from the schedule, counters and second copies are unused by name. Any other key
that belongs to no component is reported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from models.checkpoints.detect.edm_marks import SIGMA_MAX, SIGMA_MIN
from models.checkpoints.detect.families import UNET, Family
from models.checkpoints.key_plan import KeyPlan, KeySource, Shape, below, prefixed
from models.checkpoints.keys.autoencoder import autoencoder_plan
from models.checkpoints.keys.conditioning import conditioning_plan
from models.checkpoints.keys.text import (
    bert_plan,
    clip_plan,
    open_clip_plan,
    penultimate_plan,
    unread_layer,
)
from models.checkpoints.keys.unet import unet_plan

SCALE_FACTOR = "scale_factor"
# Tensors of one number that are no weights.
NUMBERS = (SCALE_FACTOR, SIGMA_MAX, SIGMA_MIN)
FIRST_STAGE = "first_stage_model."
_COND = "cond_stage_model."
_OPEN_CLIP = f"{_COND}model."
_EMA = "model_ema."

# Not weights, or weights that no network uses.
_UNUSED = re.compile(
    r"(?:betas|(?:sqrt_|log_|one_minus_|recip_|recipm1_)*alphas_cumprod(?:_prev)?"
    r"|posterior_\w+|logvar|lvlb_weights|denoiser\.sigmas|scale_factor|v_pred|ztsnr"
    r"|edm_mean|edm_std|edm_vpred\.sigma_(?:max|min)"
    r"|model_ema\..*"
    r"|(?:depth_model|low_scale_model)\..*"
    r"|.*\.position_ids"
    r"|.*\.logit_scale|cond_stage_model\.transformer\.to_logits\.\w+"
    r"|(?:cond_stage_model|conditioner\.embedders\.0)\.transformer\.text_projection\.weight"
    r"|(?:first_stage_model\.|cond_stage_model\.)?loss\..*"
    r"|cond_stage_model\.(?:encoder|decoder|quant_conv|post_quant_conv|quantize)\..*"
    r")"
)
# Unused in the file of a first stage: its training loss, the counters of averaged weights, and
# layers of the asymmetric autoencoder that diffusers leaves out, too.
UNUSED_IN_FIRST_STAGE = re.compile(
    r"(?:first_stage_model\.)?loss\..*|model_ema\.(?:decay|num_updates)|decoder\.up_layers\..*"
)

_Plans = Callable[[Mapping[str, Shape], Family], KeyPlan]


def first_stage_plan(shapes: Mapping[str, Shape], prefix: str = FIRST_STAGE) -> KeyPlan:
    """Return the key plan of the first stage whose keys begin with `prefix`."""
    return prefixed(autoencoder_plan(below(prefix, shapes)), prefix)


def unused_in_model(keys: Collection[str], used: Collection[str]) -> Callable[[str], object]:
    """Return the test for keys of a whole model that no network needs; `used` are those in plans.

    The weights of the last training step are unused where their averages are used, and so are the
    last layer and the projection of Stable Diffusion 2's text encoder.
    """
    unused = [f"{_OPEN_CLIP}text_projection"]
    if any(key.startswith(_EMA) for key in used):
        unused.append(UNET)
    if any(key.startswith(_OPEN_CLIP) for key in used):
        unused.append(_OPEN_CLIP + unread_layer(below(_OPEN_CLIP, dict.fromkeys(keys, ()))))
    prefixes = tuple(unused)
    return lambda key: _UNUSED.fullmatch(key) or key.startswith(prefixes)


def last_step_plan(shapes: Mapping[str, Shape], family: Family) -> KeyPlan:
    """Return the key plan of the UNet's weights of the last training step."""
    return prefixed(unet_plan(below(UNET, shapes), family.heads), UNET)


def averaged_plan(last_step: KeyPlan, shapes: Mapping[str, Shape]) -> KeyPlan | None:
    """Return the key plan of the UNet's averaged weights; None for a file without all of them."""
    averaged = {name: KeySource(_averaged(part.key), part.cut) for name, part in last_step.items()}
    return averaged if all(part.key in shapes for part in averaged.values()) else None


def _unet(shapes: Mapping[str, Shape], family: Family) -> KeyPlan:
    plan = last_step_plan(shapes, family)
    return averaged_plan(plan, shapes) or plan


def _averaged(key: str) -> str:
    """Return the key of the exponential moving average of a key: dots are left out there."""
    return _EMA + key.removeprefix("model.").replace(".", "")


def _first_of(*choices: tuple[str, Callable[[Collection[str]], KeyPlan]]) -> _Plans:
    """Return the plan of the first prefix below which the file has used keys."""

    def make(shapes: Mapping[str, Shape], family: Family) -> KeyPlan:
        for prefix, plan in choices:
            keys = [key for key in below(prefix, shapes) if not _UNUSED.fullmatch(prefix + key)]
            if keys:
                return prefixed(plan(keys), prefix)
        return {}

    return make


# The key plan of each component, given the file's shapes and family. They raise UnknownFamily.
COMPONENT_PLANS: Mapping[str, _Plans] = {
    "unet": _unet,
    "vae": lambda shapes, _: first_stage_plan(shapes),
    "vqvae": lambda shapes, _: first_stage_plan(shapes),
    "text_encoder": _first_of(
        ("cond_stage_model.transformer.", clip_plan),
        ("conditioner.embedders.0.transformer.", clip_plan),
        (_OPEN_CLIP, penultimate_plan),
    ),
    "text_encoder_2": _first_of(
        ("conditioner.embedders.1.model.", open_clip_plan),
        ("conditioner.embedders.0.model.", open_clip_plan),
    ),
    "bert": _first_of((_COND, bert_plan)),
    "class_embedder": _first_of((_COND, conditioning_plan)),
    "rescaler": _first_of((_COND, conditioning_plan)),
}
