"""In which spelling a component's file is written, told by its keys."""

from __future__ import annotations

from collections.abc import Mapping

from models.checkpoints.detect.families import CONTROLNET, UNET, detect, family_of_controlnet
from models.checkpoints.detect.original import FIRST_STAGE, is_of_training, take_apart
from models.checkpoints.errors import CheckpointError
from models.checkpoints.keys.autoencoder import autoencoder_plan
from models.checkpoints.keys.diffusers import diffusers_plan
from models.checkpoints.keys.unet import unet_plan
from models.checkpoints.parts import Plan, Shape, below, prefixed

# The decoder's first and last modules in the original spelling, which ours has not.
_ORIGINAL_FIRST_STAGE = "encoder.norm_out.weight"
_FIRST_STAGES = ("vae", "vqvae")


def component_plan(part: str, shapes: Mapping[str, Shape]) -> Plan:
    """Where the parameters of the component `part` (unet, vae, …) come from in a file.

    Its name counts for a file that holds several.

    Keys that feed nothing are in the plan under their own names, so that whoever compares it with
    a network finds them unexpected.

    Raises UnknownFamily, and CheckpointError for a file without such a component.
    """
    if any(key.startswith(UNET) for key in shapes):
        return _of_single_file(part, shapes)
    if any(key.startswith(CONTROLNET) for key in shapes):
        heads = family_of_controlnet(shapes).heads
        return prefixed(unet_plan(below(CONTROLNET, shapes), heads), CONTROLNET)
    for prefix in ("", FIRST_STAGE):
        if prefix + _ORIGINAL_FIRST_STAGE in shapes:
            return _with_rest(_first_stage(prefix, shapes), shapes)
    return diffusers_plan(shapes)


def _first_stage(prefix: str, shapes: Mapping[str, Shape]) -> Plan:
    return prefixed(autoencoder_plan(below(prefix, shapes)), prefix)


def _with_rest(plan: Plan, shapes: Mapping[str, Shape]) -> Plan:
    used = {part.key for part in plan.values()}
    rest = [key for key in shapes if key not in used and not is_of_training(key)]
    return plan | diffusers_plan(rest)


def _of_single_file(part: str, shapes: Mapping[str, Shape]) -> Plan:
    family = detect(shapes)
    contents = take_apart(shapes, family)
    # What a first stage is called differs between the paper's models and all later ones.
    names = _FIRST_STAGES if part in _FIRST_STAGES else (part,)
    for name in names:
        if name in contents.components:
            return contents.components[name] | diffusers_plan(contents.unknown)
    raise CheckpointError(f"{family.title} has no {part}; it has {', '.join(family.parts)}")
