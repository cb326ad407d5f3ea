"""Detection of the contents of a weight file from its keys and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from models.checkpoints.detect.configs import Config, component_config, first_stage_config
from models.checkpoints.detect.families import UNET, Family, detect_family, network_prefix
from models.checkpoints.detect.kinds import Kind, detect_kind
from models.checkpoints.detect.original_plans import (
    COMPONENT_PLANS,
    FIRST_STAGE,
    UNUSED_IN_FIRST_STAGE,
    averaged_plan,
    first_stage_plan,
    last_step_plan,
    unused_in_model,
)
from models.checkpoints.detect.upscalers import upscaler_config
from models.checkpoints.errors import CheckpointError
from models.checkpoints.key_plan import KeyPlan, Shape, below, prefixed, shapes_of
from models.checkpoints.keys.diffusers import diffusers_plan
from models.checkpoints.keys.unet import unet_plan
from models.checkpoints.keys.upscaler import upscaler_network, upscaler_plan

# A module of the first stage in the original names that has another name in ours.
_ORIGINAL_FIRST_STAGE = "decoder.norm_out.weight"
_FIRST_STAGES = ("vae", "vqvae")
_ONLY = ""  # the name of the one network in a file that is not a whole model


def detect_file(shapes: Mapping[str, Shape]) -> DetectedFile:
    """Return the record of a file with these tensors.

    Repeated calls for the same file return the same record: the components of a single file are
    loaded one by one.
    """
    return _detect_file(tuple(shapes.items()))


@lru_cache(maxsize=1)
def _detect_file(entries: tuple[tuple[str, Shape], ...]) -> DetectedFile:
    return DetectedFile(dict(entries))


@dataclass(frozen=True)
class DetectedFile:
    """The contents of one file, or of the shards of one component.

    shapes: of the file's tensors, by key. Every other fact is derived from them once, on its first
    use: a component's file in a model folder has a plan, but no kind and often no family. ema: see
    `chosen`.
    """

    shapes: Mapping[str, Shape]
    ema: bool | None = None

    def chosen(self, ema: bool | None) -> DetectedFile:
        """Return the record with the averaged weights of the UNet, or those of the last step.

        ema: True, False, or None for the averaged ones where the file holds them. In the layout of
        diffusers a file holds one set, which is taken for the averaged one.

        Raises CheckpointError for a file that does not hold what is chosen.
        """
        if ema is None or (ema and network_prefix(self.shapes) != UNET):
            return self
        if not self._has_averages:
            raise CheckpointError(
                f"ema is {str(ema).lower()}, and the file holds one set of weights, not both of "
                "model.diffusion_model.* and model_ema.*"
            )
        return replace(self, ema=ema)

    @cached_property
    def kind(self) -> Kind:
        """The kind of a file on its own. Raises CheckpointError."""
        return detect_kind(self.shapes)

    @cached_property
    def family(self) -> Family:
        """The family of its UNet or ControlNet. Raises UnknownFamily."""
        return detect_family(self.shapes)

    @cached_property
    def plans(self) -> Mapping[str, KeyPlan]:
        """The key plan of each component of a whole model; of any other file one, named "".

        Raises UnknownFamily.
        """
        network, first_stage = network_prefix(self.shapes), self._first_stage_prefix
        if network == UNET:
            names = self.family.components
            plans = {name: COMPONENT_PLANS[name](self.shapes, self.family) for name in names}
            if self.ema is False:
                plans["unet"] = last_step_plan(self.shapes, self.family)
            return plans
        if network is not None:
            plan = prefixed(unet_plan(below(network, self.shapes), self.family.heads), network)
        elif first_stage is not None:
            plan = first_stage_plan(self.shapes, first_stage)
        elif upscaler_network(self.shapes):
            plan = upscaler_plan(self.shapes)
        else:
            plan = diffusers_plan(self.shapes)
        return {_ONLY: plan}

    @property
    def _has_averages(self) -> bool:
        if network_prefix(self.shapes) != UNET:
            return False
        last_step = last_step_plan(self.shapes, self.family)
        return averaged_plan(last_step, self.shapes) is not None

    @property
    def held(self) -> Mapping[str, KeyPlan]:
        """The plans of the components that the file holds; some files lack a first stage."""
        return {name: plan for name, plan in self.plans.items() if plan}

    @cached_property
    def unknown(self) -> tuple[str, ...]:
        """The keys in the original names, in order, that belong to no network.

        Of a ControlNet that was saved with a model, the model's keys are not looked at.
        """
        network = network_prefix(self.shapes)
        used = {source.key for plan in self.plans.values() for source in plan.values()}
        left = sorted(key for key in self.shapes if key not in used)
        if network == UNET:
            unused = unused_in_model(self.shapes, used)
            return tuple(key for key in left if not unused(key))
        if network is not None:
            return tuple(key for key in left if key.startswith(network))
        if self._first_stage_prefix is not None:
            return tuple(key for key in left if not UNUSED_IN_FIRST_STAGE.fullmatch(key))
        return ()

    def plan(self, component: str) -> KeyPlan:
        """Return the plan of `component` (unet, vae, …), which selects one of several in a model.

        Unknown keys are in it under their own names, so that a comparison with the network reports
        them as unexpected.

        Raises UnknownFamily, and CheckpointError for a model without such a component.
        """
        return self._plan(component) | diffusers_plan(self.unknown)

    def parameters(self, component: str) -> dict[str, Shape]:
        """Return the shape of each parameter of `plan`. Raises likewise."""
        return shapes_of(self.plan(component), self.shapes)

    def config(self, component: str, scaling_factor: float | None = None) -> Config:
        """Return the config.json of `component`. Raises like `plan`.

        scaling_factor: of a whole model's latents. A first stage on its own has none: it takes that
        of the model it is used in.
        """
        shapes = shapes_of(self._plan(component), self.shapes)
        if network := upscaler_network(self.shapes):
            return upscaler_config(network, shapes)
        if component == "vae" and scaling_factor is None:
            return first_stage_config(shapes)
        return component_config(component, shapes, self.family, scaling_factor)

    def _plan(self, component: str) -> KeyPlan:
        # The first stage of the paper's models has another name than that of later ones.
        names = _FIRST_STAGES if component in _FIRST_STAGES else (component,)
        for name in (_ONLY, *names):
            if name in self.plans:
                return self.plans[name]
        family = self.family
        raise CheckpointError(
            f"{family.title} has no {component}; it has {', '.join(family.components)}"
        )

    @cached_property
    def _first_stage_prefix(self) -> str | None:
        """The prefix of a first stage in the original names; None for other names."""
        first_stages = ("", FIRST_STAGE)
        return next((p for p in first_stages if p + _ORIGINAL_FIRST_STAGE in self.shapes), None)
