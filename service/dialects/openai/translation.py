"""Translation of OpenAI's requests: from their fields and files to ours."""

from dataclasses import dataclass

from anyio import to_thread

from protocol.errors import InvalidRequest
from protocol.request.inpainting import MaskSource
from protocol.request.model_card import ModelCard
from protocol.request.sizes import Size, size_text
from protocol.request.tasks import Task
from service.dialects.diffusion_fields import extra_fields
from service.dialects.openai.model_names import card_for, stands_for_default
from service.dialects.openai.requests import EditsRequest, ImagesRequest
from service.dialects.openai.sizes import asked_size, possible_size
from service.dialects.openai.uploads import IMAGE, MARKUP, MASK, UploadedFiles
from service.dialects.sizes import asked_ratio, best_size, fitted, sides
from service.images.edit_images import mask_of_transparency, overlaid, side_by_side
from service.images.image_file import ImageFile
from service.images.input_images import InputImages
from service.routes.deps import Services
from service.schemas.body_parser import Fields

RATIOS = ("aspect_ratio", "aspectRatio")
MASK_STRENGTH = 1.0  # OpenAI's models generate the marked part anew
# In the API of this model the transparent part of an image without a mask is the mask.
MASKED_BY_ALPHA = "dall-e-2"
# Our names of fields and OpenAI's.
NAMES = {"quality": "output_compression", "response": "response_format"}


@dataclass(frozen=True)
class Translation:
    """A request in our fields; `names` are the client's names of them.

    `image_size`: that of the one image that is changed.
    """

    task: Task
    fields: Fields
    names: dict[str, str]
    card: ModelCard
    image_size: Size | None = None


@dataclass(frozen=True)
class _Opened:
    """The images of an edit with their headers read."""

    images: list[ImageFile]
    mask: ImageFile | None
    markup: ImageFile | None


async def translate_generation(
    asked: ImagesRequest, fields: Fields, services: Services
) -> Translation:
    """Return a request for images of a prompt. Raises `InvalidRequest` and `NotReady`."""
    card = await card_for(services.submitter.models, Task.TXT2IMG, asked.model)
    ours, names = extra_fields(fields, Task.TXT2IMG)
    size = _asked_size(asked, fields, ours, card)
    return Translation(Task.TXT2IMG, _common(asked, card) | ours | sides(size), names, card)


async def translate_edit(
    asked: ImagesRequest, files: UploadedFiles, services: Services
) -> Translation:
    """Return a request to change images. Raises `InvalidRequest`, `NotReady`, `DecodingBusy`."""
    _check_together(files)
    images = services.submitter.images
    opened = await to_thread.run_sync(_open, images, files, limiter=services.decoding)
    task = _task(asked, opened)
    card = await card_for(services.submitter.models, task, asked.model)
    ours, names = extra_fields(files.fields, task)
    size = _asked_size(asked, files.fields, ours, card)
    if len(opened.images) > 1:
        size = size or _canvas_size(ours, card)
        image_size = None
    else:
        image_size = opened.images[0].size
        ours |= fitted(image_size, size, ours, card)
    ours |= sides(size)
    if task is Task.INPAINT:
        ours.setdefault("strength", MASK_STRENGTH)
    ours |= await to_thread.run_sync(
        _files, images, files, opened, task, size, limiter=services.decoding
    )
    return Translation(task, _common(asked, card) | ours, names, card, image_size)


def _check_together(files: UploadedFiles) -> None:
    if files.mask is not None and files.markup is not None:
        raise InvalidRequest(MARKUP, "given", f"left out, as {MASK} is given", "not-together")
    if files.mask is not None and len(files.images) > 1:
        bound = f"one image, as {MASK} is given"
        raise InvalidRequest(IMAGE, len(files.images), bound, "too-many")


def _open(images: InputImages, files: UploadedFiles) -> _Opened:
    return _Opened(
        [images.open(IMAGE, data) for data in files.images],
        None if files.mask is None else images.open(MASK, files.mask),
        None if files.markup is None else images.open(MARKUP, files.markup),
    )


def _task(asked: ImagesRequest, opened: _Opened) -> Task:
    by_alpha = asked.model == MASKED_BY_ALPHA and isinstance(asked, EditsRequest)
    if opened.mask is not None:
        return Task.INPAINT
    first, *others = opened.images
    if by_alpha and first.is_transparent and not others and opened.markup is None:
        return Task.INPAINT
    return Task.IMG2IMG


def _common(asked: ImagesRequest, card: ModelCard) -> Fields:
    common: Fields = {
        "prompt": asked.prompt,
        "model": card.name,
        "n": asked.n,
        "output_format": asked.output_format,
        "previews": asked.stream and asked.partial_images > 0,
    }
    if asked.output_format != "png":
        common["quality"] = max(1, asked.output_compression)
    return common


def _asked_size(asked: ImagesRequest, fields: Fields, ours: Fields, card: ModelCard) -> Size | None:
    """Return the size by `size` or an aspect; None: by the sides, or none at all."""
    size = asked_size(asked.size)
    given: Fields = {name: ours[name] for name in ("width", "height") if name in ours}
    if size is not None:
        for name, side in sides(size).items():
            if given.get(name, side) != side:
                bound = f"left out, as size is {size_text(size)}"
                raise InvalidRequest(name, given[name], bound, "given-twice")
        return possible_size(size, card, stands_for_default(asked.model))
    ratios = (asked_ratio(name, fields.get(name)) for name in RATIOS)
    ratio = next((found for found in ratios if found), None)
    return best_size(ratio, card) if ratio and not given else None


def _canvas_size(ours: Fields, card: ModelCard) -> Size:
    """Return the size of the canvas for several images: by the sides, else the model's default."""
    width = ours.get("width", card.default_width)
    height = ours.get("height", card.default_height)
    if isinstance(width, int) and isinstance(height, int):
        return possible_size((width, height), card, any_model=False)
    raise InvalidRequest("size", None, "given for several images, as in 512x512", "malformed")


def _files(
    images: InputImages, files: UploadedFiles, opened: _Opened, task: Task, size: Size | None
) -> Fields:
    """Return the image and mask of the request; it decodes, so it runs in a thread."""
    first = files.images[0]
    if opened.mask is not None:
        return {"image": first, "mask": mask_of_transparency(images, opened.mask)}
    if task is Task.INPAINT:
        return {"image": first, "mask_source": MaskSource.ALPHA}
    if opened.markup is not None:
        first = overlaid(images, opened.images[0], opened.markup)
        opened.images[0] = images.open(IMAGE, first)
    if len(opened.images) > 1 and size is not None:
        first = side_by_side(images, opened.images, size)
    return {"image": first}
