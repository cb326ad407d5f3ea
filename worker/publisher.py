"""Publishes the cards of a worker's models, and again when Redis has lost them."""

import logging
import time
import uuid
from collections.abc import Callable, Sequence

from redis import Redis

from protocol.errors import QueueUnavailable
from protocol.registry.model_registry import ModelRegistry, PublishedModel

logger = logging.getLogger(__name__)

CHECK_EVERY_S = 1.0
REDIS_RETRY_S = 1.0


class ModelPublisher:
    """Keeps the cards and tokenizers of a worker's models in Redis.

    Redis may come back empty, or with older data. A mark, new with each publication and stored
    together with the cards, shows that nothing has been lost since. Another worker's card of the
    same model is left as it is: of two versions the last one published counts.
    """

    def __init__(
        self, redis: Redis, worker: str, models: Callable[[], Sequence[PublishedModel]]
    ) -> None:
        """`models` returns the cards as they are now, each with its tokenizer as JSON."""
        self._registry = ModelRegistry(redis)
        self._worker = worker
        self._models = models
        self._published: Sequence[PublishedModel] = ()
        self._mark = ""

    def publish(self) -> None:
        """Publish all cards. Raises QueueUnavailable."""
        models, mark = self._models(), uuid.uuid4().hex
        self._registry.publish_all(models, self._worker, mark)
        self._published, self._mark = models, mark

    def publish_first(self) -> None:
        """Publish all cards, trying again until Redis answers."""
        while True:
            try:
                return self.publish()
            except QueueUnavailable:
                logger.warning("cannot publish the models: redis is away")
                time.sleep(REDIS_RETRY_S)

    def check(self) -> bool:
        """Publish what has changed, or what Redis has lost; return True if it had lost something.

        To be called every `CHECK_EVERY_S`. Raises QueueUnavailable.
        """
        names = [card.name for card, _ in self._published]
        is_lost = not self._registry.is_published(names, self._worker, self._mark)
        if is_lost or self._models() != self._published:
            self.publish()
        if is_lost:
            logger.warning("redis has lost its data, published the models again")
        return is_lost
