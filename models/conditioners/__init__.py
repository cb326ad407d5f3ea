"""What tells the network which picture is wanted: one conditioner for each kind of model."""

from __future__ import annotations

from typing import Protocol

from models.conditioners.embedding_cache import EmbeddingCache
from models.denoising.denoiser import Conditioning
from models.denoising.sampling_params import SamplingParams
from models.text.tokenizer import Tokenizer


class Conditioner(Protocol):
    """Reads a recipe's words, classes or boxes; `negative` is what the picture is guided away from,
    if there is anything of the kind."""

    @property
    def tokenizer(self) -> Tokenizer | None:
        """What counts the tokens of a prompt; None where there are no prompts."""

    @property
    def embeddings(self) -> EmbeddingCache:
        """What was read before."""

    def positive(self, recipe: SamplingParams) -> Conditioning: ...

    def negative(self, recipe: SamplingParams) -> Conditioning | None: ...
