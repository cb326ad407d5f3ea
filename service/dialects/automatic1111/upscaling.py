"""One image of the routes of extras: upscaled by a job, or resized here."""

import secrets
from dataclasses import dataclass

from anyio import to_thread
from fastapi import Request

from protocol.clients.tasks import ClientTask
from protocol.queue.job import JobView
from protocol.recipes.names import our_upscaler
from protocol.request.inpainting import ResizeMode
from protocol.request.tasks import Task
from protocol.request.upscaling import scaled
from service.auth.api_keys import User
from service.dialects.automatic1111.options import Options, file_fields
from service.dialects.automatic1111.requests import Extras, parse_body
from service.dialects.lenient import file_field
from service.images.image_file import Size
from service.images.resize_modes import placement
from service.routes.deps import Services
from service.routes.submission import (
    ended,
    fetched,
    finished,
    invalid_counted,
    parse_task,
    read_images,
    wait_for_model,
)
from service.schemas.body_parser import Fields
from service.schemas.data_uri import decode_file
from service.schemas.requests import TaskRequest

NONE = ("", "none")
CLIENT_NAMES = {
    "scale": "upscaling_resize",
    "upscaler": "upscaler_1",
    "upscaler_blend": "extras_upscaler_2_visibility",
    "output_format": "samples_format",
}


@dataclass(frozen=True)
class Resizing:
    """The factor by which an image is resized, and the size to which it is cut afterwards."""

    scale: float
    cut: Size | None = None

    @classmethod
    def of(cls, asked: Extras, size: Size) -> "Resizing":
        """Return the resizing of an image of `size`: by a factor, or until it covers a size."""
        if asked.resize_mode == 0:
            return cls(asked.upscaling_resize)
        target = asked.upscaling_resize_w, asked.upscaling_resize_h
        scale = max(target[0] / size[0], target[1] / size[1])
        return cls(scale, target if asked.upscaling_crop else None)


async def upscaled(
    asked: Extras, field: str, image: str, request: Request, services: Services
) -> bytes:
    """Return the file of an upscaled image; `field` is its name in the request.

    It is returned as it is without an upscaler. Made smaller, it is resized without one.
    """
    request.scope["field_names"] = {**CLIENT_NAMES, "image": field, "image_url": field}
    async with invalid_counted(request, services):
        given = await fetched(file_field("image", image), request, services)
        data = await to_thread.run_sync(
            decode_file, "image", given["image"], limiter=services.decoding
        )
        size = await to_thread.run_sync(_size, services, data, limiter=services.decoding)
        resizing = Resizing.of(asked, size)
        if asked.upscaler_1.lower() in NONE:
            resizing = Resizing(1.0)
        elif resizing.scale >= 1:
            fields = await _fields(asked, data, resizing, request, services)
            await wait_for_model(request, services, services.settings.max_wait_s)
            params = await parse_task(Task.UPSCALE, fields, request, services)
            queued = await _submit(params, request, services)
    if resizing.scale >= 1 and asked.upscaler_1.lower() not in NONE:
        data = await _result(queued, request, services)
        if resizing.cut in (None, scaled(size, resizing.scale)):
            return data
    return await to_thread.run_sync(_resized, services, data, resizing, limiter=services.decoding)


async def _fields(
    asked: Extras, data: bytes, resizing: Resizing, request: Request, services: Services
) -> Fields:
    chosen = await services.options.read(request.scope["user"].client)
    fields: Fields = {
        "image": data,
        "upscaler": our_upscaler(asked.upscaler_1),
        "scale": resizing.scale,
        **({} if resizing.cut else file_fields(parse_body(Options, dict(chosen.values)))),
    }
    blend = asked.extras_upscaler_2_visibility
    if asked.upscaler_2.lower() not in NONE and blend:
        fields |= {"upscaler_2": our_upscaler(asked.upscaler_2), "upscaler_blend": blend}
    return fields


async def _submit(params: TaskRequest, request: Request, services: Services) -> JobView:
    """Queue the job; the body stays in memory, as it may hold further images."""
    user: User = request.scope["user"]
    return await services.submitter.submit(
        Task.UPSCALE, params, user, None, before_queued=services.watcher.subscribe
    )


async def _result(queued: JobView, request: Request, services: Services) -> bytes:
    """Return the file that a job makes."""
    client, timeout_s = request.scope["user"].client, services.settings.max_wait_s
    task = ClientTask(
        id=f"task(extras-{secrets.token_hex(4)})", job_ids=(queued.id,), kind="extras"
    )
    await services.tasks.begin(client, task)
    view = await ended(request, services, queued, timeout_s)
    if view is not None:
        await services.tasks.end(client, task)
    [image] = await read_images(services, finished(view, timeout_s))
    return image.data


def _size(services: Services, data: bytes) -> Size:
    return services.submitter.images.open("image", data).size


def _resized(services: Services, data: bytes, resizing: Resizing) -> bytes:
    """Return an image cut to its size, or made smaller, as a PNG."""
    images = services.submitter.images
    file = images.open("image", data)
    target = resizing.cut or scaled(file.size, min(1.0, resizing.scale))
    mode = ResizeMode.CROP if resizing.cut else ResizeMode.STRETCH
    return images.placed(file, placement(mode, file.size, target)).png
