"""The published models, cached for a moment so that not every request reads them from Redis.

Before the first one is published, requests wait for it: all read the cache, which one of them
refreshes.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import chain

from starlette.concurrency import run_in_threadpool

from protocol.errors import QueueUnavailable
from protocol.registry.model_registry import ModelRegistry
from protocol.registry.presence import Presence, WorkerReport, WorkerState
from protocol.request.model_card import ModelCard, canonical_name
from protocol.request.resolve import choose_card, choose_upscaling_card
from protocol.request.tasks import Task

MAX_AGE_S = 1.0
MAX_WAITING = 256  # requests that wait for the first model at once


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
        self._failed = False  # every worker has failed to start, so waiting is in vain
        self.waiting = 0  # requests that wait for the first model
        self._refreshing = asyncio.Lock()

    async def any_published(self) -> bool:
        """Return True if a model is known. Raises `QueueUnavailable`."""
        await self._refresh(None)
        return bool(self._cards)

    async def wait_until_published(self, limit_s: float) -> None:
        """Wait until a model is known, but at most `limit_s` seconds.

        Returns at once if `MAX_WAITING` requests wait already, or if no worker will publish one.
        """
        if self.waiting >= MAX_WAITING:
            return
        self.waiting += 1
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    while not (self._cards or self._failed):
                        await self._refresh_later()
        finally:
            self.waiting -= 1

    async def cards(self) -> Mapping[str, ModelCard]:
        """Return all cards by model name."""
        await self._refresh(None)
        return self._cards

    async def card(self, task: Task, model: str | None) -> ModelCard:
        """Return the card of the model to use for a request.

        If the request names none, this is the configured default, else a model that is being
        served. Raises `InvalidRequest`, `NotReady` and `QueueUnavailable`.
        """
        await self._refresh(model)
        return choose_card(task, model, self._cards, [*self._default, *self._serving])

    async def card_with(self, upscalers: Mapping[str, str], model: str | None) -> ModelCard:
        """Return the card of the model whose workers are to upscale. Raises like `card`."""
        await self._refresh(model)
        preferred = [*self._default, *self._serving]
        return choose_upscaling_card(upscalers, model, self._cards, preferred)

    async def _refresh(self, model: str | None) -> None:
        """Read the models again if the cache is too old or does not have `model`."""
        now = time.monotonic()
        if now < self._read_at + MAX_AGE_S and self.has(model):
            return
        async with self._reading:
            if self._read_at < now:  # no other request has read them meanwhile
                await self._read()

    async def _refresh_later(self) -> None:
        """Read the models again after `MAX_AGE_S` seconds, once for all requests that wait."""
        last = self._read_at
        async with self._refreshing:
            if self._read_at == last:
                await asyncio.sleep(MAX_AGE_S)
                with suppress(QueueUnavailable):
                    await self._read()

    def has(self, model: str | None) -> bool:
        """Return True if a model has this name, or None and there is any; it reads nothing."""
        return (
            bool(self._cards) if model is None else canonical_name(model, self._cards) is not None
        )

    async def _read(self) -> None:
        self._cards, reports = await run_in_threadpool(self._published)
        self._read_at = time.monotonic()
        self._serving = list(chain.from_iterable(report.serves for report in reports))
        states = {report.state for report in reports}
        self._failed = states == {WorkerState.SETUP_FAILED}

    def _published(self) -> tuple[Mapping[str, ModelCard], list[WorkerReport]]:
        reports = self._presence.workers()
        return self._registry.cards(), reports
