"""What an operator adds while a worker runs is on the card soon after."""

from __future__ import annotations

import redis

from protocol.registry.model_registry import ModelRegistry
from tests.protocol.records import CARD
from worker.model_info.extra_networks import Additions, Offer


def test_a_card_is_told_anew_when_something_was_added(redis_url: str) -> None:
    there: list[str] = ["first"]
    other = CARD.model_copy(update={"name": "other"})
    offers = [Offer(CARD, "{}", {"loras": lambda: tuple(there)}), Offer(other, "")]
    with redis.Redis.from_url(redis_url) as connection:
        catalogue = ModelRegistry(connection)
        additions = Additions(connection, offers)
        assert [(card.loras, tokenizer) for card, tokenizer in additions.cards()] == [
            (("first",), "{}"),
            ((), ""),
        ]
        additions.look()
        assert catalogue.cards() == {}  # nothing has changed since
        there.append("second")
        additions.look()
        assert list(catalogue.cards()) == [CARD.name]
        assert catalogue.cards()[CARD.name].loras == ("first", "second")
        assert catalogue.tokenizer_json(CARD.name) == "{}"
        catalogue.withdraw(CARD.name)
        additions.look()
        assert catalogue.cards() == {}
        there.clear()
        additions.look()
        assert catalogue.cards()[CARD.name].loras == ()
