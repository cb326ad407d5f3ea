"""Submission of batches: many prompts or images with the same parameters, queued all or none."""

import hashlib
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace

from anyio import to_thread

from protocol.errors import InvalidRequest
from protocol.queue.batches import Batches, BatchView, batch_job_id, new_batch_id
from protocol.queue.idempotency import fingerprint
from protocol.queue.job import JobState, JobView
from protocol.queue.job_queue import Submission
from protocol.queue.submission import OptionsVersion
from protocol.queue.webhooks import WebhookTarget
from protocol.request.model_card import ModelCard
from protocol.request.request import GenerationRequest
from protocol.request.tasks import Task
from service.auth.admission import batch_limits
from service.auth.api_keys import User
from service.jobs.job_submitter import JobSubmitter, Prepared
from service.schemas.batches import BatchRequest
from service.schemas.requests import TaskRequest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sent:
    """The facts of a client's request that are the same for all jobs.

    `fields`: those that it sent. `seed`: None for a random one. `options`: those of the client, by
    which the request was read, if they count.
    """

    user: User
    fields: Collection[str]
    seed: int | None
    idempotency_key: str | None
    webhook: WebhookTarget | None
    options: OptionsVersion | None = None


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
        self._check_size("prompts", len(params.prompts), user)
        card = await self.jobs.models.card(Task.TXT2IMG, params.model)
        prepared = await to_thread.run_sync(self._prompts, params, card, limiter=self.jobs.decoding)
        sent = Sent(user, params.model_fields_set, params.seed, idempotency_key, webhook)
        batch_id = await self._queue(prepared, sent)
        return await to_thread.run_sync(self.batches.view, batch_id)

    async def submit_images(
        self,
        task: Task,
        each: Sequence[TaskRequest],
        sent: Sent,
        before_queued: Callable[[str], Awaitable[None]],
    ) -> list[tuple[JobView, GenerationRequest]]:
        """Queue a job for each of `each`, or none; they differ in their images only.

        Returns them as queued, with their complete requests. Each generates one image, the first of
        the seed and the others of those that follow. `before_queued` is called with the id of each.
        Raises `InvalidRequest`, for the image of a job as `images.0`, and what a single job raises.
        """
        self._check_size("images", len(each), sent.user)
        card = await self.jobs.models.card(task, each[0].model)
        prepared = await to_thread.run_sync(
            self._images, task, each, card, limiter=self.jobs.decoding
        )
        batch_id = await self._queue(prepared, sent, before_queued)
        return [
            (JobView(id=batch_job_id(batch_id, index), state=JobState.QUEUED), one.request)
            for index, one in enumerate(prepared)
        ]

    async def _queue(
        self,
        prepared: Sequence[Prepared],
        sent: Sent,
        before_queued: Callable[[str], Awaitable[None]] | None = None,
    ) -> str:
        """Store the images, queue all jobs and return the id of the batch."""
        requests = [one.request for one in prepared]
        limits = batch_limits(sent.user, requests, sent.fields)
        batch_id = await self._batch_id(requests, sent)
        ids = [batch_job_id(batch_id, index) for index in range(len(requests))]
        for job_id, one in zip(ids, prepared, strict=True):
            if before_queued is not None:
                await before_queued(job_id)
            await self.jobs.store_inputs(one.inputs, job_id)
        first = Submission(
            requests[0],
            batch_id,
            sent.user.client,
            self.jobs.job_context(),
            limits,
            webhook=sent.webhook,
            options=sent.options,
        )
        await to_thread.run_sync(self.batches.submit, first, requests)
        log.info("batch accepted", extra={"batch": batch_id, "model": requests[0].model})
        return batch_id

    async def _batch_id(self, requests: Sequence[GenerationRequest], sent: Sent) -> str:
        """Return a new id, or that of the batch of an earlier request with the same key."""
        if sent.idempotency_key is None:
            return new_batch_id()
        return await to_thread.run_sync(
            self.jobs.idempotency.job_id,
            sent.user.client,
            sent.idempotency_key,
            _fingerprint(requests, sent.seed),
        )

    def _check_size(self, field: str, count: int, user: User) -> None:
        """Raise `InvalidRequest` for a batch that could never be queued as a whole."""
        settings = self.jobs.settings
        most = min(
            settings.max_queue_length,
            settings.max_queue_per_client if user.client else count,
            user.limits.jobs or count,
        )
        if count > most:
            bound = f"at most {most} {field}, which can wait or run at once"
            raise InvalidRequest(field, f"{count} {field}", bound, "batch-too-large")

    def _prompts(self, params: BatchRequest, card: ModelCard) -> list[Prepared]:
        singles = [params.model_copy(update={"prompt": prompt}) for prompt in params.prompts]
        return [
            self._prepare(Task.TXT2IMG, single, card, "prompt", index)
            for index, single in enumerate(singles)
        ]

    def _images(self, task: Task, each: Sequence[TaskRequest], card: ModelCard) -> list[Prepared]:
        prepared = [
            self._prepare(task, single, card, "image", index) for index, single in enumerate(each)
        ]
        first = prepared[0].request
        return [
            replace(one, request=one.request.model_copy(update={"seed": first.image_seed(index)}))
            for index, one in enumerate(prepared)
        ]

    def _prepare(
        self, task: Task, params: TaskRequest, card: ModelCard, own: str, index: int
    ) -> Prepared:
        """Prepare one job. An error about its `own` field names the job by its index."""
        try:
            return self.jobs.prepare(task, params, card)
        except InvalidRequest as error:
            if error.field != own:
                raise
            name = f"{own}s.{index}"
            raise InvalidRequest(name, error.value, error.bound, error.problem) from error


def _fingerprint(requests: Sequence[GenerationRequest], seed: int | None) -> str:
    """Return a digest that is equal for equal batches."""
    parts = "".join(fingerprint(request, seed) for request in requests)
    return hashlib.sha256(parts.encode()).hexdigest()
