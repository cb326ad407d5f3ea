"""What an operator has added for the models, told by their cards: anew whenever it changes.

Knows no torch: what fits a model is told by whoever offers it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from redis import Redis

from protocol.registry.model_registry import ModelRegistry
from protocol.request.model_card import ModelCard

logger = logging.getLogger(__name__)

LOOK_S = 5.0  # how often folders are looked through

Names = Callable[[], tuple[str, ...]]


@dataclass(frozen=True)
class Offer:
    """A model as it is offered. `added`: for entries of its card, the names that they are to have
    now."""

    card: ModelCard
    tokenizer_json: str
    added: Mapping[str, Names] = field(default_factory=dict)

    def now(self) -> ModelCard:
        """The card as it should be at this moment."""
        return self.card.model_copy(update={entry: names() for entry, names in self.added.items()})


class Additions:
    """`look` is to be called every `LOOK_S`."""

    def __init__(self, redis: Redis, offers: Sequence[Offer]) -> None:
        self._catalogue = ModelRegistry(redis)
        self._offers = offers
        self._told = {offer.card.name: offer.now() for offer in offers}

    def cards(self) -> list[tuple[ModelCard, str]]:
        """The cards as they were last told, each with the tokenizer of its model."""
        return [(self._told[offer.card.name], offer.tokenizer_json) for offer in self._offers]

    def look(self) -> None:
        """Publish the cards that are not as they should be. Raises QueueUnavailable."""
        for offer in self._offers:
            card = offer.now()
            if card != self._told[card.name]:
                self._catalogue.publish(card, offer.tokenizer_json)
                self._told[card.name] = card
                logger.info("what was added has changed", extra={"model": card.name})
