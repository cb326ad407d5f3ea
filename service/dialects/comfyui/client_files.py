"""The files that a client's graphs can name: those it has uploaded, and images it has generated.

A file belongs to a folder, input or temp, and its name may have subfolders, which exist nowhere but
in the name. Generated images have the id of their job in their names, which cannot be guessed.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from protocol.clients.files import ClientFile
from protocol.errors import InvalidRequest, NotFound, UnknownImage
from protocol.queue.job import ImageResult
from protocol.request.sizes import Size
from service.auth.api_keys import User
from service.dialects.comfyui.graph.draft import FileUse
from service.dialects.comfyui.graph.images import file_of
from service.dialects.comfyui.graph.parsing import Graph
from service.images.file_channels import channel_mask, opaque_file
from service.routes.deps import Services

METADATA = "comfyui"  # of the files that were uploaded by this dialect
UPLOADED = ("input", "temp")
GENERATED = ("output", "temp")
RESULT = re.compile(r"(?:.*/)?[^/]*_(?P<job>[0-9a-f]{32})_(?P<number>[0-9]{5})_\.[a-z]{3,4}")
LOADERS = ("LoadImage", "LoadImageMask")

Place = tuple[str, str]  # folder, name


@dataclass(frozen=True)
class StoredFile:
    """An uploaded file or a generated image, and its size."""

    size: Size
    stored: ClientFile | ImageResult

    @property
    def content_type(self) -> str:
        if isinstance(self.stored, ClientFile):
            return self.stored.content_type
        return self.stored.format.content_type


async def files_of(services: Services, user: User) -> dict[Place, StoredFile]:
    """Return the client's uploaded files, the newest first."""
    found: dict[Place, StoredFile] = {}
    for file in await run_in_threadpool(services.files.of, user.client):
        match file.metadata.get(METADATA):
            case {"folder": str() as folder, "size": [int() as width, int() as height]}:
                found.setdefault((folder, file.name), StoredFile((width, height), file))
    return found


async def named_files(services: Services, user: User, graph: Graph) -> dict[Place, StoredFile]:
    """Return the client's uploaded files, and the generated images that a graph names."""
    found = await files_of(services, user)
    for place in dict.fromkeys(_named(graph)):
        if place not in found and place[0] in GENERATED:
            image = await generated(services, user, place[1])
            if image is not None:
                found[place] = image
    return found


def _named(graph: Graph) -> Iterable[Place]:
    for node in graph.values():
        name = node.values.get("image")
        if node.class_type in LOADERS and isinstance(name, str):
            yield file_of(name)


async def generated(services: Services, user: User, name: str) -> StoredFile | None:
    """Return a generated image by its name; None if there is none of this client."""
    found = RESULT.fullmatch(name)
    if found is None:
        return None
    with suppress(NotFound):
        view = await services.watcher.view(found["job"], user.client)
        index = int(found["number"]) - 1
        images = view.result.images if view.result else ()
        if 0 <= index < len(images):
            image = images[index]
            return StoredFile((image.width, image.height), image)
    return None


def read(services: Services, file: StoredFile) -> bytes:
    """Return the bytes of a file; it blocks. Raises `UnknownImage` if it is gone."""
    if isinstance(file.stored, ClientFile):
        return services.files.read(file.stored)
    return services.store.get(file.stored.key)


def read_used(
    services: Services, files: Mapping[Place, StoredFile], uses: Mapping[str, FileUse]
) -> dict[str, bytes]:
    """Return the bytes of the files of a request, as it uses them, by field; it blocks.

    Raises `InvalidRequest` with the field of one that is gone, or cannot be decoded.
    """
    images, found = services.submitter.images, dict[str, bytes]()
    for field, use in uses.items():
        place = (use.ref.folder, use.ref.name)
        try:
            data = read(services, files[place])
        except UnknownImage as error:
            bound = "a file that was not deleted"
            raise InvalidRequest(field, use.ref.name, bound, "unknown-file") from error
        if use.channel is None:
            found[field] = opaque_file(images, field, data)
        else:
            found[field] = channel_mask(images, field, data, use.channel)
    return found
