"""Model card and tokenizer of the worker in `tests.observability.fake_gpu_worker`."""

from __future__ import annotations

from tokenizers import Tokenizer, models, pre_tokenizers

from protocol.registry.tokenizer import PublishedTokenizer
from protocol.request.model_card import ModelCard

CARD = ModelCard(
    name="fake",
    family="test",
    default_width=64,
    default_height=64,
    min_side=16,
    max_side=256,
    max_pixels=256 * 256,
    default_steps=4,
    samplers=("ddim",),
    schedules=("leading",),
    default_sampler="ddim",
    default_schedule="leading",
)


def word_tokenizer() -> str:
    """Return a tokenizer that makes a token of every word."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PublishedTokenizer(backend=tokenizer.to_str()).model_dump_json()
