"""TokenCounters: a counter is kept for the tokenizer that it was made of."""

from collections.abc import Iterator

import pytest
from redis import Redis
from tokenizers import Tokenizer, models

from protocol.connection.redis_client import connect
from protocol.errors import NotReady
from protocol.registry.model_registry import ModelRegistry
from protocol.registry.tokenizer import PublishedTokenizer
from service.jobs.tokens import TokenCounters
from tests.service.conftest import CARD, word_tokenizer


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with connect(redis_url) as redis:
        yield redis


def one_token() -> str:
    """Return a tokenizer for which every text is one token."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    return PublishedTokenizer(backend=tokenizer.to_str()).model_dump_json()


def test_new_tokenizer_is_not_kept_for_an_older_card(redis: Redis) -> None:
    registry = ModelRegistry(redis)
    counters = TokenCounters(registry)
    older = registry.publish(CARD, word_tokenizer())
    registry.publish(CARD, one_token())
    assert counters.for_model(older)("a b c") == 1  # the one there is
    assert not counters.has(older)
    registry.publish(CARD, word_tokenizer())  # as after a backup was restored
    assert counters.for_model(older)("a b c") == 3


def test_tokenizer_in_memory_outlives_redis_data(redis: Redis) -> None:
    counters, card = (
        TokenCounters(ModelRegistry(redis)),
        ModelRegistry(redis).publish(CARD, word_tokenizer()),
    )
    assert counters.for_model(card)("a b c") == 3
    redis.flushall()
    assert counters.for_model(card)("a b c") == 3
    with pytest.raises(NotReady):
        counters.for_model(card.model_copy(update={"tokenizer_sha256": "0" * 64}))
