"""Measure the bundled model: what its images show, how sharp they are, how near to icons.

    python -m training.evaluate              the bundled model
    python -m training.evaluate --model F    that of the folder F
    python -m training.evaluate --quick      a few names, to see that it works

It generates four images for each of 300 names, which takes some minutes; latents are kept in the
work folder and used again while the networks that made them are the same. It prints the figures as
JSON, stores them in `bench/results/evaluation-LABEL.json` if there is a label, and writes a sheet
of the first seeds and one of the failures to the work folder.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.conditioners.clip import text_stages
from models.loading.loader import load_model
from models.lora.merging import layers_of, with_loras
from models.lora.reading import read_lora
from models.pipeline import LatentDiffusion
from training.data import EmojiImages, kept_images
from training.device import training_device
from training.evaluate import classifier as icon_classifier
from training.evaluate.classifier import SIDE, Classifier
from training.evaluate.figures import figures
from training.evaluate.generation import Generation, decode, generate, resized
from training.evaluate.icon_classes import IconClasses, class_names
from training.evaluate.names import Name, read_names, sample_names
from training.evaluate.sheets import sheet

CLASSIFIER = Path(__file__).with_name("classifier.safetensors")
RESULTS = Path(__file__).parents[2] / "bench" / "results"
QUICK = Generation(seeds=1, steps=4)
QUICK_NAMES = 12
FAILURES = 60


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--model", default="bundled", help="folder of the model")
    options.add_argument("--lora", type=Path, help="file of a LoRA, with strength 1")
    options.add_argument("--steps", type=int, default=Generation.steps)
    options.add_argument("--guidance-scale", type=float, default=Generation.guidance_scale)
    options.add_argument("--sampler", default=Generation.sampler)
    options.add_argument("--label", help="name of the stored result")
    options.add_argument("--quick", action="store_true", help="a few names, one seed, four steps")
    options.add_argument("--work", type=Path, default=Path("var/training"))
    options.add_argument("--classifier", type=Path, default=CLASSIFIER)
    options.add_argument(
        "--train-classifier", type=int, metavar="STEPS", help="train the classifier again first"
    )
    return options


def main(arguments: list[str] | None = None) -> None:
    """Evaluate the model that the command line names."""
    given = parser().parse_args(arguments)
    art = kept_images(given.work, 2 * SIDE)
    if given.train_classifier:
        train_classifier(art, given.train_classifier).save(given.classifier)
    classifier = Classifier.load(given.classifier)
    names, how = (
        read_names(),
        Generation(steps=given.steps, guidance_scale=given.guidance_scale, sampler=given.sampler),
    )
    if given.quick:
        names, how = sample_names(names, QUICK_NAMES), QUICK
    model = load_model(given.model, training_device(), torch.float32)
    if given.lora:
        model = with_loras(model, [(read_lora(given.lora, layers_of(model)), 1.0)])
    folder = given.work / "evaluation"
    latents, seconds = kept_latents(model, names, how, folder)
    pixels = decode(model, latents)
    _, logits = classifier.judge(resized(pixels, SIDE))
    measured = figures(classifier, art, names, pixels, logits)
    label = given.label or "last"
    write_sheets(folder, label, names, pixels, right(classifier, names, logits))
    result = {
        "benchmark": "evaluation",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "names": len(names),
        "seeds": how.seeds,
        "steps": how.steps,
        "guidance_scale": how.guidance_scale,
        "sampler": how.sampler,
        "side": pixels.shape[1],
        "ms_per_latent": round(1000 * seconds / len(latents), 1),
        **measured,
    }
    line = json.dumps(result)
    if given.label:
        (RESULTS / f"evaluation-{label}.json").write_text(line + "\n", encoding="utf-8")
    print(line)


def train_classifier(art: EmojiImages, steps: int) -> Classifier:
    """Train the classifier on all styles but those that are held out."""
    names = class_names(art)
    found = IconClasses.of(art, names)
    pixels = resized(art.pixels[found.training], SIDE)
    return icon_classifier.train(names, pixels, found.classes[found.training], steps)


def kept_latents(
    model: LatentDiffusion, names: list[Name], how: Generation, folder: Path
) -> tuple[Tensor, float]:
    """Return the latents of all names and the seconds they took.

    They are read from the file of an earlier run if nothing changed.
    """
    fingerprint = sha256(repr((how, [name.prompt for name in names])).encode())
    (stage,) = text_stages(model.conditioner)
    for parameter in (*model.unet.parameters(), *stage.encoder.parameters()):
        fingerprint.update(parameter.detach().cpu().numpy().tobytes())
    file = folder / f"latents-{fingerprint.hexdigest()[:16]}.pt"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        latents = generate(model, [name.prompt for name in names], how)
        torch.save({"latents": latents, "seconds": time.perf_counter() - started}, file)
    kept = torch.load(file, weights_only=True)
    return kept["latents"], kept["seconds"]


def right(classifier: Classifier, names: list[Name], logits: Tensor) -> list[bool]:
    """Return, for each name, if its first image is of the right class by the best five."""
    seeds = len(logits) // len(names)
    best = logits[::seeds].topk(5, dim=1).indices.tolist()
    return [
        name.label in {classifier.names[i] for i in row}
        for name, row in zip(names, best, strict=True)
    ]


def write_sheets(
    folder: Path, label: str, names: list[Name], pixels: np.ndarray, recognised: list[bool]
) -> None:
    """Write sheets of the first seeds of all names, and of those that are not recognised."""
    first = pixels[:: len(pixels) // len(names)]
    sheet(first, [name.prompt for name in names]).save(folder / f"{label}-first-seeds.png")
    failed = [i for i, good in enumerate(recognised) if not good][:FAILURES]
    if failed:
        prompts = [names[i].prompt for i in failed]
        sheet(first[failed], prompts).save(folder / f"{label}-failures.png")


if __name__ == "__main__":
    main()
