"""Stage two from the weights of a published folder."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.autoencoders.autoencoder_kl import AutoencoderKL
from models.loading.loader import load_model
from models.text.tokenizer import Tokenizer
from training import vocabulary
from training.autoencoder_stage import with_scaling_factor
from training.checkpointing import images_seen
from training.continued import continue_training, continued_stage
from training.data import EmojiImages
from training.diffusion_stage import DiffusionStage, Examples
from training.export import export
from training.latents import Latents
from training.presets import MINIATURE
from training.tokens import CaptionTokens

CAPTIONS = [["red heart", "a red heart"], ["pizza"], ["moon", "crescent moon"]]
SIDE = MINIATURE.image_size


@pytest.fixture
def art() -> EmojiImages:
    pixels = np.random.default_rng(0).integers(0, 255, (3, SIDE, SIDE, 3), dtype=np.uint8)
    return EmojiImages(pixels, CAPTIONS, np.ones(3), ["flat"] * 3)


@pytest.fixture
def published(tmp_path: Path, art: EmojiImages) -> Path:
    """Return the folder of an untrained miniature, with a scaling factor of its own."""
    texts = [text for texts in CAPTIONS for text in texts] * 4
    vocabulary.save(vocabulary.train(texts, MINIATURE.vocab_size), tmp_path / "tokenizer")
    tokenizer = Tokenizer.from_folder(tmp_path / "tokenizer")
    torch.manual_seed(0)
    autoencoder = with_scaling_factor(AutoencoderKL(MINIATURE.autoencoder), 0.7)
    autoencoder.requires_grad_(False)
    latents = Latents.encode(autoencoder, art.pixels)
    captions = CaptionTokens.encode(tokenizer, CAPTIONS)
    examples = Examples(latents, captions, torch.ones(3))
    stage = DiffusionStage(MINIATURE, examples, autoencoder, tokenizer, 2)
    export(stage.model(), tmp_path / "tokenizer", tmp_path / "published")
    return tmp_path / "published"


def test_it_begins_with_the_published_weights_and_scale(published: Path, art: EmojiImages) -> None:
    stage = continued_stage(published, art, batch_size=2)
    model = load_model(str(published), torch.device("cpu"), torch.float32)
    expected = dict(model.unet.named_parameters())
    for (name, parameter), average in zip(
        stage.unet.named_parameters(), stage.ema.averages, strict=False
    ):
        assert torch.equal(parameter, expected[name])
        assert torch.equal(average, expected[name])
    assert stage.examples.latents.scaling_factor == 0.7


def test_every_run_goes_on_and_counts_its_images(
    published: Path, art: EmojiImages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    continue_training(published, art, tmp_path / "first", steps=3, batch_size=2)
    assert images_seen(tmp_path / "first" / "model") == {"diffusion": 6}
    continue_training(tmp_path / "first" / "model", art, tmp_path / "second", 1, batch_size=4)
    assert "earlier runs: {'diffusion': 6}" in capsys.readouterr().out
    assert images_seen(tmp_path / "second" / "model") == {"diffusion": 10}
    model = load_model(str(tmp_path / "second" / "model"), torch.device("cpu"))
    assert model.autoencoder.config.scaling_factor == 0.7
