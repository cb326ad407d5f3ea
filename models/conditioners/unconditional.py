"""Conditioners of networks without prompts: of nothing, of a class, of boxes with classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isqrt

import torch

from models.conditioners.embedding_cache import EmbeddingCache
from models.denoising.denoiser import Conditioning
from models.denoising.sampling_params import Box, SamplingParams
from models.networks.bert import BertEncoder
from models.networks.embedders import ClassEmbedder

# Rows in the table of cin256, which was trained without guidance: one for each class of ImageNet.
# cin256-v2 has one more, for none of them.
_UNGUIDED = 1000


@dataclass(frozen=True)
class Unconditional:
    """Conditioner of a network without any conditioning."""

    tokenizer: None = None
    embeddings: EmbeddingCache = field(default_factory=EmbeddingCache)

    def positive(self, params: SamplingParams) -> Conditioning:
        return Conditioning(None)

    def negative(self, params: SamplingParams) -> None:
        """Return None: there is no guidance."""


@dataclass(frozen=True)
class ClassConditioner:
    """One token of context for a class (Rombach et al. 2022, section 4.3).

    Guidance leads away from the class that stands for none.
    """

    embedder: ClassEmbedder
    device: torch.device
    tokenizer: None = None
    embeddings: EmbeddingCache = field(default_factory=EmbeddingCache)

    @property
    def classes(self) -> int:
        rows = self.embedder.config.n_classes
        return rows if rows == _UNGUIDED else rows - 1

    @property
    def guided(self) -> bool:
        return self.classes < self.embedder.config.n_classes

    def positive(self, params: SamplingParams) -> Conditioning:
        return self._embed(params.class_id)

    def negative(self, params: SamplingParams) -> Conditioning | None:
        return self._embed(self.embedder.unconditional) if self.guided else None

    @torch.inference_mode()
    def _embed(self, class_id: int) -> Conditioning:
        return Conditioning(self.embedder(torch.tensor([class_id], device=self.device))[0])


@dataclass(frozen=True)
class LayoutConditioner:
    """Boxes as a row of tokens (Rombach et al. 2022, section 4.3.1).

    The encoding is that of CompVis/taming-transformers (conditional_builder/objects_bbox.py), which
    gives the published 92 tokens of a vocabulary of 8192: three for each of 30 objects (its class,
    its left upper and its right lower corner), padded with the last token, and two for the crop of
    the image, which here is the whole image. A corner is a position on a square grid with as many
    positions as there are tokens.
    """

    encoder: BertEncoder
    device: torch.device
    tokenizer: None = None
    embeddings: EmbeddingCache = field(default_factory=EmbeddingCache)

    @property
    def max_boxes(self) -> int:
        return (self.encoder.config.max_position_embeddings - 2) // 3

    @property
    def classes(self) -> int:
        """Return the number of classes that the vocabulary has room for.

        Each has sixteen tokens, for objects that are groups, occluded, depicted or seen from
        inside. The meaning of the classes was never published.
        """
        return self.encoder.config.vocab_size // 16

    def positive(self, params: SamplingParams) -> Conditioning:
        return self._encode(params.boxes)

    def negative(self, params: SamplingParams) -> None:
        """Return None: the published model has no guidance, as it was not trained without boxes."""

    def tokens(self, boxes: tuple[Box, ...]) -> list[int]:
        """Encode at most `max_boxes` boxes in their order."""
        none = self.encoder.config.vocab_size - 1
        objects = [token for box in boxes for token in (box.class_id, *self._corners(box))]
        padding = [none] * (3 * self.max_boxes - len(objects))
        return [*objects, *padding, *self._corners(Box(0, 0.0, 0.0, 1.0, 1.0))]

    def _corners(self, box: Box) -> tuple[int, int]:
        right, lower = min(box.x + box.width, 1.0), min(box.y + box.height, 1.0)
        return self._position(box.x, box.y), self._position(right, lower)

    def _position(self, x: float, y: float) -> int:
        side = isqrt(self.encoder.config.vocab_size)
        return round(y * (side - 1)) * side + round(x * (side - 1))

    @torch.inference_mode()
    def _encode(self, boxes: tuple[Box, ...]) -> Conditioning:
        ids = torch.tensor([self.tokens(boxes)], device=self.device)
        return Conditioning(self.encoder(ids)[0])
