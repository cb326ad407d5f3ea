"""Generate the example images of the bundled model: python -m bench.docs.gallery

It writes one image for each prompt, with the prompt below and seed 7: docs/images/bundled.png with
the model's default settings, docs/images/turbo.png with its LoRA for four steps. No image was
selected by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from models.denoising.sampling_params import SamplingParams
from models.loading.loader import BUNDLED, load_model
from models.lora.merging import layers_of, with_loras
from models.lora.reading import read_lora
from models.lora.recommended import recommended
from models.pipeline import LatentDiffusion
from protocol.request.model_card import ModelCard
from worker.model_info.model_card import model_card

FOLDER = Path(__file__).parents[2] / "docs/images"
TURBO = BUNDLED / "loras/turbo.safetensors"
SEED = 7
COLUMNS = 8
MARGIN, LABEL = 12, 22  # pixels around an image, and below it for its prompt
PROMPTS = (
    "red heart", "pizza", "crescent moon", "cat face", "sunflower", "rocket", "red apple", "ghost",
    "birthday cake", "snowman", "robot", "blue car", "house", "christmas tree", "fire", "star",
    "penguin", "hamburger", "rainbow", "smiling face", "tropical fish", "crown", "mushroom", "key",
)  # fmt: skip


def main() -> None:
    model = load_model("bundled")
    card = model_card(model, "bundled")
    params = [with_defaults(card, prompt, SEED) for prompt in PROMPTS]
    save(model, params, "bundled")
    save(with_turbo(model), [for_turbo(each) for each in params], "turbo")


def save(model: LatentDiffusion, params: Sequence[SamplingParams], name: str) -> None:
    """Write the sheet of the images of `PROMPTS`."""
    *_, last = model.generate(params)
    latents = torch.stack([state.x for state in last])
    images = [Image.fromarray(pixels) for pixels in model.decode(latents).numpy()]
    output = FOLDER / f"{name}.png"
    sheet(images, PROMPTS).save(output, optimize=True)
    print(output)


def with_turbo(model: LatentDiffusion) -> LatentDiffusion:
    """Return the bundled model with its LoRA for four steps."""
    return with_loras(model, [(read_lora(TURBO, layers_of(model)), 1.0)])


def for_turbo(params: SamplingParams) -> SamplingParams:
    """Return the parameters with the settings that the LoRA was trained for."""
    settings = recommended(TURBO, TURBO.stem)
    assert settings is not None
    return replace(params, **asdict(settings))


def with_defaults(card: ModelCard, prompt: str, seed: int) -> SamplingParams:
    """Return the parameters of a request that has only a prompt and a seed."""
    return SamplingParams(
        prompt,
        width=card.default_width,
        height=card.default_height,
        steps=card.default_steps,
        sampler=card.default_sampler,
        schedule=card.default_schedule,
        guidance_scale=card.default_guidance_scale,
        seed=seed,
    )


def sheet(
    images: list[Image.Image], labels: tuple[str, ...], columns: int = COLUMNS
) -> Image.Image:
    """Return all images in rows on white, each above its label."""
    side = images[0].width
    width, height = side + 2 * MARGIN, side + MARGIN + LABEL
    rows = -(-len(images) // columns)
    page = Image.new("RGB", (columns * width, rows * height + MARGIN), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        left, top = i % columns * width + MARGIN, i // columns * height + MARGIN
        page.paste(image, (left, top))
        pen.text((left + side / 2, top + side + 4), label, "#444", font, anchor="ma")
    return page


if __name__ == "__main__":
    main()
