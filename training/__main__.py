"""The bundled model from nothing, one command after the other:

    python -m training data          fetch and render the emoji, learn the vocabulary
    python -m training autoencoder   stage one
    python -m training diffusion     stage two
    python -m training decoder       the decoder alone, once more
    python -m training export        write the published layout
    python -m training sample "red heart" pizza

Every stage can be stopped at any time and goes on where it was when called again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

import models
from models.pipeline import LatentDiffusion
from models.text.tokenizer import Tokenizer
from training import checkpointing, data, icons, vocabulary
from training.autoencoder_stage import AutoencoderStage, trained_autoencoder, with_scaling_factor
from training.card import StageRecord, card, licences
from training.decoder_stage import DecoderStage, muted_hues, refine
from training.diffusion_stage import DiffusionStage, Examples, draw
from training.export import export
from training.latents import Latents
from training.presets import BUNDLED
from training.runner import run
from training.tokens import CaptionTokens

AUTOENCODER_BATCH = 16
DIFFUSION_BATCH = 32


class Workplace:
    """Where each step leaves what the next one needs."""

    def __init__(self, root: Path) -> None:
        self.packages = root / "icons"
        self.data = root / f"data-{BUNDLED.image_size}"
        self.tokenizer = root / "tokenizer"
        self.autoencoder = root / "autoencoder"
        self.latents = root / "latents.pt"
        self.diffusion = root / "diffusion"
        self.decoder = root / "decoder"


Step = Callable[[Workplace, argparse.Namespace], None]


def prepare_data(work: Workplace, options: argparse.Namespace) -> None:
    """Fetch, render, caption, and learn the vocabulary."""
    icons.fetch_packages(work.packages)
    art = data.build(work.packages, BUNDLED.image_size)
    art.save(work.data)
    # What is drawn more often is also spelled in fewer tokens.
    texts = [
        text
        for texts, weight in zip(art.captions, art.weights, strict=True)
        for text in texts * max(1, round(weight))
    ]
    vocabulary.save(vocabulary.train(texts, BUNDLED.vocab_size), work.tokenizer)
    print(f"{len(art.pixels)} drawings of {BUNDLED.image_size} pixels in {work.data}")


def train_autoencoder(work: Workplace, options: argparse.Namespace) -> None:
    """Stage one."""
    art = data.EmojiArt.load(work.data)
    stage = AutoencoderStage(BUNDLED, art.pixels, AUTOENCODER_BATCH)
    run(stage, work.autoencoder, options.steps)


def train_diffusion(work: Workplace, options: argparse.Namespace) -> None:
    """Stage two, on latents that are computed on the first call."""
    run(diffusion_stage(work), work.diffusion, options.steps)


def train_decoder(work: Workplace, options: argparse.Namespace) -> None:
    """Afterwards: the decoder alone, on the latents of stage two."""
    art = data.EmojiArt.load(work.data)
    autoencoder = trained_autoencoder(BUNDLED, work.autoencoder / "checkpoint.pt")
    weights = muted_hues(art.pixels)
    latents = Latents.load(work.latents)
    stage = DecoderStage(autoencoder, latents, art.pixels, weights, AUTOENCODER_BATCH)
    run(stage, work.decoder, options.steps)


def diffusion_stage(work: Workplace) -> DiffusionStage:
    """Stage two as untrained networks over the results of the steps before."""
    art = data.EmojiArt.load(work.data)
    tokenizer = Tokenizer.from_folder(work.tokenizer)
    autoencoder = trained_autoencoder(BUNDLED, work.autoencoder / "checkpoint.pt")
    if not work.latents.exists():
        Latents.encode(autoencoder, art.pixels).save(work.latents)
    latents = Latents.load(work.latents)
    autoencoder = with_scaling_factor(autoencoder, latents.scaling_factor)
    captions = CaptionTokens.encode(tokenizer, art.captions)
    examples = Examples(latents, captions, torch.from_numpy(art.weights))
    return DiffusionStage(BUNDLED, examples, autoencoder, tokenizer, DIFFUSION_BATCH)


def trained_model(work: Workplace) -> LatentDiffusion:
    """The model with the averaged weights of the last checkpoints."""
    stage = diffusion_stage(work)
    checkpoint = work.diffusion / "checkpoint.pt"
    if checkpointing.resume(checkpoint, stage.generator, stage.parts()) == 0:
        raise FileNotFoundError(f"{checkpoint} is missing: train the diffusion stage first")
    stage.ema.swap()
    refine(stage.autoencoder, work.decoder / "checkpoint.pt")
    return stage.model()


def export_model(work: Workplace, options: argparse.Namespace) -> None:
    """Write the published layout, the card and the licences."""
    model = trained_model(work)
    export(model, work.tokenizer, options.to)
    first = StageRecord.read(work.autoencoder / "log.jsonl", AUTOENCODER_BATCH)
    second = StageRecord.read(work.diffusion / "log.jsonl", DIFFUSION_BATCH)
    drawings = len(data.EmojiArt.load(work.data).pixels)
    third = StageRecord.read(work.decoder / "log.jsonl", AUTOENCODER_BATCH)
    text = card(model, first, second, third, drawings)
    (options.to / "README.md").write_text(text, encoding="utf-8")
    text = licences(work.packages, BUNDLED.image_size)
    (options.to / "LICENSES.md").write_text(text, encoding="utf-8")


def sample(work: Workplace, options: argparse.Namespace) -> None:
    """Draw prompts with the last checkpoint."""
    picture = draw(trained_model(work), options.prompts, BUNDLED.image_size, seed=options.seed)
    picture.save(options.output)
    print(options.output)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    whole = argparse.ArgumentParser(
        prog="python -m training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument(
        "--work", type=Path, default=Path("var/training"), help="ignored work folder"
    )
    steps = whole.add_subparsers(required=True, metavar="STEP")

    def add(name: str, action: Step) -> argparse.ArgumentParser:
        step = steps.add_parser(name, help=(action.__doc__ or "").splitlines()[0])
        step.set_defaults(action=action)
        return step

    add("data", prepare_data)
    first = add("autoencoder", train_autoencoder)
    first.add_argument("--steps", type=int, default=4000)
    second = add("diffusion", train_diffusion)
    second.add_argument("--steps", type=int, default=20000)
    third = add("decoder", train_decoder)
    third.add_argument("--steps", type=int, default=4000)
    written = add("export", export_model)
    written.add_argument("--to", type=Path, default=Path(models.__file__).parent / "bundled")
    drawn = add("sample", sample)
    drawn.add_argument("prompts", nargs="+")
    drawn.add_argument("--seed", type=int, default=0)
    drawn.add_argument("-o", "--output", type=Path, default=Path("var/training/sample.png"))
    return whole


def main() -> None:
    """Run the step that the command line names."""
    options = parser().parse_args()
    options.action(Workplace(options.work), options)


if __name__ == "__main__":
    main()
