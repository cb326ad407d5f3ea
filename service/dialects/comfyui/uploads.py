"""POST /upload/image and /upload/mask: files for the client's graphs."""

import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from pydantic import JsonValue
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from protocol.clients.files import MAX_NAME, ClientFile
from protocol.errors import InvalidRequest, MalformedBody
from service.auth.api_keys import User
from service.dialects.comfyui.answers import UploadAnswer
from service.dialects.comfyui.client_files import (
    METADATA,
    UPLOADED,
    Place,
    StoredFile,
    files_of,
    generated,
    read,
)
from service.dialects.comfyui.description import READ, WRITE, errors, form
from service.dialects.comfyui.graph.images import FOLDERS, file_of
from service.images.file_channels import with_alpha_of
from service.routes.client_files import keep_file
from service.routes.deps import Services, ServicesDep, UserDep
from service.schemas.body_parser import (
    BOOLEANS,
    FORM_TYPE,
    file_content,
    parse_form,
    parse_json_text,
)

router = APIRouter(responses=errors(*READ, *WRITE))

MAX_FOLDER = 100  # characters
PLAIN = re.compile(r"[^/\\\x00-\x1f\x7f\"]{1,120}")  # a file's name
TEXT: dict[str, Any] = {"type": "string"}
FIELDS: dict[str, Any] = {
    "image": {"type": "string", "format": "binary"},
    "type": {"enum": list(UPLOADED), "description": "Default input."},
    "subfolder": TEXT,
    "overwrite": {"enum": ["true", "1", "false", "0"]},
}


@dataclass(frozen=True)
class _Upload:
    """An uploaded file, and the folder and name that its client wants for it."""

    data: bytes
    folder: str
    subfolder: str
    name: str
    overwrites: bool

    def place(self, number: int) -> Place:
        """Return folder and name; from 1 on with a number before the ending."""
        stem, dot, ending = self.name.rpartition(".")
        if not dot:
            stem, ending = self.name, ""
        name = f"{stem} ({number}){dot}{ending}" if number else self.name
        return self.folder, f"{self.subfolder}/{name}" if self.subfolder else name


@router.post("/upload/image", openapi_extra=form("image", **FIELDS))
async def comfy_upload_image(
    request: Request, services: ServicesDep, user: UserDep
) -> UploadAnswer:
    """Upload an image for LoadImage. It is seen by its client only, and kept for a limited time.

    A name that is taken by other bytes gets a number, unless `overwrite` is true.
    """
    async with _form(request) as parsed:
        upload = await _upload(parsed)
    return await _kept(upload, services, user)


@router.post(
    "/upload/mask",
    openapi_extra=form("image", "original_ref", **FIELDS, original_ref=TEXT),
)
async def comfy_upload_mask(request: Request, services: ServicesDep, user: UserDep) -> UploadAnswer:
    """Upload a mask: its alpha becomes that of the client's file `original_ref`.

    `original_ref` is a JSON object with filename, subfolder and type. What is transparent is
    inpainted.
    """
    async with _form(request) as parsed:
        upload = await _upload(parsed)
        original = await _original(parsed, services, user)

    def joined() -> bytes:
        return with_alpha_of(services.submitter.images, read(services, original), upload.data)

    data = await to_thread.run_sync(joined, limiter=services.decoding)
    whole = _Upload(data, upload.folder, upload.subfolder, upload.name, upload.overwrites)
    return await _kept(whole, services, user)


@asynccontextmanager
async def _form(request: Request) -> AsyncIterator[FormData]:
    """Read a form, whose file is closed at the end. Raises `MalformedBody` for any other body."""
    if not request.headers.get("content-type", "").startswith(FORM_TYPE):
        raise MalformedBody("body", "another content type", f"a {FORM_TYPE}", "invalid-form")
    parsed = await parse_form(request, 1)
    try:
        yield parsed
    finally:
        await parsed.close()


