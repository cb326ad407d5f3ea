"""What can be asked for, as this process last read it from Redis: not for every request anew."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain

from starlette.concurrency import run_in_threadpool

from protocol.registry.model_registry import ModelRegistry
from protocol.registry.presence import Presence
from protocol.request.model_card import ModelCard, canonical_name

FRESH_S = 1.0


@dataclass(frozen=True)
class Offer:
    """The models there are, and the names of those that are being served."""

    cards: Mapping[str, ModelCard] = field(default_factory=dict)
    serving: tuple[str, ...] = ()


class ModelDirectory:
    """The offer, at most `FRESH_S` seconds old. Raises `QueueUnavailable` when Redis is away."""

    def __init__(self, catalogue: ModelRegistry, presence: Presence) -> None:
        self._catalogue = catalogue
        self._presence = presence
        self._offer = Offer()
        self._read_at = -FRESH_S
        self._reading = asyncio.Lock()

    async def now(self, model: str | None) -> Offer:
        """The offer; one read this moment, if `model` is none that was there before."""
        asked_at = time.monotonic()
        if not self._is_fresh(asked_at) or not self._has(model):
            async with self._reading:
                if self._read_at < asked_at:  # nobody else has read it meanwhile
                    self._offer = await run_in_threadpool(self._read)
                    self._read_at = time.monotonic()
        return self._offer

    def _is_fresh(self, now: float) -> bool:
        return now < self._read_at + FRESH_S

    def _has(self, model: str | None) -> bool:
        cards = self._offer.cards
        return bool(cards) if model is None else canonical_name(model, cards) is not None

    def _read(self) -> Offer:
        serving = chain.from_iterable(report.serves for report in self._presence.workers())
        return Offer(self._catalogue.cards(), tuple(serving))
