"""The models there are: workers publish the cards of theirs, the service reads what to offer.

Cards stay when their workers go, so that requests can still be accepted and queued while a worker
restarts; who is alive right now is `presence`'s business.
"""

import hashlib

from redis import Redis

from protocol.connection.keyspace import key
from protocol.connection.redis_client import redis_errors
from protocol.request.model_card import ModelCard

CARDS = key("models")
TOKENIZERS = key("tokenizers")


class ModelRegistry:
    """The published models, in Redis. Raises `QueueUnavailable` when Redis is away."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def publish(self, card: ModelCard, tokenizer_json: str) -> ModelCard:
        """Offer a model; the card is returned as published, with its tokenizer's digest filled in.

        `tokenizer_json` is the serialised form of the `tokenizers` package.
        """
        digest = hashlib.sha256(tokenizer_json.encode()).hexdigest()
        published = card.model_copy(update={"tokenizer_sha256": digest})
        with redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(TOKENIZERS, card.name, tokenizer_json)
            pipe.hset(CARDS, card.name, published.model_dump_json())
            pipe.execute()
        return published

    def withdraw(self, name: str) -> None:
        """Take a model off the list, for good."""
        with redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hdel(CARDS, name)
            pipe.hdel(TOKENIZERS, name)
            pipe.execute()

    def cards(self) -> dict[str, ModelCard]:
        """Every published card by model name, in order of name."""
        with redis_errors():
            found: dict[bytes, bytes] = self._redis.hgetall(CARDS)  # type: ignore[assignment]  # sync client
        return {
            name.decode(): ModelCard.model_validate_json(card)
            for name, card in sorted(found.items())
        }

    def tokenizer_json(self, name: str) -> str | None:
        """The serialised tokenizer of a model, or None if no such model is published."""
        with redis_errors():
            found: bytes | None = self._redis.hget(TOKENIZERS, name)  # type: ignore[assignment]  # sync client
        return None if found is None else found.decode()
