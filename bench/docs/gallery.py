"""The pictures of the README, drawn by the bundled model: python -m bench.docs.gallery

Writes docs/images/bundled.png: one picture a prompt with its words below, seed 7, the model's own
defaults, nothing chosen by hand.
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
SCALE = 2  # the pictures are small: each of their pixels becomes 2 × 2
MARGIN, LABEL = 12, 22  # pixels around a picture, and below it for its words
PROMPTS = (
    "red heart", "pizza", "crescent moon", "cat face", "sunflower", "rocket", "red apple", "ghost",
    "birthday cake", "snowman", "robot", "blue car", "house", "christmas tree", "fire", "star",
    "penguin", "hamburger", "rainbow", "smiling face", "tropical fish", "crown", "mushroom", "key",
)  # fmt: skip


def main() -> None:
    model = load_model("bundled")
    card = model_card(model, "bundled")
    recipes = [with_defaults(card, prompt, SEED) for prompt in PROMPTS]
    *_, last = model.generate(recipes)
    pictures = [Image.fromarray(p) for p in model.decode(torch.stack([t.x for t in last])).numpy()]
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    sheet(pictures, PROMPTS).save(OUTPUT, optimize=True)
    print(OUTPUT)


def with_defaults(card: ModelCard, prompt: str, seed: int) -> SamplingParams:
    """What a client gets who says no more than a prompt and a seed."""
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


def sheet(pictures: list[Image.Image], words: tuple[str, ...]) -> Image.Image:
    """All pictures in rows on white, each above its words."""
    side = SCALE * pictures[0].width
    width, height = side + 2 * MARGIN, side + MARGIN + LABEL
    rows = -(-len(pictures) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * width, rows * height + MARGIN), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for i, (picture, text) in enumerate(zip(pictures, words, strict=True)):
        left, top = i % COLUMNS * width + MARGIN, i // COLUMNS * height + MARGIN
        page.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (left, top))
        pen.text((left + side / 2, top + side + 4), text, "#444", font, anchor="ma")
    return page


if __name__ == "__main__":
    main()
