"""The published models, cached for a moment so that not every request reads them from Redis."""

import asyncio
import time
from collections.abc import Mapping
from itertools import chain

from starlette.concurrency import run_in_threadpool

from protocol.registry.model_registry import ModelRegistry
from protocol.registry.presence import Presence
from protocol.request.model_card import ModelCard, canonical_name
from protocol.request.resolve import choose_card
from protocol.request.tasks import Task

MAX_AGE_S = 1.0


class ModelDirectory:
    """The cards of all models and the names of those being served, at most `MAX_AGE_S` old."""

    def __init__(
        self, registry: ModelRegistry, presence: Presence, default_model: str | None
    ) -> None:
        self._registry = registry
        self._presence = presence
        self._default = [default_model] if default_model else []
        self._cards: Mapping[str, ModelCard] = {}
        self._serving: list[str] = []
        self._read_at = -MAX_AGE_S
        self._reading = asyncio.Lock()

    async def card(self, task: Task, model: str | None) -> ModelCard:
        """Return the card of the model to use for a request.

        If the request names none, this is the configured default, else a model that is being
        served. Raises `InvalidRequest`, `NotReady` and `QueueUnavailable`.
        """
        await self._refresh(model)
        return choose_card(task, model, self._cards, [*self._default, *self._serving])

    async def _refresh(self, model: str | None) -> None:
        """Read the models again if the cache is too old or does not have `model`."""
        now = time.monotonic()
        if now < self._read_at + MAX_AGE_S and self._has(model):
            return
        async with self._reading:
            if self._read_at < now:  # no other request has read them meanwhile
                self._cards, self._serving = await run_in_threadpool(self._read)
                self._read_at = time.monotonic()

    def _has(self, model: str | None) -> bool:
        return (
            bool(self._cards) if model is None else canonical_name(model, self._cards) is not None
        )

    def _read(self) -> tuple[Mapping[str, ModelCard], list[str]]:
        serving = chain.from_iterable(report.serves for report in self._presence.workers())
        return self._registry.cards(), list(serving)
