"""Readiness: whether a request would be accepted now, and by which workers its job would be run."""

import time

from redis import Redis
from starlette.concurrency import run_in_threadpool

from protocol.connection.redis_client import check_writable
from protocol.errors import NotReady
from protocol.registry.model_registry import ModelRegistry
from protocol.registry.presence import ModelState, Presence, WorkerReport, WorkerState
from service.auth.api_keys import ApiKeyBackend

WRITE_EVERY_S = 1.0  # anybody may ask, and a write costs Redis a disk flush
RUNNABLE = (ModelState.READY, ModelState.LOADING, ModelState.ON_DEMAND)


class Readiness:
    """Checks what a submission needs: a key, a worker with a published model, a writable Redis.

    A full queue is not checked: it is answered by 429, and passes.
    """

    def __init__(
        self, redis: Redis, registry: ModelRegistry, presence: Presence, api_keys: ApiKeyBackend
    ) -> None:
        self._redis = redis
        self._registry = registry
        self._presence = presence
        self._api_keys = api_keys
        self._written_at = -WRITE_EVERY_S

    async def check(self) -> list[WorkerReport]:
        """Return the live workers. Raises `NotReady` with the reason, and `QueueUnavailable`."""
        await self._api_keys.check_any()
        return await run_in_threadpool(self._check_redis)

    def _check_redis(self) -> list[WorkerReport]:
        reports = self._presence.workers()
        if not any(report.state.serves for report in reports):
            raise NotReady(_reason(reports))
        served = {model for report in reports for model in report.models_in(*RUNNABLE)}
        if not served & self._published():
            raise NotReady(f"no model of a worker is published ({', '.join(sorted(served))})")
        if time.monotonic() - self._written_at >= WRITE_EVERY_S:
            check_writable(self._redis)
            self._written_at = time.monotonic()
        return reports

    def _published(self) -> set[str]:
        """Return the models for which a request can be checked."""
        tokenizers = self._registry.tokenizer_names()
        return {
            name
            for name, card in self._registry.cards().items()
            if name in tokenizers or not card.reads_prompts
        }


def _reason(reports: list[WorkerReport]) -> str:
    if not reports:
        return "no worker is running"
    return "; ".join(map(_status, reports))


def _status(report: WorkerReport) -> str:
    status = f"worker {report.name} is {report.state.value.replace('_', ' ')}"
    if report.state is WorkerState.LOADING and report.progress is not None:
        status += f", {report.progress:.0%} done"
    return f"{status} ({report.detail})" if report.detail else status
