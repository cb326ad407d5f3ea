"""Prompt syntax for the paper's own text encoder, with the same meaning as for CLIP."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.conditioners.bert import BertConditioner
from models.denoising.sampling_params import SamplingParams
from models.networks.bert import BertConfig, BertEncoder
from models.text.tokenizer import Tokenizer
from models.text.weighted_prompt import WeightedPrompt
from protocol.request.prompts import parse_prompt


@pytest.fixture(scope="module")
def conditioner(tmp_path_factory: pytest.TempPathFactory) -> BertConditioner:
    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "red", "cat"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizerFast"}')
    torch.manual_seed(0)
    encoder = BertEncoder(
        BertConfig(
            vocab_size=len(words), d_model=16, encoder_layers=2, encoder_attention_heads=2,
            encoder_ffn_dim=32, max_position_embeddings=77,
        )
    )  # fmt: skip
    for parameter in encoder.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return BertConditioner(Tokenizer.from_folder(folder), encoder.eval(), torch.device("cpu"))


def context(conditioner: BertConditioner, text: str) -> Tensor:
    encoded = conditioner.positive(
        SamplingParams(WeightedPrompt(parse_prompt(text).sections))
    ).context
    assert encoded is not None
    return encoded


def test_weights_scale_and_the_mean_stays(conditioner: BertConditioner) -> None:
    plain = context(conditioner, "the red cat")
    scaled = plain.clone()
    scaled[2] *= 1.5  # after [CLS] and "the"
    expected = scaled * (plain.mean() / scaled.mean())
    torch.testing.assert_close(context(conditioner, "the (red:1.5) cat"), expected)


def test_break_begins_a_row(conditioner: BertConditioner) -> None:
    both = torch.cat([context(conditioner, "the red"), context(conditioner, "cat")])
    torch.testing.assert_close(context(conditioner, "the red BREAK cat"), both)


def test_string_equals_its_weighted_prompt(conditioner: BertConditioner) -> None:
    encoded = conditioner.negative(SamplingParams("", "the cat")).context
    assert encoded is context(conditioner, "(the cat:1.0)")
