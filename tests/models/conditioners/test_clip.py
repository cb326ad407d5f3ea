"""CLIP encodings of weighted, broken and skipped prompts, against the references."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from shutil import copytree
from typing import Any

import diffusers
import pytest
import torch
import transformers
from torch import Tensor

from models.checkpoints.checkpoint import save_component
from models.conditioners.clip import ClipConditioner, max_clip_skip
from models.denoising.sampling_params import SamplingParams
from models.loading.loader import load_model
from models.networks.config import TextEncoderConfig
from models.networks.text_encoder import TextEncoder
from models.pipeline import LatentDiffusion
from models.text.emphasis import apply_emphasis
from models.text.weighted_prompt import WeightedPrompt
from protocol.request.prompts import parse_prompt

LAYERS = 5  # of the deeper encoders; those of the tiny models have too few to skip any


def conditioner(model: LatentDiffusion) -> ClipConditioner:
    assert isinstance(model.conditioner, ClipConditioner)
    return model.conditioner


def deepen(folder: Path) -> Path:
    """Add layers with large random weights to every text encoder in `folder`."""
    torch.manual_seed(4)
    for config_file in folder.glob("text_encoder*/config.json"):
        encoded = json.loads(config_file.read_text()) | {"num_hidden_layers": LAYERS}
        config = TextEncoderConfig.from_dict(encoded)
        encoder = TextEncoder(config)
        for parameter in encoder.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        save_component(encoder, config.to_dict(), config_file.parent, "model", torch.float32)
    return folder


@pytest.fixture(scope="module")
def deep_sd(tiny_sd_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deepen(copytree(tiny_sd_folder, tmp_path_factory.mktemp("deep") / "sd"))


@pytest.fixture(scope="module")
def deep_sdxl(tiny_sdxl_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deepen(copytree(tiny_sdxl_folder, tmp_path_factory.mktemp("deep") / "sdxl"))


def theirs(pipeline: Any, folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pipeline.from_pretrained(folder)


def ours(folder: Path) -> ClipConditioner:
    return conditioner(load_model(str(folder), torch.device("cpu")))


@pytest.fixture(scope="module")
def sd(deep_sd: Path) -> ClipConditioner:
    return ours(deep_sd)


@pytest.fixture(scope="module")
def sdxl(deep_sdxl: Path) -> ClipConditioner:
    return ours(deep_sdxl)


def test_clip_skip_is_that_of_diffusers(deep_sd: Path, sd: ClipConditioner) -> None:
    pipe = theirs(diffusers.StableDiffusionPipeline, deep_sd)
    # diffusers expects the final norm where transformers had it before its fifth version.
    object.__setattr__(pipe.text_encoder, "text_model", pipe.text_encoder)
    assert max_clip_skip(sd) == LAYERS - 1
    seen = []
    for skip in range(LAYERS):
        expected, _ = pipe.encode_prompt("the red cat", "cpu", 1, False, clip_skip=skip or None)
        context = sd.encode("the red cat", skip).context
        assert context is not None
        torch.testing.assert_close(context, expected[0], rtol=1e-4, atol=1e-5)
        seen.append(context)
    assert all(not torch.allclose(a, b, atol=0.01) for a, b in pairwise(seen))


def test_clip_skip_of_sdxl_is_that_of_diffusers(deep_sdxl: Path, sdxl: ClipConditioner) -> None:
    pipe = theirs(diffusers.StableDiffusionXLPipeline, deep_sdxl)
    assert max_clip_skip(sdxl) == LAYERS - 2
    for skip in range(LAYERS - 1):
        expected, _, pooled, _ = pipe.encode_prompt(
            "the red cat", None, "cpu", 1, False, clip_skip=skip or None
        )
        encoded = sdxl.encode("the red cat", skip)
        torch.testing.assert_close(encoded.context, expected[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(encoded.pooled, pooled[0], rtol=1e-4, atol=1e-5)


def test_the_negative_prompt_leaves_out_the_same_layers(sd: ClipConditioner) -> None:
    params = SamplingParams("the cat", "red", clip_skip=2)
    assert sd.negative(params).context is sd.encode("red", 2).context
    assert sd.positive(params).context is sd.encode("the cat", 2).context


def expected_context(
    folder: Path, suffix: str, pieces: Sequence[tuple[str, float]], layer: int | None
) -> Tensor:
    """Return transformers' encoding of pieces tokenised separately, weighted by hand: (77, D)."""
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / f"tokenizer{suffix}")
    kind = transformers.CLIPTextModelWithProjection if suffix else transformers.CLIPTextModel
    encoder = kind.from_pretrained(folder / f"text_encoder{suffix}")
    ids, weights = [tokenizer.bos_token_id], [1.0]
    for text, weight in pieces:
        encoded = tokenizer(text, add_special_tokens=False).input_ids
        ids += encoded
        weights += [weight] * len(encoded)
    ids += [tokenizer.eos_token_id] + [tokenizer.pad_token_id] * (76 - len(ids))
    weights += [1.0] * (77 - len(weights))
    with torch.no_grad():
        features = encoder(torch.tensor([ids]), output_hidden_states=True)
    hidden = features.last_hidden_state if layer is None else features.hidden_states[layer]
    scaled = hidden[0].double() * torch.tensor(weights, dtype=torch.float64)[:, None]
    return scaled * (hidden.double().mean() / scaled.mean())


