"""The first stage for images of twice the side: its start, and a run from committed weights."""

from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.autoencoders.autoencoder_kl import AutoencoderKL
from models.checkpoints.checkpoint import save_component
from training.checkpointing import images_seen
from training.data import EmojiImages, averaged
from training.enlarged.first_stage import Budget, Folders, load_autoencoder, train
from training.enlarged.growth import config_of, enlarge
from training.presets import MINIATURE

SIDE = 2 * MINIATURE.image_size


@pytest.fixture
def trained() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(MINIATURE.autoencoder).eval().requires_grad_(False)


@pytest.fixture
def smooth_image() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(2, 3, 4, 4, generator=generator) * 2 - 1
    return F.interpolate(coarse, size=SIDE, mode="bicubic").clamp(-1, 1)


def test_enlarged_decoder_begins_as_an_enlargement(trained: AutoencoderKL) -> None:
    z = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    before, after = trained.decode(z), enlarge(trained).decode(z)
    assert after.shape == (2, 3, SIDE, SIDE)
    # All but the last convolution, which now meets repeated pixels, does the same.
    difference = F.avg_pool2d(after, 2) - before
    assert difference.std() < 0.7 * before.std()


def test_enlarged_encoder_begins_near_the_latents_of_the_smaller_image(
    trained: AutoencoderKL, smooth_image: torch.Tensor
) -> None:
    before = trained.encode(F.avg_pool2d(smooth_image, 2)).mode()
    after = enlarge(trained).encode(smooth_image).mode()
    assert after.shape == before.shape
    assert (after - before).std() < 0.7 * before.std()


def test_enlarged_autoencoder_is_that_of_diffusers(
    trained: AutoencoderKL, smooth_image: torch.Tensor, tmp_path: Path
) -> None:
    ours = enlarge(trained)
    stem = "diffusion_pytorch_model"
    save_component(ours, ours.config.to_dict(), tmp_path, stem, torch.float32)
    theirs = diffusers.AutoencoderKL.from_pretrained(tmp_path)
    assert theirs.config["sample_size"] == SIDE
    with torch.no_grad():
        posterior = theirs.encode(smooth_image).latent_dist
        decoded = theirs.decode(posterior.mean).sample
    mode = ours.encode(smooth_image).mode()
    torch.testing.assert_close(mode, posterior.mean, rtol=0, atol=1e-4)
    torch.testing.assert_close(ours.decode(mode), decoded, rtol=0, atol=1e-4)


def test_a_run_goes_on_from_the_weights_that_another_wrote(
    trained: AutoencoderKL, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (
        Folders(tmp_path / name, tmp_path / f"work of {name}") for name in ("small", "large")
    )
    stem = "diffusion_pytorch_model"
    save_component(trained, trained.config.to_dict(), first.model / "vae", stem, torch.float16)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (4, SIDE, SIDE, 3), dtype=np.uint8)
    art = EmojiImages(pixels, [["cat"]] * 4, np.ones(4), ["flat"] * 4)
    for folders in (first, second):
        folders.work.mkdir()

    train(first, art, Budget(decoder_steps=2, encoder_steps=1, batch=8))
    assert config_of(load_autoencoder(first.result / "vae")).sample_size == SIDE
    assert images_seen(first.result) == {"enlarged decoder": 16, "enlarged encoder": 8}

    first.result.rename(second.model)
    train(second, art, Budget(decoder_steps=1, encoder_steps=1, batch=8))
    assert images_seen(second.result) == {"enlarged decoder": 24, "enlarged encoder": 16}
    printed = capsys.readouterr().out
    assert "earlier runs: {'enlarged decoder': 16, 'enlarged encoder': 8}" in printed
    before, after = (load_autoencoder(path / "vae") for path in (second.model, second.result))
    moved = [
        (a - b).abs().max() for a, b in zip(before.parameters(), after.parameters(), strict=True)
    ]
    assert 0 < max(moved) < 0.1  # they go on from the weights, instead of from new ones


def test_images_are_averaged_over_squares() -> None:
    pixels = np.zeros((1, 4, 4, 3), np.uint8)
    pixels[0, :2, :2] = [[[0], [10]], [[20], [30]]]
    small = averaged(pixels, 2)
    assert small.shape == (1, 2, 2, 3)
    assert (small[0, 0, 0] == 15).all()
    assert small.sum() == 45
