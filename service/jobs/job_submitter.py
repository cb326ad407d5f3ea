"""Submission of jobs: from a validated request body to a queued job."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from anyio import CapacityLimiter, to_thread

from protocol.errors import InputsGone, InvalidRequest, NotRetryable
from protocol.queue.dialect_jobs import DialectObject
from protocol.queue.idempotency import (
    IdempotencyKeys,
    fingerprint,
    key_digest,
    retry_fingerprint,
)
from protocol.queue.job import JobState, JobView, Warnings
from protocol.queue.job_queue import Submission
from protocol.queue.submission import OptionsVersion
from protocol.queue.webhooks import WebhookTarget
from protocol.request.generation_params import InputImage
from protocol.request.inpainting import ResizeMode
from protocol.request.model_card import ModelCard
from protocol.request.object_keys import new_job_id
from protocol.request.request import GenerationRequest
from protocol.request.resolve import resolve
from protocol.request.sizes import target_size
from protocol.request.tasks import Task
from protocol.request.upscaling import asked_upscalers
from protocol.storage.object_store import ObjectStore
from protocol.telemetry import context
from protocol.telemetry.context import JobContext
from protocol.telemetry.tracing import Tracing
from service.auth.admission import job_limits
from service.auth.api_keys import User
from service.images.image_file import ImageFile, Size
from service.images.input_images import InputImages
from service.images.preparation import PreparedImages, prepare_images
from service.images.resize_modes import placement
from service.images.uploaded_images import CanonicalImage
from service.jobs.micro_batcher import MicroBatcher
from service.jobs.model_directory import ModelDirectory
from service.jobs.tokens import TokenCounters
from service.schemas.requests import TaskRequest
from service.settings import ServiceSettings

log = logging.getLogger(__name__)

# Prompt characters that are checked on the event loop: it takes less time than a thread switch.
SHORT_PROMPTS = 2000
RETRYABLE = (JobState.FAILED, JobState.CANCELLED)
MIN_DEADLINE_S = 0.001  # of a request whose time has passed


@dataclass(frozen=True)
class Prepared:
    """A resolved request, its input images, and warnings for its client."""

    request: GenerationRequest
    inputs: list[CanonicalImage]
    warnings: Warnings


@dataclass(frozen=True)
class JobSubmitter:
    """Validates requests and submits jobs.

    `decoding` limits the threads that prepare images, `images` the memory that they take.
    """

    settings: ServiceSettings
    models: ModelDirectory
    tokens: TokenCounters
    store: ObjectStore
    queue: MicroBatcher[Submission, str]
    pin: Callable[[Sequence[str], str], None]  # keeps a job's input images from deletion
    idempotency: IdempotencyKeys
    tracing: Tracing
    decoding: CapacityLimiter
    images: InputImages

    async def submit(
        self,
        task: Task,
        params: TaskRequest,
        user: User,
        idempotency_key: str | None,
        waited_s: float = 0.0,
        before_queued: Callable[[str], Awaitable[None]] | None = None,
        webhook: WebhookTarget | None = None,
        on_resolved: Callable[[GenerationRequest], None] | None = None,
        dialect_object: DialectObject | None = None,
        options: OptionsVersion | None = None,
    ) -> JobView:
        """Validate the request, store its input images, queue the job and return it as queued.

        With the `idempotency_key` of an earlier attempt, its id is that of the same job.
        `waited_s`: the part of the client's deadline that has passed already. `before_queued` is
        called with the id before the job is queued, so that a subscriber misses no message;
        `on_resolved` with the complete request. Raises `InvalidRequest` and other errors before
        anything is stored, and `OptionsChanged` if the client's options are no longer `options`.
        """
        card = await self._card(task, params)
        prepared = await self._resolve(task, params, card)
        request, inputs, warnings = prepared.request, prepared.inputs, prepared.warnings
        if waited_s and params.deadline_s is not None:
            left_s = max(MIN_DEADLINE_S, params.deadline_s - waited_s)
            request = request.model_copy(update={"deadline_s": left_s})
        limits = job_limits(user, request, params.model_fields_set)
        if on_resolved is not None:
            on_resolved(request)
        job_id = await self._job_id(
            user, idempotency_key, lambda: fingerprint(prepared.request, params.seed)
        )
        if before_queued is not None:
            await before_queued(job_id)
        await self.store_inputs(inputs, job_id)
        submission = Submission(
            request,
            job_id,
            user.client,
            limits=limits,
            warnings=warnings,
            webhook=webhook,
            dialect_object=dialect_object,
            options=options,
        )
        return await self._queue(submission, idempotency_key)

    async def store_inputs(self, inputs: Sequence[CanonicalImage], job_id: str) -> None:
        """Store the input images of a job, and keep them for it."""
        if inputs:
            await to_thread.run_sync(self.pin, [image.record.key for image in inputs], job_id)
        for image in inputs:
            await to_thread.run_sync(self.store.put, image.record.key, image.png, "image/png")

    async def retry(
        self,
        failed: JobView,
        request: GenerationRequest,
        user: User,
        idempotency_key: str | None,
        webhook: WebhookTarget | None = None,
    ) -> JobView:
        """Queue the request of a failed or cancelled job as a new job, and return that as queued.

        Raises `NotRetryable` for other jobs, `InputsGone` without its input images, and
        `InvalidRequest` if there is no such model any more.
        """
        if failed.state not in RETRYABLE:
            raise NotRetryable(failed.id, failed.state.value)
        await self.models.card_with({}, request.model)
        limits = job_limits(user, request, ())
        job_id = await self._job_id(user, idempotency_key, lambda: retry_fingerprint(failed.id))
        if request.input_keys:
            await to_thread.run_sync(self._pin_stored, request.input_keys, job_id, failed.id)
        submission = Submission(
            request, job_id, user.client, limits=limits, warnings=failed.warnings, webhook=webhook
        )
        return await self._queue(submission, idempotency_key)

    def _pin_stored(self, keys: Sequence[str], job_id: str, failed_id: str) -> None:
        """Pin the inputs of a job for another one. Raises `InputsGone` if one is not stored."""
        self.pin(keys, job_id)
        if not all(map(self.store.has, keys)):
            raise InputsGone(failed_id)

    async def _job_id(
        self, user: User, idempotency_key: str | None, same: Callable[[], str]
    ) -> str:
        """Return a new id, or that of the job of an earlier request with the same key."""
        if idempotency_key is None:
            return new_job_id()
        return await to_thread.run_sync(
            self.idempotency.job_id, user.client, idempotency_key, same()
        )

    async def _queue(self, submission: Submission, idempotency_key: str | None) -> JobView:
        request, job_id = submission.request, submission.job_id
        with self.tracing.span("submit", {"darkroom.job": job_id, "darkroom.task": request.task}):
            digest = key_digest(submission.client, idempotency_key) if idempotency_key else ""
            context = self.job_context()
            await self.queue(replace(submission, context=context, idempotency=digest))
        self._log(request, job_id)
        return JobView(id=job_id, state=JobState.QUEUED, warnings=submission.warnings)

    async def _card(self, task: Task, params: TaskRequest) -> ModelCard:
        if task is Task.UPSCALE and params.upscaler is not None:
            return await self.models.card_with(asked_upscalers(params), params.model)
        return await self.models.card(task, params.model)

    async def _resolve(self, task: Task, params: TaskRequest, card: ModelCard) -> Prepared:
        """Resolve the request; slow work runs in a thread."""
        if task.takes_image or params.controls or not self._is_quick(params, card):
            return await to_thread.run_sync(self.prepare, task, params, card, limiter=self.decoding)
        return self.prepare(task, params, card)

    def _is_quick(self, params: TaskRequest, card: ModelCard) -> bool:
        """Return True if the prompts can be checked without blocking the event loop."""
        ready = self.tokens.has(card) or not card.reads_prompts
        return ready and len(params.prompt) + len(params.negative_prompt) <= SHORT_PROMPTS

    def prepare(self, task: Task, params: TaskRequest, card: ModelCard) -> Prepared:
        """Validate and resolve a request and prepare its images. Raises `InvalidRequest`."""
        if not self.settings.embed_metadata:
            params = params.model_copy(update={"metadata": False})
        prepared = prepare_images(self.images, task, params, card)
        image, mask = prepared.image, prepared.mask
        controls, more = self._control_images(params, card, prepared)
        count_tokens = self.tokens.for_model(card) if card.reads_prompts else lambda _: 0
        records = [control.record for control in controls]
        request = resolve(
            task,
            params,
            card,
            count_tokens,
            _record(image),
            _record(mask),
            records,
            prepared.paste,
            _record(prepared.depth_map),
        )
        others = [control for control in controls if control is not image]
        return Prepared(request, [*prepared.files, *others], prepared.warnings + more)

    def _control_images(
        self, params: TaskRequest, card: ModelCard, prepared: PreparedImages
    ) -> tuple[list[CanonicalImage], Warnings]:
        """Return the images of the ControlNets, in the size that is generated, and warnings."""
        if not params.controls:
            return [], ()
        image = prepared.image
        image_size = (image.record.width, image.record.height) if image else None
        size = image_size or target_size((params.width, params.height), card)
        images, warnings = list[CanonicalImage](), Warnings()
        for i, control in enumerate(params.controls):
            field = f"controls.{i}.image"
            if control.image is not None:
                file = self.images.open(field, control.image)
                images.append(self._control_image(file, control.resize_mode, size, prepared))
                warnings += file.warnings
            elif image is not None:
                images.append(image)
            else:
                bound = "given, for the request has no image"
                raise InvalidRequest(field, None, bound, "control-without-image")
        return images, warnings

    def _control_image(
        self, file: ImageFile, mode: ResizeMode, size: Size, prepared: PreparedImages
    ) -> CanonicalImage:
        """Return a control image in the size that is generated, cut as the image is."""
        if prepared.paste is None or prepared.region is None:
            return self.images.placed(file, placement(mode, file.size, size))
        canvas = prepared.paste.width, prepared.paste.height
        return self.images.part(file, placement(mode, file.size, canvas), prepared.region)

    def job_context(self) -> JobContext:
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