WEIGHTED = [("the ", 1.0), ("red", 1.3), (" cat", 0.7), ("!", 1.5)]


def test_weights_scale_and_the_mean_stays(deep_sd: Path, sd: ClipConditioner) -> None:
    context = sd.encode(WeightedPrompt((tuple(WEIGHTED),))).context
    plain = sd.encode("the red cat!").context
    assert context is not None
    assert plain is not None
    expected = expected_context(deep_sd, "", WEIGHTED, None)
    torch.testing.assert_close(context.double(), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(context, plain, atol=0.01)
    torch.testing.assert_close(context.mean(), plain.mean())


def test_weights_act_on_both_encoders_of_sdxl(deep_sdxl: Path, sdxl: ClipConditioner) -> None:
    encoded = sdxl.encode(WeightedPrompt((tuple(WEIGHTED),)))
    parts = [expected_context(deep_sdxl, suffix, WEIGHTED, -2) for suffix in ("", "_2")]
    assert encoded.context is not None
    torch.testing.assert_close(encoded.context.double(), torch.cat(parts, -1), rtol=1e-4, atol=1e-5)
    pooled = sdxl.encode("the red cat!").pooled
    assert encoded.pooled is not None
    assert pooled is not None
    assert encoded.pooled.equal(pooled)


@pytest.mark.parametrize(
    "text", ["the (red:1) cat", "the ([red]) cat", r"the red cat", "(the:1.0) red cat"]
)
def test_weights_of_one_change_nothing(sd: ClipConditioner, text: str) -> None:
    plain = sd.encode("the red cat")
    before = sd.embeddings.misses
    assert sd.encode(WeightedPrompt(parse_prompt(text).sections)) is plain
    assert sd.embeddings.misses == before, "what says the same is encoded once"


def test_other_weights_or_sections_are_encoded_again(sd: ClipConditioner) -> None:
    contexts = [
        sd.encode("the cat").context,
        sd.encode(WeightedPrompt(((("the cat", 1.2),),))).context,
        sd.encode("the cat", 1).context,
        sd.encode(WeightedPrompt(((("the ", 1.0),), (("cat", 1.0),)))).context,
    ]
    assert len({id(context) for context in contexts}) == 4


def test_break_begins_a_row(sd: ClipConditioner) -> None:
    context = sd.encode(WeightedPrompt(parse_prompt("the red BREAK cat").sections)).context
    rows = [sd.encode(text).context for text in ("the red", "cat")]
    assert context is not None
    torch.testing.assert_close(context, torch.cat([row for row in rows if row is not None]))


def test_a_section_has_as_many_rows_in_both_encoders(sdxl: ClipConditioner) -> None:
    # "!!!" is one token to the first tokenizer and three to the second, which pads with "!".
    context = sdxl.encode(WeightedPrompt(parse_prompt("!!! " * 30 + "BREAK cat").sections)).context
    alone = sdxl.encode("cat").context
    assert context is not None
    assert alone is not None
    assert context.shape[0] == 3 * 77
    torch.testing.assert_close(context[-77:], alone)


def test_empty_weighted_prompt_is_an_empty_prompt(
    sdxl: ClipConditioner, tiny_sdxl: LatentDiffusion
) -> None:
    nothing = WeightedPrompt(parse_prompt("<lora:ink:1>").sections)
    negative = conditioner(tiny_sdxl).negative(SamplingParams("the cat", nothing))
    assert negative.context is not None
    assert not negative.context.any()
    assert sdxl.encode(nothing) is sdxl.encode("")


def test_half_precision_stays_half() -> None:
    context = torch.randn(2, 77, 8).half() - 3
    weights = torch.ones(2, 77)
    weights[1, 3:9] = 1.4
    out = apply_emphasis(context, weights)
    assert out.dtype == torch.float16
    assert out[0].equal(context[0]), "a row of ones stays bit for bit"
    assert not out[1].equal(context[1])


def test_mean_near_zero_is_not_restored() -> None:
    context = torch.ones(3, 4, 2)
    context[:, 1:] = -0.3
    weights = torch.ones(3, 4)
    weights[1, 0], weights[2, 0] = -1.0, 0.9  # the mean turns its sign, and all but vanishes
    out = apply_emphasis(context, weights)
    assert out[1].equal(context[1] * weights[1, :, None])
    assert out[2].equal(context[2] * weights[2, :, None])
