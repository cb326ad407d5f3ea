"""Bodies of edits and variations: multipart forms, or JSON with images as data URIs or addresses.

A form may have one `image`, several, or `image[]`; in place of files it may have base64 or
addresses, also as `url` and `url[]`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from anyio import to_thread
from fastapi import Request
from starlette.datastructures import UploadFile

from protocol.errors import InvalidRequest
from service.dialects.lenient import read_json
from service.middleware.body_limit import LimitedBody
from service.routes.client_files import own_file
from service.routes.deps import Services
from service.schemas.body_parser import (
    FORM_TYPE,
    Fields,
    check_encoding,
    file_content,
    parse_form,
)
from service.schemas.data_uri import decode_file

MAX_IMAGES = 16
IMAGE, MASK, MARKUP = "image", "mask", "markup"
IMAGES = frozenset({IMAGE, "images", "image_url", "url"})  # also with brackets
MASKS = frozenset({MASK, MARKUP})
BRACKETS = re.compile(r"(?P<name>[a-z_]{1,40})\[(?P<part>[a-z_0-9]{0,40})\]")
OBJECTS = 2  # {"image_url": {"url": …}}
ADDRESS = re.compile(r"https?://", re.IGNORECASE)


@dataclass
class Upload:
    """A body: its fields, and its images as they were sent: bytes, text, or objects of JSON."""

    fields: Fields = field(default_factory=dict)
    images: list[object] = field(default_factory=list)
    masks: dict[str, object] = field(default_factory=dict)  # the mask, the markup


@dataclass(frozen=True)
class UploadedFiles:
    """The fields of a body and the files of its images."""

    fields: Fields
    images: list[bytes]
    mask: bytes | None
    markup: bytes | None


async def read_upload(request: Request, services: Services) -> UploadedFiles:
    """Return the fields and files of a body. Raises `InvalidRequest` and its kin."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == FORM_TYPE:
        upload = await _read_form(request)
    else:
        upload = _of_json(await read_json(request, services.decoding))
    if not upload.images:
        raise InvalidRequest(IMAGE, None, "an image file", "missing-field")
    if len(upload.images) > MAX_IMAGES:
        raise InvalidRequest(IMAGE, len(upload.images), f"at most {MAX_IMAGES} images", "too-many")
    images = [await _file(IMAGE, image, request, services) for image in upload.images]
    masks = {
        name: await _file(name, value, request, services) for name, value in upload.masks.items()
    }
    return UploadedFiles(upload.fields, images, masks.get(MASK), masks.get(MARKUP))


async def _read_form(request: Request) -> Upload:
    check_encoding(request)
    form = await parse_form(request, MAX_IMAGES + len(MASKS))
    try:
        upload = Upload()
        for name, value in form.multi_items():
            content = await file_content(value) if isinstance(value, UploadFile) else value
            if content is not None:
                _add(upload, name, content)
    finally:
        await form.close()
    return upload


def _add(upload: Upload, name: str, value: object) -> None:
    """Add a part of a form. `lora[name]` is a part of the object `lora`."""
    found = BRACKETS.fullmatch(name)
    name, part = (found["name"], found["part"]) if found else (name, "")
    if name in IMAGES:
        upload.images += [value] if value != "" else []
    elif name in MASKS:
        _add_once(upload.masks, name, value)
    elif part:
        inner = upload.fields.setdefault(name, {})
        if isinstance(inner, dict):
            _add_once(inner, part, value)
    else:
        _add_once(upload.fields, name, value)


def _add_once(fields: dict[str, object], name: str, value: object) -> None:
    if value == "" and name in MASKS:
        return
    if fields.setdefault(name, value) != value:
        raise InvalidRequest(name, "given several times", "given once", "duplicate-field")


def _of_json(fields: Fields) -> Upload:
    given = {name: value for name, value in fields.items() if value is not None}
    images = [image for name in sorted(IMAGES) for image in _listed(given.pop(name, ()))]
    masks = {name: given.pop(name) for name in sorted(MASKS) if name in given}
    return Upload(given, images, masks)


def _listed(value: object) -> Iterable[object]:
    return value if isinstance(value, list | tuple) else [value]


async def _file(name: str, value: object, request: Request, services: Services) -> bytes:
    """Return the file of an image: bytes, base64, a data URI, an address, or an object of those."""
    for _ in range(OBJECTS):
        match value:
            case {"image_url": inner} | {"url": inner}:
                value = inner
            case {"file_id": _}:
                bound = "an image_url: there are no stored files here"
                raise InvalidRequest(name, "a file_id", bound, "not-for-this-service")
    if isinstance(value, bytes):
        return decode_file(name, value)
    if isinstance(value, str) and ADDRESS.match(value):
        return await _fetched(name, value, request, services)
    # In a thread, because it may be megabytes of base64.
    return await to_thread.run_sync(decode_file, name, value, limiter=services.decoding)


async def _fetched(name: str, url: str, request: Request, services: Services) -> bytes:
    if (own := await own_file(name, url, request, services)) is not None:
        return own
    if services.ssrf_guard is None:
        bound = "a file, or a data URI: images by address are not taken here"
        raise InvalidRequest(name, url, bound, "not-for-this-service")
    body: LimitedBody = request.scope["limited_body"]
    return await services.ssrf_guard.fetch(name, url, body.reserve)
