"""From a validated body to an accepted job: the steps in their order, run in a thread."""

from collections.abc import Iterable
from dataclasses import dataclass

from protocol.catalogue import Catalogue
from protocol.drafts import Draft, InputImage, choose_card, complete, target_size
from protocol.presence import Presence
from protocol.queue import JobQueue
from protocol.request import Task
from protocol.store import ObjectStore
from service.images import CanonicalImage, canonical, decode_image, decode_mask
from service.settings import ServiceSettings
from service.tokens import TokenCounters


@dataclass(frozen=True)
class Generation:
    """What it takes to accept a job. Its methods block: Redis, the store, pillow."""

    settings: ServiceSettings
    catalogue: Catalogue
    presence: Presence
    tokens: TokenCounters
    store: ObjectStore
    queue: JobQueue

    def submit(
        self, task: Task, draft: Draft, image: bytes | None = None, mask: bytes | None = None
    ) -> str:
        """Check everything, keep the input images, queue the job; returns its id.

        Raises `InvalidRequest` and its like before anything is kept.
        """
        card = choose_card(draft.model, self.catalogue.cards(), self._preferred_models(draft))
        pixels = self.settings.max_image_pixels
        picture = decode_image("image", image, pixels) if image is not None else None
        stencil = decode_mask("mask", mask, pixels) if mask is not None else None
        sizes = [given.size if given else None for given in (picture, stencil)]
        size = target_size(draft, card, *sizes)
        inputs = [canonical(given, size) if given else None for given in (picture, stencil)]
        count_tokens = self.tokens.for_model(card)
        request = complete(task, draft, card, count_tokens, *map(_record, inputs))
        for kept in filter(None, inputs):
            self.store.put(kept.record.key, kept.png, "image/png")
        return self.queue.submit(request)

    def _preferred_models(self, draft: Draft) -> Iterable[str]:
        """For requests that name no model: the configured default, then what is served now."""
        if draft.model is not None:
            return ()
        serving = [report.model for report in self.presence.workers() if report.state.serves]
        return [name for name in (self.settings.default_model, *serving) if name is not None]


def _record(image: CanonicalImage | None) -> InputImage | None:
    return image.record if image else None
