"""All stages on a miniature model: losses fall, and a resumed run equals an uninterrupted one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models.autoencoders.autoencoder_kl import AutoencoderKL
from models.text.tokenizer import Tokenizer
from training import checkpointing, vocabulary
from training.autoencoder_stage import AutoencoderStage, trained_autoencoder
from training.decoder_stage import DecoderStage, refine
from training.diffusion_stage import DiffusionStage, Examples
from training.enlarged.decoder_stage import SharpDecoderStage
from training.enlarged.encoder_stage import EncoderStage
from training.enlarged.growth import enlarge
from training.latents import Latents
from training.presets import MINIATURE
from training.runner import Cadence, Stage, run
from training.tokens import CaptionTokens

CAPTIONS = [["red heart", "a red heart"], ["pizza"], ["moon", "crescent moon", "a moon"]]
BATCH = 4


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    texts = [text for texts in CAPTIONS for text in texts] * 4
    vocabulary.save(vocabulary.train(texts, MINIATURE.vocab_size), folder)
    return Tokenizer.from_folder(folder)


def pixels() -> np.ndarray:
    """Return three flat images in red, green and blue."""
    return np.eye(3, dtype=np.uint8)[:, None, None, :].repeat(16, 1).repeat(16, 2) * 255


def autoencoder_stage() -> AutoencoderStage:
    return AutoencoderStage(MINIATURE, pixels(), BATCH)


def diffusion_stage(tokenizer: Tokenizer) -> DiffusionStage:
    torch.manual_seed(0)
    autoencoder = AutoencoderKL(MINIATURE.autoencoder)
    latents = Latents.encode(autoencoder, pixels())
    captions = CaptionTokens.encode(tokenizer, CAPTIONS)
    examples = Examples(latents, captions, torch.ones(3))
    return DiffusionStage(MINIATURE, examples, autoencoder, tokenizer, BATCH)


def decoder_stage() -> DecoderStage:
    torch.manual_seed(0)
    autoencoder = AutoencoderKL(MINIATURE.autoencoder).requires_grad_(False)
    latents = Latents.encode(autoencoder, pixels())
    return DecoderStage(autoencoder, latents, pixels(), torch.ones(3), BATCH)


def enlarged() -> tuple[AutoencoderKL, Latents, np.ndarray]:
    """Return an enlarged autoencoder, the latents of the one before, and larger pixels."""
    torch.manual_seed(0)
    autoencoder = AutoencoderKL(MINIATURE.autoencoder).requires_grad_(False)
    latents = Latents.encode(autoencoder, pixels())
    return enlarge(autoencoder), latents, pixels().repeat(2, 1).repeat(2, 2)


def sharp_decoder_stage() -> SharpDecoderStage:
    return SharpDecoderStage(*enlarged(), torch.ones(3), BATCH)


def encoder_stage() -> EncoderStage:
    return EncoderStage(*enlarged(), BATCH)


@pytest.fixture(params=["autoencoder", "diffusion", "decoder", "sharp decoder", "encoder"])
def make_stage(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Callable[[], Stage]:
    match request.param:
        case "autoencoder":
            return autoencoder_stage
        case "decoder":
            return decoder_stage
        case "sharp decoder":
            return sharp_decoder_stage
        case "encoder":
            return encoder_stage
        case _:
            return lambda: diffusion_stage(tokenizer)


def test_steps_on_one_batch_lower_its_loss(make_stage: Callable[[], Stage]) -> None:
    stage = make_stage()
    losses = []
    for step in range(1000, 1010):  # after the warm-up
        stage.generator.manual_seed(5)  # the same images, captions, timesteps and noise
        losses.append(next(iter(stage.step(step, 10_000).values())))
    assert losses[-1] < losses[0]


def test_resumed_run_takes_the_same_steps(make_stage: Callable[[], Stage], tmp_path: Path) -> None:
    """Half of the steps use the discriminator, so that its state is tested too."""
    whole, total = make_stage(), 8
    expected = [whole.step(step, total) for step in range(total)]
    stopped = make_stage()
    for step in range(5):
        stopped.step(step, total)
    path = tmp_path / "checkpoint.pt"
    checkpointing.save(path, 5, stopped.generator, stopped.parts())
    resumed = make_stage()
    resumed.generator.manual_seed(99)
    assert checkpointing.resume(path, resumed.generator, resumed.parts()) == 5
    assert [resumed.step(step, total) for step in range(5, total)] == expected[5:]
    for name, part in whole.parts().items():
        torch.testing.assert_close(
            resumed.parts()[name].state_dict(), part.state_dict(), rtol=0, atol=0
        )


def test_run_writes_a_log_grids_and_a_checkpoint(
    make_stage: Callable[[], Stage], tmp_path: Path
) -> None:
    cadence = Cadence(grid_steps=2, log_steps=1)
    run(make_stage(), tmp_path, 3, cadence)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 3
    assert {path.name for path in (tmp_path / "grids").iterdir()} == {"0000002.png", "0000003.png"}
    again = make_stage()
    run(again, tmp_path, 3, cadence)
    assert checkpointing.resume(tmp_path / "checkpoint.pt", again.generator, again.parts()) == 3


def test_run_without_checkpoint_starts_at_step_zero(tmp_path: Path) -> None:
    assert checkpointing.resume(tmp_path / "none.pt", torch.Generator(), {}) == 0


def test_trained_autoencoder_has_the_averaged_weights(tmp_path: Path) -> None:
    stage = autoencoder_stage()
    run(stage, tmp_path, 2)
    loaded = trained_autoencoder(MINIATURE, tmp_path / "checkpoint.pt")
    for loaded_parameter, average in zip(loaded.parameters(), stage.ema.averages, strict=True):
        assert torch.equal(loaded_parameter, average)


def test_refined_decoder_is_averaged_and_the_encoder_unchanged(tmp_path: Path) -> None:
    stage = decoder_stage()
    encoder = {name: t.clone() for name, t in stage.autoencoder.encoder.state_dict().items()}
    run(stage, tmp_path, 12, Cadence(grid_steps=100, save_s=0))
    assert all(
        torch.equal(t, encoder[n]) for n, t in stage.autoencoder.encoder.state_dict().items()
    )
    refined = AutoencoderKL(MINIATURE.autoencoder)
    refine(refined, tmp_path / "checkpoint.pt")
    stage.ema.swap()
    ours, theirs = refined.decoder.state_dict(), stage.autoencoder.decoder.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_scaled_latents_have_unit_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, std = torch.randn(64, 4, 8, 8) * 3 + 1, torch.full((64, 4, 8, 8), 0.5)
    sample = Latents(mean, std).sample(torch.arange(64), generator)
    assert sample.std().item() == pytest.approx(1, abs=0.02)


def test_captions_are_sampled_from_their_own_image(tokenizer: Tokenizer) -> None:
    captions = CaptionTokens.encode(tokenizer, CAPTIONS)
    generator = torch.Generator().manual_seed(0)
    chosen = torch.arange(3).repeat(50)
    for index, ids in zip(chosen.tolist(), captions.sample(chosen, 0.0, generator), strict=True):
        assert ids.tolist() in [tokenizer.rows(text)[0] for text in CAPTIONS[index]]
    assert (captions.sample(chosen, 1.0, generator) == captions.empty).all()


def test_the_first_caption_is_sampled_most(tokenizer: Tokenizer) -> None:
    captions = CaptionTokens.encode(tokenizer, CAPTIONS)
    chosen = torch.full((3000,), 2)
    rows = captions.sample(chosen, 0.0, torch.Generator().manual_seed(0)).tolist()
    counts = [rows.count(tokenizer.rows(text)[0]) for text in CAPTIONS[2]]
    # Of three captions the square of a uniform number chooses the first with sqrt(1/3).
    assert counts[0] / 3000 == pytest.approx((1 / 3) ** 0.5, abs=0.03)
    assert counts[0] > counts[1] > counts[2] > 0
