"""Translation of fal's requests: from their fields to ours."""

from collections.abc import Mapping
from dataclasses import dataclass

from anyio import to_thread
from fastapi import Request

from protocol.errors import InvalidRequest
from protocol.queue.dialect_jobs import DialectObject
from protocol.request.model_card import ModelCard
from protocol.request.tasks import Task
from service.dialects.diffusion_fields import extra_fields
from service.dialects.fal.sizes import IMAGE_SIZE, size_fields
from service.dialects.lenient import boolean, file_field, number
from service.dialects.sizes import fitted, size_in
from service.routes.deps import Services
from service.routes.submission import fetched
from service.schemas.body_parser import Fields
from service.schemas.data_uri import decode_file
from service.settings import DialectName

IMAGE, IMAGES, MASK = "image_url", "image_urls", "mask_url"
# The last part of an app's id, and the task that it means; without one, the images say it.
TASKS = {
    "text-to-image": Task.TXT2IMG,
    "image-to-image": Task.IMG2IMG,
    "inpainting": Task.INPAINT,
    "inpaint": Task.INPAINT,
}
COPIED = {"prompt": "prompt", "num_images": "n", "output_format": "output_format"}
NAMES = {
    "n": "num_images",
    "image": IMAGE,
    "image_url": IMAGE,
    "mask": MASK,
    "mask_url": MASK,
    "webhook_url": "fal_webhook",
}
PRIORITY_HEADER = "x-fal-queue-priority"


@dataclass(frozen=True)
class Translation:
    """A request in our fields; `names` are the client's names of them, `kept` is for its result."""

    task: Task
    fields: Fields
    names: dict[str, str]
    kept: DialectObject


def task_of(subpath: str | None, fields: Fields) -> Task:
    """Return the task of a request. Raises `InvalidRequest` for an unknown last part of an app."""
    if subpath is not None:
        if subpath not in TASKS:
            bound = f"left out, or one of {', '.join(TASKS)}"
            raise InvalidRequest("task", subpath, bound, "unknown-model")
        return TASKS[subpath]
    if not (_given(fields, IMAGE) or _given(fields, IMAGES)):
        return Task.TXT2IMG
    return Task.INPAINT if _given(fields, MASK) else Task.IMG2IMG


async def translate(
    task: Task, card: ModelCard, fields: Fields, request: Request, services: Services
) -> Translation:
    """Return a request in our fields. Raises `InvalidRequest`, `DecodingBusy` and `Overloaded`."""
    ours, names = extra_fields(_with_lora_names(fields), task)
    request.scope["field_names"] = NAMES | names
    size, size_names = size_fields(fields.get(IMAGE_SIZE), card)
    ours |= {
        **size,
        "model": card.name,
        "priority": request.headers.get(PRIORITY_HEADER, "normal"),
    }
    for name, field in COPIED.items():
        if fields.get(name) is not None:
            ours[field] = fields[name]
    ours |= {"n": number(ours["n"])} if "n" in ours else {}
    if task.takes_image:
        ours.setdefault("prompt", "")
        ours |= await _images(task, card, fields, ours, request, services)
    kept = DialectObject(
        dialect=DialectName.FAL,
        data={
            "prompt": str(ours.get("prompt", "")),
            "sync_mode": boolean(fields.get("sync_mode")) is True,
        },
    )
    return Translation(task, ours, NAMES | names | size_names, kept)


async def _images(
    task: Task,
    card: ModelCard,
    fields: Fields,
    ours: Fields,
    request: Request,
    services: Services,
) -> Fields:
    """Return the files of a request, and the size of its image unless it asks for another."""
    given = {"image": _image(fields)}
    if task is Task.INPAINT and _given(fields, MASK):
        given["mask"] = fields[MASK]
    files: Fields = {}
    for name, value in given.items():
        files |= file_field(name, value) if isinstance(value, str) else {name: value}
    files = await fetched(files, request, services)

    def fitting() -> Fields:
        data = decode_file(IMAGE, files["image"])
        image = services.submitter.images.open(IMAGE, data)
        return {"image": data, **fitted(image.size, size_in(ours), ours, card)}

    return files | await to_thread.run_sync(fitting, limiter=services.decoding)


def _image(fields: Fields) -> object:
    """Return the image of a request. Raises `InvalidRequest` for none, or several."""
    several = fields.get(IMAGES)
    if not several:
        if not _given(fields, IMAGE):
            raise InvalidRequest(
                IMAGE, None, "the address or data URI of an image", "missing-field"
            )
        return fields[IMAGE]
    if not isinstance(several, list):
        raise InvalidRequest(IMAGES, several, "a list with one image", "wrong-type")
    if len(several) > 1:
        raise InvalidRequest(IMAGES, len(several), "one image", "too-many")
    return several[0]


def _given(fields: Fields, name: str) -> bool:
    return fields.get(name) not in (None, "", [])


def _with_lora_names(fields: Fields) -> Fields:
    """Return `fields` with `path`, as fal calls a LoRA's name, under our name."""
    loras = fields.get("loras")
    if not isinstance(loras, list):
        return fields
    return {**fields, "loras": [_with_name(lora) for lora in loras]}


def _with_name(lora: object) -> object:
    return {"name": lora["path"], **lora} if isinstance(lora, Mapping) and "path" in lora else lora
