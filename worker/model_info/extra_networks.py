"""Lists the extra networks that fit each model, and publishes its card when the list changes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from redis import Redis

from models.loading.controlnets import ControlNets
from models.lora.merging import layers_of
from models.lora.registry import LoraRegistry
from protocol.registry.model_registry import ModelRegistry
from protocol.request.model_card import ModelCard
from worker.model_info.model_description import ModelDescription

logger = logging.getLogger(__name__)

CHECK_EVERY_S = 5.0  # how often the folders are read

# Folders of the model store, and fields of a card.
LORAS = "loras"
CONTROLNETS = "controlnets"


class CardPublisher:
    """The cards of a worker's models as last published, with the extra networks in `models_home`.

    `refresh` is to be called every `CHECK_EVERY_S`.
    """

    def __init__(self, redis: Redis, models: Sequence[ModelDescription], models_home: Path) -> None:
        self._registry = ModelRegistry(redis)
        self._models = models
        self._loras = LoraRegistry(models_home / LORAS)
        self._controlnets = ControlNets(models_home / CONTROLNETS)
        self._layers = [layers_of(model.skeleton) for model in models]
        self._published = self._current_cards()

    def cards(self) -> list[tuple[ModelCard, str]]:
        """Return the cards as last published, each with the tokenizer of its model as JSON."""
        tokenizers = (model.tokenizer_json for model in self._models)
        return list(zip(self._published, tokenizers, strict=True))

    def refresh(self) -> None:
        """Publish the cards that have changed. Raises QueueUnavailable."""
        for i, card in enumerate(self._current_cards()):
            if card != self._published[i]:
                self._registry.publish(card, self._models[i].tokenizer_json)
                self._published[i] = card
                logger.info("extra networks have changed", extra={"model": card.name})

    def _current_cards(self) -> list[ModelCard]:
        return [
            model.card.model_copy(
                update={
                    LORAS: self._loras.fitting(layers),
                    CONTROLNETS: self._controlnets.fitting(model.skeleton),
                }
            )
            for model, layers in zip(self._models, self._layers, strict=True)
        ]
