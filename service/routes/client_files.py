"""Files that clients upload and name in later requests, by an address of this service.

An address of ours is not fetched: the file is read for the client that owns it, so it works where
no request to other machines is allowed. The addresses of finished images are read in the same way.
"""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from fastapi import Request
from pydantic import JsonValue
from starlette.concurrency import run_in_threadpool

from protocol.clients.files import ClientFile
from protocol.errors import InvalidRequest, NotFound
from service.auth.api_keys import User
from service.images.image_file import HEIC
from service.middleware.body_limit import LimitedBody
from service.routes.deps import Services
from service.routes.links import base_url_of

HEIC_TYPE = "image/heic"
FILE = re.compile(r"/v1/files/(?P<id>[0-9a-f]{32})(/content(\.[a-z]{1,5})?)?")
IMAGE = re.compile(r"/v1/jobs/(?P<id>[0-9a-f]{32})/images/(?P<index>[0-9]{1,4})(\.[a-z]{1,5})?")
BOUND = "the address of a file or image of yours that has not expired"


async def keep_file(
    field: str,
    name: str,
    data: bytes,
    user: User,
    services: Services,
    metadata: Mapping[str, JsonValue] | None = None,
) -> ClientFile:
    """Keep an image file for a client and return its record.

    Its header is read first: what cannot be an image is refused with `InvalidRequest`.
    """

    def keep() -> ClientFile:
        found = services.submitter.images.open(field, data).format
        content_type = HEIC_TYPE if found == HEIC else f"image/{found.lower()}"
        return services.files.add(user.client, name, data, content_type, metadata)

    return await run_in_threadpool(keep)


def ending_of(content_type: str) -> str:
    """Return the ending of the addresses of files of a type, as in `png`."""
    return content_type.removeprefix("image/")


def file_url(file: ClientFile, request: Request, services: Services) -> str:
    """Return the address of a file's bytes; it needs no key until its signature expires."""
    path = f"/v1/files/{file.id}/content.{ending_of(file.content_type)}"
    query = services.url_signer.query(path) if services.settings.keys_needed else ""
    return f"{base_url_of(request, services.settings.public_url)}{path}{query}"


async def own_file(field: str, url: object, request: Request, services: Services) -> bytes | None:
    """Return the bytes at an address of this service; None for any other address.

    They count as part of the body. Raises `InvalidRequest` unless the client can see the file.
    """
    path = _own_path(url, base_url_of(request, services.settings.public_url))
    if path is None:
        return None
    user: User = request.scope["user"]
    try:
        data = await run_in_threadpool(_read, path, user, services)
    except NotFound as error:
        raise InvalidRequest(field, url, BOUND, "cannot-fetch") from error
    body: LimitedBody = request.scope["limited_body"]
    body.reserve(len(data))
    return data


def _own_path(url: object, base_url: str) -> str | None:
    """Return the path of a URL below the base of this service's URLs."""
    if not isinstance(url, str):
        return None
    try:
        asked, base = urlsplit(url), urlsplit(base_url)
    except ValueError:
        return None
    if (asked.scheme, asked.netloc.lower()) != (base.scheme, base.netloc.lower()):
        return None
    return asked.path.removeprefix(base.path) if asked.path.startswith(base.path) else None


def _read(path: str, user: User, services: Services) -> bytes:
    """Return the file of one of our paths. Raises `NotFound`."""
    if found := FILE.fullmatch(path):
        return services.files.read(services.files.file(found["id"], user.owner))
    if found := IMAGE.fullmatch(path):
        job, index = services.queue.view(found["id"], user.owner), int(found["index"])
        if job.result and index < len(job.result.images):
            return services.store.get(job.result.images[index].key)
    raise NotFound("there is no such file")
