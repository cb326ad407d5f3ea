"""The Japanese Stable Diffusion with small networks, against diffusers with the same weights.

Its published pipeline is Stable Diffusion's with a T5Tokenizer and prompts in lower case
(repository rinnakk/japanese-stable-diffusion).
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import diffusers
import pytest
import torch
import transformers

from models.checkpoints.checkpoint import save_component
from models.denoising.sampling_params import SamplingParams
from models.loading.loader import load_model
from models.networks.config import TextEncoderConfig
from models.networks.text_encoder import TextEncoder
from models.pipeline import LatentDiffusion
from tests.models.pipeline.test_pipeline import assert_same_image, ours
from tests.models.text.test_vocabularies import write_sentence_pieces
from tests.support.tiny_models import CONTEXT, write_tiny_sd


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tiny_sd(tmp_path_factory.mktemp("japanese"))
    for file in (folder / "tokenizer").iterdir():
        file.unlink()
    write_sentence_pieces(folder / "tokenizer")
    pieces = transformers.T5Tokenizer.from_pretrained(folder / "tokenizer")
    torch.manual_seed(7)
    config = TextEncoderConfig(
        vocab_size=len(pieces),
        hidden_size=CONTEXT,
        intermediate_size=2 * CONTEXT,
        num_hidden_layers=3,
        num_attention_heads=4,
        eos_token_id=2,  # as published; the pooled text is unused
    )
    encoder = TextEncoder(config)
    save_component(encoder, config.to_dict(), folder / "text_encoder", "model", torch.float32)
    index = json.loads((folder / "model_index.json").read_text())
    index |= {
        "_class_name": "JapaneseStableDiffusionPipeline",
        "tokenizer": ["transformers", "T5Tokenizer"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> LatentDiffusion:
    return load_model(str(folder), torch.device("cpu"))


@pytest.fixture(scope="module")
def reference(folder: Path) -> diffusers.StableDiffusionPipeline:
    tokenizer = transformers.T5Tokenizer.from_pretrained(folder / "tokenizer")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder, tokenizer=tokenizer)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize(
    ("prompt", "negative"),
    [("サラリーマン 油絵", ""), ("東京のネコ、Oil Painting", "雨と CAT"), ("🐱", "")],
)
def test_images_equal_diffusers(
    model: LatentDiffusion,
    reference: diffusers.StableDiffusionPipeline,
    prompt: str,
    negative: str,
) -> None:
    params = SamplingParams(
        prompt, negative, width=48, height=32, steps=4, sampler="plms", schedule="leading",
        guidance_scale=7.5, seed=3,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = reference(
            prompt=prompt.lower(),
            negative_prompt=negative.lower() or None,
            width=48,
            height=32,
            num_inference_steps=4,
            guidance_scale=7.5,
            generator=torch.Generator().manual_seed(3),
            output_type="np",
        ).images[0]
    assert_same_image(ours(model, params), (expected * 255).round().astype("uint8"))


def test_prompt_changes_the_image(model: LatentDiffusion) -> None:
    all_params = [SamplingParams(text, width=16, height=16, steps=1) for text in ("猫", "犬")]
    cat, dog = (model.conditioner.positive(params).context for params in all_params)
    assert cat is not None
    assert dog is not None
    assert not torch.allclose(cat, dog, atol=0.01)
