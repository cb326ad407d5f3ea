"""The registry of models: workers publish the cards of their models, the service reads them.

Cards stay when their workers stop, so that requests can still be accepted and queued while a worker
restarts. `presence` has the workers that are alive.
"""

import hashlib

from redis import Redis

from protocol.connection.keyspace import key
from protocol.connection.redis_client import redis_errors
from protocol.request.model_card import ModelCard

CARDS = key("models")
TOKENIZERS = key("tokenizers")


class ModelRegistry:
    """The published models, in Redis. Raises `QueueUnavailable` when Redis does not answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def publish(self, card: ModelCard, tokenizer_json: str) -> ModelCard:
        """Publish a model and return its card with the digest of its tokenizer.

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
        """Remove a model."""
        with redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hdel(CARDS, name)
            pipe.hdel(TOKENIZERS, name)
            pipe.execute()

    def cards(self) -> dict[str, ModelCard]:
        """Return all published cards by model name, in order of name."""
        with redis_errors():
            found: dict[bytes, bytes] = self._redis.hgetall(CARDS)  # type: ignore[assignment]  # sync client
        return {
            name.decode(): ModelCard.model_validate_json(card)
            for name, card in sorted(found.items())
        }

    def tokenizer_json(self, name: str) -> str | None:
        """Return the serialised tokenizer of a model, None if the model is not published."""
        with redis_errors():
            found: bytes | None = self._redis.hget(TOKENIZERS, name)  # type: ignore[assignment]  # sync client
        return None if found is None else found.decode()
