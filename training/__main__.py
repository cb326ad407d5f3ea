"""Train the bundled model with these commands, in this order:

    python -m training data          fetch and render the emoji, learn the vocabulary
    python -m training autoencoder   stage one
    python -m training diffusion     stage two
    python -m training decoder       the decoder alone, once more
    python -m training export        write the published layout
    python -m training card          write the card and the licences of a model
    python -m training enlarge       a first stage for images of twice the side
    python -m training continue      stage two once more, from the weights of the bundled model
    python -m training turbo         a LoRA for four steps, for a finished model
    python -m training pack          images as one archive, for `training/h200.sh`
    python -m training sample "red heart" pizza

Every stage can be stopped at any time, and resumes where it was when called again.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

import models
from models.checkpoints.meta import META
from models.loading.loader import load_model
from models.pipeline import LatentDiffusion
from models.text.tokenizer import Tokenizer
from training import checkpointing, data, vocabulary
from training.autoencoder_stage import AutoencoderStage, trained_autoencoder, with_scaling_factor
from training.card import StageRecord, card, licences
from training.continued import continue_training, image_size
from training.decoder_stage import DecoderStage, muted_hues, refine
from training.diffusion_stage import DiffusionStage, Examples, generate_grid
from training.enlarged import first_stage
from training.export import export
from training.icons.sets import fetch_packages
from training.latents import Latents
from training.presets import BUNDLED
from training.runner import Cadence, run
from training.tokens import CaptionTokens
from training.turbo.distillation import distil

BUNDLED_FOLDER = Path(models.__file__).parent / "bundled"
AUTOENCODER_BATCH = 16
ENLARGED_BATCH = 8
DIFFUSION_BATCH = 32


class WorkFolder:
    """Paths of the files that each step writes and later steps read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.packages = root / "icons"
        self.data = root / f"data-{BUNDLED.image_size}"
        self.tokenizer = root / "tokenizer"
        self.autoencoder = root / "autoencoder"
        self.latents = root / "latents.pt"
        self.diffusion = root / "diffusion"
        self.decoder = root / "decoder"


Step = Callable[[WorkFolder, argparse.Namespace], None]


def prepare_data(work: WorkFolder, options: argparse.Namespace) -> None:
    """Fetch, render and caption the emoji, and learn the vocabulary."""
    fetch_packages(work.packages)
    art = data.build(work.packages, BUNDLED.image_size)
    art.save(work.data)
    # Captions of images that are sampled more often get fewer tokens.
    texts = [
        text
        for texts, weight in zip(art.captions, art.weights, strict=True)
        for text in texts * max(1, round(weight))
    ]
    vocabulary.save(vocabulary.train(texts, BUNDLED.vocab_size), work.tokenizer)
    print(f"{len(art.pixels)} images of {BUNDLED.image_size} pixels in {work.data}")


def train_autoencoder(work: WorkFolder, options: argparse.Namespace) -> None:
    """Train the autoencoder, stage one."""
    art = data.EmojiImages.load(work.data)
    stage = AutoencoderStage(BUNDLED, art.pixels, AUTOENCODER_BATCH)
    run(stage, work.autoencoder, options.steps)


def train_diffusion(work: WorkFolder, options: argparse.Namespace) -> None:
    """Train the diffusion model, stage two, on latents that the first call computes."""
    run(diffusion_stage(work), work.diffusion, options.steps)


def train_decoder(work: WorkFolder, options: argparse.Namespace) -> None:
    """Train the decoder alone once more, on the latents of stage two."""
    art = data.EmojiImages.load(work.data)
    autoencoder = trained_autoencoder(BUNDLED, work.autoencoder / "checkpoint.pt")
    weights = muted_hues(art.pixels)
    latents = Latents.load(work.latents)
    stage = DecoderStage(autoencoder, latents, art.pixels, weights, AUTOENCODER_BATCH)
    run(stage, work.decoder, options.steps)


def diffusion_stage(work: WorkFolder) -> DiffusionStage:
    """Return stage two with untrained networks, on the results of the earlier steps."""
    art = data.EmojiImages.load(work.data)
    tokenizer = Tokenizer.from_folder(work.tokenizer)
    autoencoder = trained_autoencoder(BUNDLED, work.autoencoder / "checkpoint.pt")
    if not work.latents.exists():
        Latents.encode(autoencoder, art.pixels).save(work.latents)
    latents = Latents.load(work.latents)
    autoencoder = with_scaling_factor(autoencoder, latents.scaling_factor)
    captions = CaptionTokens.encode(tokenizer, art.captions)
    examples = Examples(latents, captions, torch.from_numpy(art.weights))
    return DiffusionStage(BUNDLED, examples, autoencoder, tokenizer, DIFFUSION_BATCH)


def trained_model(work: WorkFolder) -> LatentDiffusion:
    """Return the model with the averaged weights of the last checkpoints."""
    stage = diffusion_stage(work)
    checkpoint = work.diffusion / "checkpoint.pt"
    if checkpointing.resume(checkpoint, stage.generator, stage.parts()) == 0:
        raise FileNotFoundError(f"{checkpoint} is missing: train the diffusion stage first")
    stage.ema.swap()
    refine(stage.autoencoder, work.decoder / "checkpoint.pt")
    return stage.model()


