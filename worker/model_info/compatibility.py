"""Which of the things that an operator has added fit a model."""

from __future__ import annotations

from pathlib import Path

from models.loading.controlnets import ControlNets
from models.lora.merging import layers_of
from models.lora.registry import LoraRegistry
from models.pipeline import LatentDiffusion
from worker.model_info.extra_networks import Names

# The folders in the models' home, and the entries of a card.
LORAS = "loras"
CONTROLNETS = "controlnets"


def fitting(model: LatentDiffusion, home: Path) -> dict[str, Names]:
    """The entries of the model's card that change when something is added to `home`. Of the model
    no weights are needed."""
    shelf, layers = LoraRegistry(home / LORAS), layers_of(model)
    nets = ControlNets(home / CONTROLNETS)
    return {
        LORAS: lambda: shelf.fitting(layers),
        CONTROLNETS: lambda: nets.fitting(model),
    }
