"""Prompts for the text encoder of the paper's own models (Rombach et al. 2022, section 4.3)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from models.conditioners.embedding_cache import EmbeddingCache
from models.denoising.denoiser import Conditioning
from models.denoising.sampling_params import SamplingParams
from models.networks.bert import BertEncoder
from models.text.emphasis import apply_emphasis
from models.text.tokenizer import Tokenizer, align_rows
from models.text.weighted_prompt import WeightedPrompt


@dataclass(frozen=True)
class BertConditioner:
    """Encoder of prompts in rows of 77 tokens, encoded separately and joined."""

    tokenizer: Tokenizer
    encoder: BertEncoder
    device: torch.device
    embeddings: EmbeddingCache = field(default_factory=EmbeddingCache)

    def positive(self, params: SamplingParams) -> Conditioning:
        return self.embeddings.get(WeightedPrompt.of(params.prompt), self._encode)

    def negative(self, params: SamplingParams) -> Conditioning:
        return self.embeddings.get(WeightedPrompt.of(params.negative_prompt), self._encode)

    @torch.inference_mode()
    def _encode(self, prompt: WeightedPrompt) -> Conditioning:
        [rows] = align_rows([self.tokenizer], prompt)
        context = self.encoder(torch.tensor(rows.ids, device=self.device))
        if prompt.weighted:
            context = apply_emphasis(context, torch.tensor(rows.weights, device=self.device))
        return Conditioning(context.flatten(0, 1))
