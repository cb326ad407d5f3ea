"""Submission of jobs: from a validated request body to a queued job."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from anyio import CapacityLimiter, to_thread

from protocol.queue.idempotency import IdempotencyKeys, fingerprint
from protocol.queue.job import JobState, JobView, Warnings
from protocol.queue.job_queue import Submission
from protocol.request.generation_params import InputImage
from protocol.request.model_card import ModelCard
from protocol.request.object_keys import new_job_id
from protocol.request.request import GenerationRequest
from protocol.request.resolve import resolve
from protocol.request.sizes import target_size
from protocol.request.tasks import Task
from protocol.storage.object_store import ObjectStore
from protocol.telemetry import context
from protocol.telemetry.context import JobContext
from protocol.telemetry.tracing import Tracing
from service.auth.admission import job_limits
from service.auth.api_keys import User
from service.images.masks import decode_mask, resize_mask
from service.images.uploaded_images import (
    NEAREST,
    CanonicalImage,
    canonical,
    decode_image,
    decode_label_map,
)
from service.jobs.micro_batcher import MicroBatcher
from service.jobs.model_directory import ModelDirectory
from service.jobs.tokens import TokenCounters
from service.schemas.requests import TaskRequest
from service.settings import ServiceSettings

log = logging.getLogger(__name__)

# Prompt characters that are checked on the event loop: it takes less time than a thread switch.
SHORT_PROMPTS = 2000


@dataclass(frozen=True)
class _Prepared:
    """A resolved request, its input images, and warnings for its client."""

    request: GenerationRequest
    inputs: list[CanonicalImage]
    warnings: Warnings


@dataclass(frozen=True)
class JobSubmitter:
    """Validates requests and submits jobs. `decoding` limits the threads that prepare images."""

    settings: ServiceSettings
    models: ModelDirectory
    tokens: TokenCounters
    store: ObjectStore
    queue: MicroBatcher[Submission, str]
    pin: Callable[[Sequence[str]], None]  # keeps input images from garbage collection
    idempotency: IdempotencyKeys
    tracing: Tracing
    decoding: CapacityLimiter

    async def submit(
        self,
        task: Task,
        params: TaskRequest,
        user: User,
        idempotency_key: str | None,
        before_queued: Callable[[str], Awaitable[None]] | None = None,
    ) -> JobView:
        """Validate the request, store its input images, queue the job and return it as queued.

        With the `idempotency_key` of an earlier attempt, its id is that of the same job.
        `before_queued` is called with the id before the job is queued, so that a subscriber
        misses no message. Raises `InvalidRequest` and other errors before anything is stored.
        """
        card = await self.models.card(task, params.model)
        prepared = await self._resolve(task, params, card)
        request, inputs, warnings = prepared.request, prepared.inputs, prepared.warnings
        limits = job_limits(user, request)
        job_id = new_job_id()
        if idempotency_key is not None:
            same = fingerprint(request, params.seed)
            job_id = await to_thread.run_sync(
                self.idempotency.job_id, user.client, idempotency_key, same
            )
        if before_queued is not None:
            await before_queued(job_id)
        if inputs:
            await to_thread.run_sync(self.pin, [image.record.key for image in inputs])
        for image in inputs:
            await to_thread.run_sync(self.store.put, image.record.key, image.png, "image/png")
        with self.tracing.span("submit", {"darkroom.job": job_id, "darkroom.task": task}):
            origin = self._context()
            await self.queue(Submission(request, job_id, user.client, origin, limits, warnings))
        self._log(request, job_id)
        return JobView(id=job_id, state=JobState.QUEUED, warnings=warnings)

    async def _resolve(self, task: Task, params: TaskRequest, card: ModelCard) -> _Prepared:
        """Resolve the request; slow work runs in a thread."""
        if task.takes_image or params.controls or not self._is_quick(params, card):
            return await to_thread.run_sync(
                self._prepare, task, params, card, limiter=self.decoding
            )
        return self._prepare(task, params, card)

    def _is_quick(self, params: TaskRequest, card: ModelCard) -> bool:
        """Return True if the prompts can be checked without blocking the event loop."""
        ready = self.tokens.has(card) or not card.reads_prompts
        return ready and len(params.prompt) + len(params.negative_prompt) <= SHORT_PROMPTS

    def _prepare(self, task: Task, params: TaskRequest, card: ModelCard) -> _Prepared:
        image, mask, warnings = self._image_and_mask(task, params, card)
        controls = self._control_images(params, card, image)
        count_tokens = self.tokens.for_model(card) if card.reads_prompts else lambda _: 0
        records = [control.record for control in controls]
        request = resolve(task, params, card, count_tokens, _record(image), _record(mask), records)
        inputs = [*(file for file in (image, mask) if file), *controls]
        return _Prepared(request, inputs, warnings)

    def _image_and_mask(
        self, task: Task, params: TaskRequest, card: ModelCard
    ) -> tuple[CanonicalImage | None, CanonicalImage | None, Warnings]:
        """Return image and mask in the size of the result, and warnings about the mask.

        An image to upscale keeps its size.
        """
        image_file, mask_file = getattr(params, "image", None), getattr(params, "mask", None)
        if image_file is None:
            return None, None, ()
        pixels, size = self.settings.max_image_pixels, (params.width, params.height)
        if task is Task.SEMANTIC:
            labels = decode_label_map("image", image_file, pixels, card.classes)
            return canonical(labels, target_size(size, card, labels.size), NEAREST), None, ()
        image = decode_image("image", image_file, pixels)
        if task is Task.UPSCALE:
            return canonical(image, image.size), None, ()
        if mask_file is None:
            return canonical(image, target_size(size, card, image.size)), None, ()
        mask = decode_mask("mask", mask_file, pixels)
        target = target_size(size, card, image.size, mask.image.size)
        resized = resize_mask(mask.image, target)
        return canonical(image, target), canonical(resized, target), mask.warnings

    def _control_images(
        self, params: TaskRequest, card: ModelCard, image: CanonicalImage | None
    ) -> list[CanonicalImage]:
        """Return the images of the ControlNets, in the size of the result."""
        if not params.controls:
            return []
        image_size = (image.record.width, image.record.height) if image else None
        size = target_size((params.width, params.height), card, image_size)
        pixels = self.settings.max_image_pixels
        return [
            canonical(decode_image(f"controls.{i}.image", control.image, pixels), size)
            for i, control in enumerate(params.controls)
        ]

    def _context(self) -> JobContext:
        """Return the ids that connect the worker's logs and traces with this request."""
        return JobContext(
            request_id=context.request_id.get(), traceparent=self.tracing.traceparent()
        )

    def _log(self, request: GenerationRequest, job_id: str) -> None:
        prompt = {"prompt": request.prompt} if self.settings.log_prompts else {}
        fields = {"job": job_id, "model": request.model, "task": request.task, **prompt}
        log.info("job accepted", extra=fields)


def _record(image: CanonicalImage | None) -> InputImage | None:
    return image.record if image else None
