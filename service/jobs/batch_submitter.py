"""Submission of batches: many prompts with the same parameters, queued all or none."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from anyio import to_thread

from protocol.errors import InvalidRequest
from protocol.queue.batches import Batches, BatchView, new_batch_id
from protocol.queue.idempotency import fingerprint
from protocol.queue.job_queue import Submission
from protocol.queue.webhooks import WebhookTarget
from protocol.request.model_card import ModelCard
from protocol.request.request import GenerationRequest
from protocol.request.tasks import Task
from service.auth.admission import batch_limits
from service.auth.api_keys import User
from service.jobs.job_submitter import JobSubmitter
from service.schemas.batches import BatchRequest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchSubmitter:
    """Validates batches and submits their jobs; `jobs` does it for single requests."""

    jobs: JobSubmitter
    batches: Batches

    async def submit(
        self,
        params: BatchRequest,
        user: User,
        idempotency_key: str | None,
        webhook: WebhookTarget | None,
    ) -> BatchView:
        """Queue a job for each prompt and return the batch. Raises before anything is queued.

        With the `idempotency_key` of an earlier attempt it is the same batch.
        """
        self._check_size(len(params.prompts), user)
        card = await self.jobs.models.card(Task.TXT2IMG, params.model)
        requests = await to_thread.run_sync(self._resolve, params, card, limiter=self.jobs.decoding)
        limits = batch_limits(user, requests, params.model_fields_set)
        batch_id = new_batch_id()
        if idempotency_key is not None:
            batch_id = await to_thread.run_sync(
                self.jobs.idempotency.job_id,
                user.client,
                idempotency_key,
                _fingerprint(requests, params.seed),
            )
        origin = self.jobs.job_context()
        first = Submission(requests[0], batch_id, user.client, origin, limits, (), webhook)
        await to_thread.run_sync(self.batches.submit, first, requests)
        log.info("batch accepted", extra={"batch": batch_id, "model": card.name})
        return await to_thread.run_sync(self.batches.view, batch_id)

    def _check_size(self, count: int, user: User) -> None:
        """Raise `InvalidRequest` for a batch that could never be queued as a whole."""
        settings = self.jobs.settings
        most = min(
            settings.max_queue_length,
            settings.max_queue_per_client if user.client else count,
            user.limits.jobs or count,
        )
        if count > most:
            bound = f"at most {most} prompts, which can wait or run at once"
            raise InvalidRequest("prompts", f"{count} prompts", bound, "batch-too-large")

    def _resolve(self, params: BatchRequest, card: ModelCard) -> list[GenerationRequest]:
        requests = []
        for index, prompt in enumerate(params.prompts):
            single = params.model_copy(update={"prompt": prompt})
            try:
                requests.append(self.jobs.prepare(Task.TXT2IMG, single, card).request)
            except InvalidRequest as error:
                if error.field != "prompt":
                    raise
                name = f"prompts.{index}"
                raise InvalidRequest(name, error.value, error.bound, error.problem) from error
        return requests


def _fingerprint(requests: Sequence[GenerationRequest], seed: int | None) -> str:
    """Return a digest that is equal for equal batches."""
    parts = "".join(fingerprint(request, seed) for request in requests)
    return hashlib.sha256(parts.encode()).hexdigest()
