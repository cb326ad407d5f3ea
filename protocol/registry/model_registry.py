"""The registry of models: workers publish the cards of their models, the service reads them.

Cards stay when their workers stop, so that requests can still be accepted and queued while a worker
restarts. `presence` has the workers that are alive.
"""

import hashlib
import logging
from collections.abc import Sequence

from pydantic import ValidationError
from redis import Redis

from protocol.connection.keyspace import key
from protocol.connection.redis_client import redis_errors
from protocol.request.model_card import ModelCard

CARDS = key("models")
TOKENIZERS = key("tokenizers")
MARK_TTL_S = 60  # renewed by each look at it

PublishedModel = tuple[ModelCard, str]  # and its tokenizer, in the form of the `tokenizers` package

logger = logging.getLogger(__name__)


class ModelRegistry:
    """The published models, in Redis. Raises `QueueUnavailable` when Redis does not answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def publish(self, card: ModelCard, tokenizer_json: str) -> ModelCard:
        """Publish a model and return its card with the digest of its tokenizer."""
        [published] = self.publish_all([(card, tokenizer_json)])
        return published

    def publish_all(
        self, models: Sequence[PublishedModel], worker: str = "", mark: str = ""
    ) -> list[ModelCard]:
        """Publish models, all or none, and return their cards with the digests of the tokenizers.

        A `mark` of the `worker` is stored with them, for `is_published`.
        """
        published = [
            card.model_copy(update={"tokenizer_sha256": digest(tokenizer_json)})
            for card, tokenizer_json in models
        ]
        with redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            for card, (_, tokenizer_json) in zip(published, models, strict=True):
                pipe.hset(TOKENIZERS, card.name, tokenizer_json)
                pipe.hset(CARDS, card.name, card.model_dump_json())
            if mark:
                pipe.set(_mark_key(worker), mark, ex=MARK_TTL_S)
            pipe.execute()
        return published

    def is_published(self, names: Sequence[str], worker: str, mark: str) -> bool:
        """Return True if Redis has the worker's last `mark`, and a card and tokenizer of each name.

        False after Redis has lost its data, or was restored from an older backup. Without a look
        for `MARK_TTL_S` seconds it is False, too.
        """
        with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            pipe.getex(_mark_key(worker), ex=MARK_TTL_S)
            for name in names:
                pipe.hexists(CARDS, name)
                pipe.hexists(TOKENIZERS, name)
            found, *present = pipe.execute()
        return bool(found == mark.encode() and all(present))

    def withdraw(self, name: str) -> None:
        """Remove a model."""
        with redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hdel(CARDS, name)
            pipe.hdel(TOKENIZERS, name)
            pipe.execute()

    def cards(self) -> dict[str, ModelCard]:
        """Return all published cards by model name, in order of name.

        Cards of other versions of Darkroom are skipped: they may come from a backup.
        """
        with redis_errors():
            found: dict[bytes, bytes] = self._redis.hgetall(CARDS)  # type: ignore[assignment]  # sync client
        cards = {}
        for name, card in sorted(found.items()):
            try:
                cards[name.decode()] = ModelCard.model_validate_json(card)
            except ValidationError:
                logger.warning("a card cannot be read", extra={"model": name.decode()})
        return cards

    def tokenizer_names(self) -> set[str]:
        """Return the names of the models whose tokenizers are published."""
        with redis_errors():
            names: list[bytes] = self._redis.hkeys(TOKENIZERS)  # type: ignore[assignment]  # sync client
        return {name.decode() for name in names}

    def tokenizer_json(self, name: str) -> str | None:
        """Return the serialised tokenizer of a model, None if the model is not published."""
        with redis_errors():
            found: bytes | None = self._redis.hget(TOKENIZERS, name)  # type: ignore[assignment]  # sync client
        return None if found is None else found.decode()


def digest(tokenizer_json: str) -> str:
    """Return the digest of a tokenizer, which its card has too."""
    return hashlib.sha256(tokenizer_json.encode()).hexdigest()


def _mark_key(worker: str) -> str:
    return key("published", worker)