def export_model(work: WorkFolder, options: argparse.Namespace) -> None:
    """Write the model in the published layout, its card and the licences."""
    model = trained_model(work)
    export(model, work.tokenizer, options.to)
    first = StageRecord.read(work.autoencoder / "log.jsonl", AUTOENCODER_BATCH)
    second = StageRecord.read(work.diffusion / "log.jsonl", DIFFUSION_BATCH)
    third = StageRecord.read(work.decoder / "log.jsonl", AUTOENCODER_BATCH)
    seen = {"autoencoder": first.seen, "diffusion": second.seen, "decoder": third.seen}
    checkpointing.write_images_seen(options.to, seen)
    measured = {
        "autoencoder": f"mean absolute error {first.losses['l1']:.4f} in [-1, 1]",
        "diffusion": f"mean squared error of v {second.losses['loss']:.4f}",
        "decoder": f"mean absolute error {third.losses['l1']:.4f}",
    }
    write_texts(work, options.to, measured)


def write_card(work: WorkFolder, options: argparse.Namespace) -> None:
    """Write the card and the licences of the model in a folder, as its parts are now."""
    write_texts(work, options.model, {})


def write_texts(work: WorkFolder, folder: Path, measured: Mapping[str, str]) -> None:
    """Write `README.md` and `LICENSES.md` of the model in `folder`."""
    model = load_model(str(folder), META, torch.float32)
    side = image_size(folder)
    images = len(data.kept_images(work.root, side).pixels)
    text = card(model, checkpointing.images_seen(folder), images, measured)
    (folder / "README.md").write_text(text, encoding="utf-8")
    (folder / "LICENSES.md").write_text(licences(work.packages, side), encoding="utf-8")


def enlarge(work: WorkFolder, options: argparse.Namespace) -> None:
    """Train a first stage for images of twice the side, on the latents of the present one."""
    art = data.kept_images(work.root, 2 * BUNDLED.image_size).every(options.every)
    folders = first_stage.Folders(options.model, work.root)
    budget = first_stage.Budget(
        options.steps, options.encoder_steps, options.batch, options.seconds
    )
    first_stage.train(folders, art, budget)


def continue_diffusion(work: WorkFolder, options: argparse.Namespace) -> None:
    """Train the diffusion model of a folder further, with a fresh optimiser."""
    art = data.kept_images(work.root, image_size(options.model)).every(options.every)
    folder = work.root / "continued"
    cadence = Cadence(limit_s=options.seconds)
    continue_training(options.model, art, folder, options.steps, options.batch, cadence)


def train_turbo(work: WorkFolder, options: argparse.Namespace) -> None:
    """Distil guidance and steps of a model into a LoRA in its folder."""
    art = data.kept_images(work.root, image_size(options.model)).every(options.every)
    cadence = Cadence(limit_s=options.seconds)
    distil(options.model, art, work.root / "turbo", options.steps, options.batch, cadence)


def pack(work: WorkFolder, options: argparse.Namespace) -> None:
    """Pack the images of twice the side for a machine that cannot render them."""
    data.kept_images(work.root, 2 * BUNDLED.image_size).pack(data.PACKED)
    print(f"{data.PACKED}: {data.PACKED.stat().st_size / 2**20:.1f} MiB")


def sample(work: WorkFolder, options: argparse.Namespace) -> None:
    """Generate an image for each prompt with the last checkpoint."""
    grid = generate_grid(
        trained_model(work), options.prompts, BUNDLED.image_size, seed=options.seed
    )
    grid.save(options.output)
    print(options.output)


def _steps(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is no number of steps, from 1")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
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
    first.add_argument("--steps", type=_steps, default=4000)
    second = add("diffusion", train_diffusion)
    second.add_argument("--steps", type=_steps, default=20000)
    third = add("decoder", train_decoder)
    third.add_argument("--steps", type=_steps, default=4000)
    written = add("export", export_model)
    written.add_argument("--to", type=Path, default=Path("var/training/model"))
    described = add("card", write_card)
    described.add_argument("--model", type=Path, default=BUNDLED_FOLDER, help="its folder")
    larger = add("enlarge", enlarge)
    larger.add_argument("--model", type=Path, default=BUNDLED_FOLDER, help="to start from")
    larger.add_argument("--steps", type=_steps, default=8000, help="of the decoder")
    larger.add_argument("--encoder-steps", type=_steps, default=1500)
    larger.add_argument("--batch", type=_steps, default=ENLARGED_BATCH)
    larger.add_argument("--seconds", type=float, default=math.inf, help="at most")
    further = add("continue", continue_diffusion)
    further.add_argument("--model", type=Path, default=BUNDLED_FOLDER, help="to start from")
    further.add_argument("--steps", type=_steps, default=8000)
    further.add_argument("--batch", type=_steps, default=DIFFUSION_BATCH)
    further.add_argument("--seconds", type=float, default=math.inf, help="at most")
    turbo = add("turbo", train_turbo)
    turbo.add_argument("--model", type=Path, default=BUNDLED_FOLDER, help="that gets the LoRA")
    turbo.add_argument("--steps", type=_steps, default=2000)
    turbo.add_argument("--batch", type=_steps, default=DIFFUSION_BATCH)
    turbo.add_argument("--seconds", type=float, default=math.inf, help="at most")
    for step in (larger, further, turbo):
        step.add_argument("--every", type=_steps, default=1, help="use each N-th image only")
    add("pack", pack)
    sampled = add("sample", sample)
    sampled.add_argument("prompts", nargs="+")
    sampled.add_argument("--seed", type=int, default=0)
    sampled.add_argument("-o", "--output", type=Path, default=Path("var/training/sample.png"))
    return whole


def main() -> None:
    """Run the step that the command line names."""
    arguments = parser()
    options = arguments.parse_args()
    output = getattr(options, "output", None)
    if output is not None and not os.access(output.parent, os.W_OK):
        arguments.error(f"--output is {output}, but {output.parent} is no writable folder")
    options.action(WorkFolder(options.work), options)


if __name__ == "__main__":
    main()
