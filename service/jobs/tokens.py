"""How many tokens a text has, by the very tokenizer of the model: so a bound in tokens is exact."""

import threading
from collections.abc import Callable

from tokenizers import Tokenizer

from protocol.errors import NotReady
from protocol.registry.model_registry import ModelRegistry
from protocol.registry.tokenizer import PublishedTokenizer, clean
from protocol.request.model_card import ModelCard


class TokenCounters:
    """One counter per model, made from the catalogue when first needed and when it changes."""

    def __init__(self, catalogue: ModelRegistry) -> None:
        self._catalogue = catalogue
        self._counters: dict[str, Callable[[str], int]] = {}  # by digest
        self._loading = threading.Lock()

    def has(self, card: ModelCard) -> bool:
        """Whether the model's tokenizer is here already, so that `for_model` asks nobody."""
        return card.tokenizer_sha256 in self._counters

    def for_model(self, card: ModelCard) -> Callable[[str], int]:
        """Text -> tokens without the end marks."""
        with self._loading:
            counter = self._counters.get(card.tokenizer_sha256)
            if counter is None:
                counter = self._load(card.name)
                self._counters[card.tokenizer_sha256] = counter
        return counter

    def _load(self, model: str) -> Callable[[str], int]:
        found = self._catalogue.tokenizer_json(model)
        if found is None:
            raise NotReady(f"the tokenizer of {model} has not been published")
        if not found:
            return lambda text: 0  # a model that reads no words
        return counter_of(PublishedTokenizer.model_validate_json(found))


def counter_of(published: PublishedTokenizer) -> Callable[[str], int]:
    """Text -> tokens, to the text encoder that finds most in it."""
    counters = [TokenCounter(each) for each in (published, *published.others)]
    return lambda text: max(count(text) for count in counters)


class TokenCounter:
    """Counts the tokens of texts by one published tokenizer, without its `others`."""

    def __init__(self, published: PublishedTokenizer) -> None:
        self._published = published
        self._backend = Tokenizer.from_str(published.backend)
        self._backend.no_truncation()  # a cut text would always seem short enough
        self._backend.no_padding()

    def __call__(self, text: str) -> int:
        said = clean(text) if self._published.cleaned else text
        ids = self._backend.encode(said, add_special_tokens=False).ids
        learned = self._published.learned
        return sum(learned.get(i, 1) for i in ids) if learned else len(ids)
