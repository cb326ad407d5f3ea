"""Generate the example images of docs/api.md: python -m bench.docs.inpainting

It writes docs/images/inpainting.png: an image of the bundled model, its mask, and the image
inpainted with one option each, by the code of the service and the worker. No image was selected.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from bench.docs.gallery import sheet, with_defaults
from models.denoising.sampling_params import SamplingParams
from models.loading.loader import load_model
from models.pipeline import LatentDiffusion
from protocol.request.generation_params import GenerationParams
from service.images.inpainting import InpaintingOptions, ShapedMask, compose
from worker.engine.inputs import MASKED_NOISE
from worker.engine.pixels import grey_tensor, image_tensor
from worker.model_info.model_card import model_card
from worker.output.paste import paste

OUTPUT = Path(__file__).parents[2] / "docs/images/inpainting.png"
SEED = 7
COLUMNS = 6
BEFORE, AFTER = "star", "blue heart"
RADIUS = 34  # of the mask, in pixels
LESS = 0.7  # the strength where the content of the mask matters
OPTIONS: dict[str, dict[str, Any]] = {
    "no option": {},
    "mask_blur 8": {"mask_blur": 8},
    "mask_grow 12": {"mask_grow": 12},
    "mask_invert": {"mask_invert": True},
    "soft, blur 16": {"mask_mode": "soft", "mask_blur": 16},
    "inpaint_area masked": {"inpaint_area": "masked", "mask_padding": 4},
    f"strength {LESS}, original": {"strength": LESS},
    f"strength {LESS}, fill": {"strength": LESS, "masked_content": "fill"},
    f"strength {LESS}, noise": {"strength": LESS, "masked_content": "noise"},
    f"strength {LESS}, nothing": {"strength": LESS, "masked_content": "nothing"},
}


def main() -> None:
    model = load_model("bundled")
    before, after = (with_defaults(model_card(model, "bundled"), p, SEED) for p in (BEFORE, AFTER))
    image = generated(model, before)
    mask = disc(image.size)
    shown = [image, mask.convert("RGB")]
    for fields in OPTIONS.values():
        params = GenerationParams.model_validate({"strength": 1.0, **fields})
        changed = replace(after, strength=params.strength or 1.0)
        shown.append(inpainted(model, changed, image, mask, params))
    sheet(shown, (BEFORE, "mask", *OPTIONS), COLUMNS).save(OUTPUT, optimize=True)
    print(OUTPUT)


def disc(size: tuple[int, int]) -> Image.Image:
    width, height = size
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).circle((width / 2, height / 2), RADIUS, fill=255)
    return mask


def generated(model: LatentDiffusion, params: SamplingParams) -> Image.Image:
    *_, [state] = model.generate([params])
    return Image.fromarray(model.decode(state.x[None])[0].numpy())


def inpainted(
    model: LatentDiffusion,
    params: SamplingParams,
    image: Image.Image,
    mask: Image.Image,
    asked: GenerationParams,
) -> Image.Image:
    """Return `image` inpainted as the service and a worker do it, always with a paste."""
    options = InpaintingOptions.of(asked)
    shaped = ShapedMask.of(mask, options)
    found = compose(image, shaped, options, (params.width, params.height))
    changed = replace(
        params,
        image=image_tensor(found.image.png),
        mask=grey_tensor(found.mask.png),
        soft_mask=options.soft,
        masked_noise=MASKED_NOISE.get(asked.masked_content),
    )
    *_, [state] = model.generate([changed])
    pixels = model.decode(torch.stack([state.x]))[0].numpy()
    files = {file.record.key: file.png for file in found.pasted}
    return Image.fromarray(paste(pixels, found.paste, files).pixels)


if __name__ == "__main__":
    main()
