"""Parts that the translations of both versions share."""

import hashlib
import secrets
from dataclasses import dataclass

from anyio import to_thread
from fastapi import Request

from protocol.errors import InvalidRequest
from protocol.queue.idempotency import HEADER
from protocol.request.inpainting import InpaintArea, ResizeMode
from protocol.request.model_card import ModelCard
from protocol.request.sizes import Size
from protocol.request.tasks import Task
from service.dialects.sizes import size_of_edit
from service.dialects.stability.fields import SEED_END
from service.routes.deps import Services
from service.schemas.body_parser import Fields

MASK_STRENGTH = 1.0  # what is marked fully is generated anew


@dataclass(frozen=True)
class Translation:
    """A request in our fields; `names` are the client's names of them."""

    task: Task
    fields: Fields
    names: dict[str, str]


def seed_field(asked: int, images: int, request: Request) -> Fields:
    """Return the first seed, so that those of all images have 32 bits; 0 means a random one.

    A retry with the same Idempotency-Key must be the same request, so it gets the same seed.
    """
    seeds = SEED_END - images + 1
    if asked >= seeds:
        bound = f"at most {seeds - 1}, so that the seed of each of {images} images has 32 bits"
        raise InvalidRequest("seed", asked, bound, "out-of-range")
    if asked:
        return {"seed": asked}
    key = request.headers.get(HEADER)
    if key is None:
        return {"seed": secrets.randbelow(seeds)}
    return {"seed": int.from_bytes(hashlib.sha256(key.encode()).digest()) % seeds}


def style_fields(preset: str | None, card: ModelCard) -> Fields:
    """Return the LoRA that has the name of a style preset. Raises `InvalidRequest` without one."""
    if preset is None:
        return {}
    if preset not in card.loras:
        bound = (
            f"left out: {card.name} has no style presets but LoRAs of such a name, and no "
            f"{preset}; a prompt can name a style"
        )
        raise InvalidRequest("style_preset", preset, bound, "not-supported")
    return {"loras": [{"name": preset, "weight": 1.0}]}


async def image_size(field: str, data: bytes, services: Services) -> Size:
    """Return the size of an uploaded image. Raises `InvalidRequest`."""
    images = services.submitter.images
    file = await to_thread.run_sync(images.open, field, data, limiter=services.decoding)
    return file.size


async def fitted_fields(task: Task, image: bytes, card: ModelCard, services: Services) -> Fields:
    """Return our fields by which an image of any size gets one that the model can generate.

    An image out of bounds is changed in the model's best size of its aspect; inpainting keeps it
    and generates only the area around the mask.
    """
    size = size_of_edit(await image_size("image", image, services), card)
    if size is None:
        return {}
    if task is Task.INPAINT:
        return {"inpaint_area": InpaintArea.MASKED.value}
    return {"width": size[0], "height": size[1], "resize_mode": ResizeMode.CROP.value}
