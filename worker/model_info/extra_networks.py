"""Lists the extra networks that fit each model on its card."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from models.loading.controlnets import ControlNets
from models.lora.merging import layers_of
from models.lora.registry import LoraRegistry
from protocol.registry.model_registry import PublishedModel
from protocol.request.model_card import ModelCard
from worker.model_info.model_description import ModelDescription

logger = logging.getLogger(__name__)

CHECK_EVERY_S = 5.0  # how often the folders are read

# Folders of the model store, and fields of a card.
LORAS = "loras"
CONTROLNETS = "controlnets"


class ModelCards:
    """The cards of a worker's models, with the extra networks in `models_home`.

    `refresh` is to be called every `CHECK_EVERY_S`.
    """

    def __init__(self, models: Sequence[ModelDescription], models_home: Path) -> None:
        self._models = models
        self._loras = LoraRegistry(models_home / LORAS)
        self._controlnets = ControlNets(models_home / CONTROLNETS)
        self._layers = [layers_of(model.skeleton) for model in models]
        self._cards = self._read_folders()

    def cards(self) -> list[PublishedModel]:
        """Return the cards as of the last `refresh`, each with the tokenizer of its model."""
        tokenizers = (model.tokenizer_json for model in self._models)
        return list(zip(self._cards, tokenizers, strict=True))

    def refresh(self) -> None:
        """Read the folders again."""
        before, self._cards = self._cards, self._read_folders()
        for old, card in zip(before, self._cards, strict=True):
            if card != old:
                logger.info("extra networks have changed", extra={"model": card.name})

    def _read_folders(self) -> list[ModelCard]:
        return [
            model.card.model_copy(
                update={
                    LORAS: self._loras.fitting(layers),
                    CONTROLNETS: self._controlnets.fitting(model.skeleton),
                }
            )
            for model, layers in zip(self._models, self._layers, strict=True)
        ]
