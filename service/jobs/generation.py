"""From a validated body to an accepted job: the steps in their order."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from anyio import CapacityLimiter, to_thread

from protocol.auth.limits import Limits
from protocol.queue.idempotency import IdempotencyKeys, fingerprint
from protocol.queue.job_queue import Submission
from protocol.request.generation_params import GenerationParams, InputImage
from protocol.request.model_card import ModelCard
from protocol.request.object_keys import new_job_id
from protocol.request.request import GenerationRequest
from protocol.request.resolve import choose_card, resolve
from protocol.request.sizes import target_size
from protocol.request.tasks import Task
from protocol.storage.object_store import ObjectStore
from protocol.telemetry import context
from protocol.telemetry.context import JobContext
from protocol.telemetry.tracing import Tracing
from service.auth.admission import admitted
from service.auth.api_keys import User
from service.images.uploaded_images import (
    NEAREST,
    CanonicalImage,
    canonical,
    decode_image,
    decode_labels,
    decode_mask,
)
from service.jobs.micro_batcher import MicroBatcher
from service.jobs.model_directory import ModelDirectory, Offer
from service.jobs.tokens import TokenCounters
from service.settings import ServiceSettings

log = logging.getLogger(__name__)

# Characters of prompts that are checked at once: in less time than a change of threads takes.
SHORT = 2000


@dataclass(frozen=True)
class Generation:
    """What it takes to accept a job. `decoding` bounds the threads that images are prepared in."""

    settings: ServiceSettings
    offers: ModelDirectory
    tokens: TokenCounters
    store: ObjectStore
    queue: MicroBatcher[Submission, str]
    hold: Callable[[Sequence[str]], None]  # from the sweepers of the store
    limits: Limits
    idempotency: IdempotencyKeys
    tracing: Tracing
    decoding: CapacityLimiter

    async def submit(
        self,
        task: Task,
        draft: GenerationParams,
        visitor: User,
        idempotency_key: str | None,
        *,
        image: bytes | None = None,
        mask: bytes | None = None,
        controls: Sequence[bytes] = (),
        expect: Callable[[str], Awaitable[None]] | None = None,
    ) -> str:
        """Check everything, keep the input images, queue the job; returns its id.

        With the `idempotency_key` of an earlier try, that is the same job once more. `expect` hears
        of the id before the queue does, so that whoever waits misses no news.
        Raises `InvalidRequest` and its like before anything is kept.
        """
        offer = await self.offers.now(draft.model)
        card = choose_card(task, draft.model, offer.cards, self._preferred(offer))
        if task.takes_image or controls or not self._is_quick(draft, card):
            request, inputs = await to_thread.run_sync(
                self._prepare, task, draft, card, image, mask, controls, limiter=self.decoding
            )
        else:
            request, inputs = self._prepare(task, draft, card)
        job_id = new_job_id()
        if idempotency_key is not None:
            same = fingerprint(request, draft.seed)
            job_id = await to_thread.run_sync(
                self.idempotency.job_id, visitor.client, idempotency_key, same
            )
        async with admitted(self.limits, visitor, request, job_id):
            if expect is not None:
                await expect(job_id)
            if inputs:
                await to_thread.run_sync(self.hold, [kept.record.key for kept in inputs])
            for kept in inputs:
                await to_thread.run_sync(self.store.put, kept.record.key, kept.png, "image/png")
            with self.tracing.span("submit", {"darkroom.job": job_id, "darkroom.task": task}):
                await self.queue(Submission(request, job_id, visitor.client, self._context()))
        self._tell(request, job_id)
        return job_id

    def _is_quick(self, draft: GenerationParams, card: ModelCard) -> bool:
        """Whether checking the words takes no time to speak of."""
        counted = self.tokens.has(card) or not card.reads_prompts
        return counted and len(draft.prompt) + len(draft.negative_prompt) <= SHORT

    def _prepare(
        self,
        task: Task,
        draft: GenerationParams,
        card: ModelCard,
        image: bytes | None = None,
        mask: bytes | None = None,
        controls: Sequence[bytes] = (),
    ) -> tuple[GenerationRequest, list[CanonicalImage]]:
        """The complete recipe, and the images it names, as they are to be kept."""
        inputs = self._inputs(task, draft, card, image, mask)
        shown = self._shown(draft, card, inputs[0], controls)
        count_tokens = self.tokens.for_model(card) if card.reads_prompts else lambda _: 0
        image_record, mask_record = map(_record, inputs)
        records = [control.record for control in shown]
        request = resolve(task, draft, card, count_tokens, image_record, mask_record, records)
        return request, [*(kept for kept in inputs if kept), *shown]

    def _shown(
        self,
        draft: GenerationParams,
        card: ModelCard,
        image: CanonicalImage | None,
        controls: Sequence[bytes],
    ) -> list[CanonicalImage]:
        """What ControlNets are shown, in the size of the picture to be drawn."""
        if not controls:
            return []
        like = (image.record.width, image.record.height) if image else None
        size = target_size((draft.width, draft.height), card, like)
        pixels = self.settings.max_image_pixels
        return [
            canonical(decode_image(f"controls.{i}.image", data, pixels), size)
            for i, data in enumerate(controls)
        ]

    def _inputs(
        self,
        task: Task,
        draft: GenerationParams,
        card: ModelCard,
        image: bytes | None,
        mask: bytes | None,
    ) -> tuple[CanonicalImage | None, CanonicalImage | None]:
        """Image and mask in the size of the picture to be drawn, or, to be upscaled, its own."""
        pixels, asked = self.settings.max_image_pixels, (draft.width, draft.height)
        if image is None:
            return None, None
        if task is Task.SEMANTIC:
            labels = decode_labels("image", image, pixels, card.classes)
            return canonical(labels, target_size(asked, card, labels.size), NEAREST), None
        picture = decode_image("image", image, pixels)
        if task is Task.UPSCALE:
            return canonical(picture, picture.size), None
        if mask is None:
            return canonical(picture, target_size(asked, card, picture.size)), None
        stencil = decode_mask("mask", mask, pixels)
        size = target_size(asked, card, picture.size, stencil.size)
        return canonical(picture, size), canonical(stencil, size)

    def _context(self) -> JobContext:
        """What the worker's logs and traces are to be joined with."""
        return JobContext(
            request_id=context.request_id.get(), traceparent=self.tracing.traceparent()
        )

    def _tell(self, request: GenerationRequest, job_id: str) -> None:
        words = {"prompt": request.prompt} if self.settings.log_prompts else {}
        fields = {"job": job_id, "model": request.model, "task": request.task, **words}
        log.info("job accepted", extra=fields)

    def _preferred(self, offer: Offer) -> list[str]:
        """For requests that name no model: the configured default, then what is served now."""
        default = self.settings.default_model
        return [*([default] if default else []), *offer.serving]


def _record(image: CanonicalImage | None) -> InputImage | None:
    return image.record if image else None
