"""Generate the example images of the README: python -m bench.docs.gallery

It writes docs/images/bundled.png: one image of the bundled model for each prompt, with the prompt
below, seed 7 and the model's default settings. No image was selected by hand.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from models.denoising.sampling_params import SamplingParams
from models.loading.loader import load_model
from protocol.request.model_card import ModelCard
from worker.model_info.model_card import model_card

OUTPUT = Path(__file__).parents[2] / "docs/images/bundled.png"
SEED = 7
COLUMNS = 8
SCALE = 2  # each pixel of the small images becomes 2 × 2
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
    *_, last = model.generate(params)
    latents = torch.stack([state.x for state in last])
    images = [Image.fromarray(pixels) for pixels in model.decode(latents).numpy()]
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    sheet(images, PROMPTS).save(OUTPUT, optimize=True)
    print(OUTPUT)


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
    images: list[Image.Image], labels: tuple[str, ...], columns: int = COLUMNS, scale: int = SCALE
) -> Image.Image:
    """Return all images in rows on white, each above its label."""
    side = scale * images[0].width
    width, height = side + 2 * MARGIN, side + MARGIN + LABEL
    rows = -(-len(images) // columns)
    page = Image.new("RGB", (columns * width, rows * height + MARGIN), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        left, top = i % columns * width + MARGIN, i // columns * height + MARGIN
        page.paste(image.resize((side, side), Image.Resampling.LANCZOS), (left, top))
        pen.text((left + side / 2, top + side + 4), label, "#444", font, anchor="ma")
    return page


if __name__ == "__main__":
    main()
