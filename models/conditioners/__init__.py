"""Conditioners: prompts, classes or boxes to the conditioning of the network, one for each kind."""

from __future__ import annotations

from typing import Protocol

from models.conditioners.embedding_cache import EmbeddingCache
from models.denoising.denoiser import Conditioning
from models.denoising.sampling_params import SamplingParams
from models.text.tokenizer import Tokenizer


class Conditioner(Protocol):
    """Encoder of the prompts, classes or boxes of sampling parameters.

    `negative` is the conditioning that guidance leads away from; None without guidance.
    """

    @property
    def tokenizer(self) -> Tokenizer | None:
        """Return the tokenizer that counts the tokens of a prompt; None without prompts."""

    @property
    def embeddings(self) -> EmbeddingCache:
        """Return the cache of encoded prompts."""

    def positive(self, params: SamplingParams) -> Conditioning: ...

    def negative(self, params: SamplingParams) -> Conditioning | None: ...