async def _upload(parsed: FormData) -> _Upload:
    """Read the fields of a form. Raises `InvalidRequest`."""
    file = parsed.get("image")
    data = await file_content(file) if isinstance(file, UploadFile) else None
    if not isinstance(file, UploadFile) or data is None:
        raise InvalidRequest("image", None, "a file", "missing-field")
    name = file.filename or ""
    if not PLAIN.fullmatch(name) or name.startswith(".") or ".." in name:
        bound = "a file name of up to 120 characters without a path"
        raise InvalidRequest("image", name, bound, "file-name")
    folder = _text(parsed, "type") or "input"
    if folder not in UPLOADED:
        raise InvalidRequest("type", folder, f"one of {', '.join(UPLOADED)}", "unknown-choice")
    overwrite = BOOLEANS.get(_text(parsed, "overwrite").lower(), False)
    return _Upload(data, folder, subfolder_of(_text(parsed, "subfolder")), name, overwrite)


def subfolder_of(text: str) -> str:
    """Return a subfolder without slashes at its ends. Raises `InvalidRequest` for one outside."""
    subfolder = text.strip("/")
    parts = subfolder.split("/") if subfolder else []
    for part in parts:
        if not PLAIN.fullmatch(part) or part.strip(". ") == "" or len(subfolder) > MAX_FOLDER:
            bound = f"a folder of up to {MAX_FOLDER} characters inside the others"
            raise InvalidRequest("subfolder", text, bound, "file-name")
    return subfolder


async def _original(parsed: FormData, services: Services, user: User) -> StoredFile:
    """Return the file to which a mask belongs. Raises `InvalidRequest`."""
    reference = parse_json_text("original_ref", _text(parsed, "original_ref") or "null")
    filename = reference.get("filename") if isinstance(reference, dict) else None
    if not isinstance(reference, dict) or not isinstance(filename, str):
        bound = "a JSON object with filename, subfolder and type"
        raise InvalidRequest("original_ref", reference, bound, "malformed")
    annotated, name = file_of(filename)
    folder = reference.get("type") or (annotated if name != filename else "output")
    subfolder = subfolder_of(str(reference.get("subfolder") or ""))
    place = (str(folder), f"{subfolder}/{name}" if subfolder else name)
    found = (await files_of(services, user)).get(place)
    if found is None and folder in FOLDERS:
        found = await generated(services, user, place[1])
    if found is None:
        raise InvalidRequest("original_ref", filename, "a file of yours", "unknown-file")
    return found


async def _kept(upload: _Upload, services: Services, user: User) -> UploadAnswer:
    """Keep a file under a name that is free, or that has the same bytes."""
    await services.admission.count(user)
    digest = hashlib.sha256(upload.data).hexdigest()
    taken = await files_of(services, user)
    number = 0
    while (found := taken.get(upload.place(number))) and not upload.overwrites:
        assert isinstance(found.stored, ClientFile)
        if found.stored.sha256 == digest:
            return _answer(upload.place(number))
        number += 1
    folder, name = place = upload.place(number)
    if len(name) > MAX_NAME:
        raise InvalidRequest("image", name, f"at most {MAX_NAME} characters", "file-name")
    size = services.submitter.images.open("image", upload.data).size
    metadata: dict[str, JsonValue] = {METADATA: {"folder": folder, "size": [*size]}}
    await keep_file("image", name, upload.data, user, services, metadata)
    if found is not None and isinstance(found.stored, ClientFile):
        await run_in_threadpool(services.files.delete, found.stored)
    return _answer(place)


def _answer(place: Place) -> UploadAnswer:
    folder, path = place
    subfolder, _, name = path.rpartition("/")
    return UploadAnswer(name=name, subfolder=subfolder, type=folder)


def _text(parsed: FormData, name: str) -> str:
    value = parsed.get(name)
    return value if isinstance(value, str) else ""
