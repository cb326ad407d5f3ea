"""GET /view: a file that the client has uploaded or generated."""

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from protocol.errors import InvalidRequest, UnknownFile
from service.auth.api_keys import User
from service.dialects.comfyui.client_files import StoredFile, files_of, generated, read
from service.dialects.comfyui.description import READ, Responses, errors
from service.dialects.comfyui.graph.images import FOLDERS, file_of
from service.dialects.comfyui.uploads import subfolder_of
from service.etags import etag_of, not_modified
from service.images.file_channels import shown_file
from service.routes.deps import Services, ServicesDep, UserDep
from service.schemas.file_responses import FILE_HEADERS
from service.schemas.request_bodies import BINARY

PREVIEWS = ("webp", "jpeg")
TYPES = ("image/png", "image/jpeg", "image/webp", "image/avif", "image/heic")
FILE: Responses = {
    200: {
        "description": "The file.",
        "content": {kind: {"schema": BINARY} for kind in TYPES},
    },
    304: {"description": "The client has the file: its `If-None-Match` has the ETag."},
}

router = APIRouter(responses=errors(*READ, 400, 404, 429))

Preview = Annotated[str, Query(max_length=20, description="webp;90 or jpeg;90: in this format.")]
Channel = Annotated[str, Query(max_length=10, description="rgb, a or rgba.")]


@router.get("/view", response_class=Response, responses=FILE)
async def comfy_view(
    request: Request,
    services: ServicesDep,
    user: UserDep,
    filename: Annotated[str, Query(max_length=400)],
    subfolder: Annotated[str, Query(max_length=200)] = "",
    type: str = "output",
    preview: Preview = "",
    channel: Channel = "rgba",
) -> Response:
    """Get a file of the client's own by name, subfolder and type (input, output or temp).

    The name of a generated image has the id of its job, which cannot be guessed.
    """
    found = await _found(services, user, filename, subfolder, type)
    data = await run_in_threadpool(read, services, found)
    content_type = found.content_type
    kind, quality = _preview(preview)
    if kind or channel in ("rgb", "a"):

        def shown() -> bytes:
            return shown_file(services.submitter.images, data, channel, kind, quality)

        data = await to_thread.run_sync(shown, limiter=services.decoding)
        content_type = f"image/{kind or 'png'}"
    name = "".join(c for c in filename.rpartition("/")[2] if " " <= c <= "~" and c not in '"\\')
    headers = {
        **FILE_HEADERS,
        "Content-Disposition": f'filename="{name}"',
        "ETag": etag_of(data),
        "Cache-Control": "private, no-cache",
    }
    return not_modified(request, headers) or Response(data, 200, headers, content_type)


async def _found(
    services: Services, user: User, filename: str, subfolder: str, folder: str
) -> StoredFile:
    """Return a file. Raises `InvalidRequest` for a path, and `UnknownFile`."""
    annotated, name = file_of(filename)
    if name != filename:
        folder = annotated
    if not name or name.startswith("/") or ".." in name or folder not in FOLDERS:
        field, value = ("filename", filename) if folder in FOLDERS else ("type", folder)
        raise InvalidRequest(field, value, "the name of a file of yours", "file-name")
    inside = subfolder_of(subfolder)
    place = (folder, f"{inside}/{name}" if inside else name)
    found = (await files_of(services, user)).get(place)
    found = found or await generated(services, user, name)
    if found is None:
        raise UnknownFile(filename)
    return found


def _preview(text: str) -> tuple[str, int]:
    """Return format and quality of "webp;90"; as ComfyUI, webp for any other format."""
    kind, _, quality = text.partition(";")
    number = int(quality) if quality.isascii() and quality.isdigit() else 90
    return (kind if kind in PREVIEWS else "webp" if kind else ""), min(max(number, 1), 100)
