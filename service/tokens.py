"""How many tokens a text has, by the very tokenizer of the model: so a bound in tokens is exact."""

import threading
from collections.abc import Callable

from tokenizers import Tokenizer

from protocol.catalogue import Catalogue, ModelCard
from protocol.errors import NotReady


class TokenCounters:
    """One tokenizer per model, read from the catalogue when first needed and when it changes."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._tokenizers: dict[str, Tokenizer] = {}  # by digest
        self._loading = threading.Lock()

    def has(self, card: ModelCard) -> bool:
        """Whether the model's tokenizer is here already, so that `for_model` asks nobody."""
        return card.tokenizer_sha256 in self._tokenizers

    def for_model(self, card: ModelCard) -> Callable[[str], int]:
        """Text -> tokens without the end marks."""
        with self._loading:
            tokenizer = self._tokenizers.get(card.tokenizer_sha256)
            if tokenizer is None:
                tokenizer = self._load(card.name)
                self._tokenizers[card.tokenizer_sha256] = tokenizer
        return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)

    def _load(self, model: str) -> Tokenizer:
        found = self._catalogue.tokenizer_json(model)
        if found is None:
            raise NotReady(f"the tokenizer of {model} has not been published")
        tokenizer = Tokenizer.from_str(found)
        tokenizer.no_truncation()  # a cut text would always seem short enough
        tokenizer.no_padding()
        return tokenizer
