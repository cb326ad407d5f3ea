"""Generate the example images of docs/api.md: python -m bench.docs.outpainting

It writes docs/images/outpainting.png: images of the bundled model, each before and after it is
outpainted by the code of a worker, with the same prompt and seed. No image was selected.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench.docs.gallery import MARGIN, PROMPTS, SEED, with_defaults
from models.loading.loader import load_model
from models.pipeline import LatentDiffusion
from protocol.queue.job import Timings
from protocol.request.generation_params import GenerationParams, InputImage
from protocol.request.model_card import ModelCard
from protocol.request.object_keys import input_key
from protocol.request.resolve import resolve
from protocol.request.tasks import Task
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.interfaces import AdmittedJob, JobListener, Pixels
from worker.model_info.model_card import model_card

OUTPUT = Path(__file__).parents[2] / "docs/images/outpainting.png"
BORDERS = {"left": 80, "right": 80}
COUNT = 4  # of the first prompts of the gallery


class Collector(JobListener):
    """Keeps the image of a job."""

    pixels: Pixels

    def on_image(self, index: int, pixels: Pixels, seed: int) -> None:
        self.pixels = pixels

    def on_done(self, timings: Timings) -> None:
        """Do nothing: there is one image."""

    def on_error(self, error: Exception) -> None:
        raise error


def main() -> None:
    model = load_model("bundled")
    card = model_card(model, "bundled")
    before = [generated(model, card, prompt) for prompt in PROMPTS[:COUNT]]
    pairs = [
        (image, outpainted(model, card, prompt, image))
        for prompt, image in zip(PROMPTS, before, strict=False)
    ]
    sheet(pairs).save(OUTPUT, optimize=True)
    print(OUTPUT)


def generated(model: LatentDiffusion, card: ModelCard, prompt: str) -> Pixels:
    *_, [state] = model.generate([with_defaults(card, prompt, SEED)])
    pixels: Pixels = model.decode(torch.stack([state.x]))[0].numpy()
    return pixels


def outpainted(model: LatentDiffusion, card: ModelCard, prompt: str, image: Pixels) -> Pixels:
    """Return the image with its borders, as the engine generates it."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    height, width, _ = image.shape
    record = InputImage(key=input_key(file.getvalue()), width=width, height=height)
    fields: dict[str, Any] = {"prompt": prompt, "seed": SEED, **BORDERS}
    params = GenerationParams.model_validate(fields)
    request = resolve(Task.OUTPAINT, params, card, lambda text: 0, record)
    engine = DiffusionEngine({card.name: unmeasured(model, 1)}, max_slots=1)
    collector = Collector()
    engine.admit(AdmittedJob("example", request, file.getvalue(), None, collector))
    while not engine.idle:
        engine.step()
    return collector.pixels


def sheet(pairs: list[tuple[Pixels, Pixels]]) -> Image.Image:
    """Return the pairs in two columns on white, the smaller image in the middle of its place."""
    height, width, _ = np.asarray(pairs[0][1]).shape
    rows = -(-len(pairs) // 2)
    size = (4 * (width + MARGIN) + MARGIN, rows * (height + MARGIN) + MARGIN)
    page = Image.new("RGB", size, "white")
    for n, pixels in enumerate(one for pair in pairs for one in pair):
        image = Image.fromarray(pixels)
        left, top = n % 4 * (width + MARGIN) + MARGIN, n // 4 * (height + MARGIN) + MARGIN
        page.paste(image, (left + (width - image.width) // 2, top + (height - image.height) // 2))
    return page


if __name__ == "__main__":
    main()
