"""The layers of a model that a LoRA may change, by every name in files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from models.checkpoints.key_plan import Shape
from models.lora.names import UNET, spellings
from models.lora.original_names import original_name
from models.networks.config import UNetConfig

Layer = tuple[str, str]  # component and module path, by the names of our networks


@dataclass(frozen=True)
class Layers:
    """The layers of a model.

    shapes: of their weights. named: layers by their names in files; None for a name of two layers.
    """

    shapes: Mapping[Layer, Shape]
    named: Mapping[str, Layer | None]

    @cached_property
    def digest(self) -> int:
        """A hash of names and shapes: a LoRA fits all models with equal digests, or none."""
        return hash(frozenset(self.shapes.items()))

    @classmethod
    def of(cls, networks: Mapping[str, nn.Module], unet: UNetConfig) -> Layers:
        """Return the layers of `networks`, by component (see `names`); the meta device suffices."""
        shapes: dict[Layer, Shape] = {}
        named: dict[str, Layer | None] = {}
        for component, network in networks.items():
            for path, module in network.named_modules():
                if not isinstance(module, nn.Linear | nn.Conv2d):
                    continue
                layer = component, path
                shapes[layer] = tuple(module.weight.shape)
                original = original_name(path, unet) if component == UNET else None
                for name in set(spellings(component, path, original)):
                    named[name] = None if name in named else layer
        return cls(shapes, named)
