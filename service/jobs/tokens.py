"""Token counts by the tokenizer of the model, so that a limit in tokens is exact."""

import threading
from collections.abc import Callable

from tokenizers import Tokenizer

from protocol.errors import NotReady
from protocol.registry.model_registry import ModelRegistry, digest
from protocol.registry.tokenizer import PublishedTokenizer, clean
from protocol.request.model_card import ModelCard

MAX_COUNTERS = 100  # loaded; tokenizers change with the embeddings that an operator adds


class TokenCounters:
    """Token counters, one per tokenizer, loaded from the registry on first use and on change.

    Those loaded longest ago are dropped beyond `MAX_COUNTERS`.
    """

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry
        self._counters: dict[str, Callable[[str], int]] = {}  # by digest
        self._loading = threading.Lock()

    def has(self, card: ModelCard) -> bool:
        """Return True if the model's tokenizer is loaded, so that `for_model` does not block."""
        return card.tokenizer_sha256 in self._counters

    def for_model(self, card: ModelCard) -> Callable[[str], int]:
        """Return a function that counts the tokens of a text, without start and end tokens."""
        with self._loading:
            counter = self._counters.get(card.tokenizer_sha256)
            if counter is None:
                published = self._registry.tokenizer_json(card.name)
                if published is None:
                    raise NotReady(f"the tokenizer of {card.name} has not been published")
                # By its own digest: the card may be older, from a moment ago.
                counter = self._counters[digest(published)] = _counter_of(published)
                while len(self._counters) > MAX_COUNTERS:
                    del self._counters[next(iter(self._counters))]
        return counter


def _counter_of(published: str) -> Callable[[str], int]:
    if not published:
        return lambda text: 0  # a model that takes no prompt
    return counter_of(PublishedTokenizer.model_validate_json(published))


def counter_of(published: PublishedTokenizer) -> Callable[[str], int]:
    """Return a function that counts tokens: the largest count over all text encoders."""
    counters = [TokenCounter(each) for each in (published, *published.others)]
    return lambda text: max(count(text) for count in counters)


class TokenCounter:
    """Token counter of one published tokenizer, without its `others`."""

    def __init__(self, published: PublishedTokenizer) -> None:
        self._published = published
        self._backend = Tokenizer.from_str(published.backend)
        self._backend.no_truncation()  # a truncated text would never exceed the limit
        self._backend.no_padding()

    def __call__(self, text: str) -> int:
        cleaned = clean(text) if self._published.cleaned else text
        ids = self._backend.encode(cleaned, add_special_tokens=False).ids
        learned = self._published.learned
        return sum(learned.get(i, 1) for i in ids) if learned else len(ids)
