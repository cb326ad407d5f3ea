"""Replicate's routes of files, which a client uploads and names as inputs of its predictions."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, JsonValue
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from protocol.clients.files import MAX_NAME, ClientFile
from protocol.errors import InvalidRequest, UnsupportedMediaType
from service.auth.api_keys import User
from service.dialects.replicate.descriptions import DELETED, FILE, FILE_BODY, FILES, UPLOADED
from service.middleware.body_limit import LimitedBody
from service.routes.client_files import file_url, keep_file
from service.routes.deps import Services, ServicesDep, UserDep
from service.routes.files import FileIdPath
from service.routes.submission import invalid_counted
from service.schemas.body_parser import (
    FORM_TYPE,
    check_encoding,
    file_content,
    parse_form,
    parse_json,
)
from service.settings import DialectName

CONTENT, METADATA = "content", "metadata"
MAX_METADATA = 2**14  # bytes of JSON

router = APIRouter(prefix="/v1/files", tags=[DialectName.REPLICATE])


class FileObject(BaseModel):
    """An uploaded file. The address in `urls` is for inputs; it needs no key for a day."""

    id: str
    name: str
    content_type: str
    size: int
    etag: str
    checksums: dict[str, str]
    metadata: dict[str, JsonValue]
    created_at: datetime
    expires_at: datetime
    urls: dict[str, str]


class FilePage(BaseModel):
    """The files of a client, the newest first, all on one page."""

    previous: str | None = None
    next: str | None = None
    results: list[FileObject]


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    responses=UPLOADED,
    openapi_extra=FILE_BODY,
)
async def upload_file(request: Request, services: ServicesDep) -> FileObject:
    """Upload an image, to name it as an input; it is kept for a day, unless new ones need room."""
    user: User = request.scope["user"]
    body: LimitedBody = request.scope["limited_body"]
    async with invalid_counted(request, services):
        name, data, metadata = await _read(request)
        file = await keep_file(CONTENT, name, data, user, services, metadata)
    body.release()
    return _shown(file, request, services)


@router.get("", responses=FILES)
async def list_files(request: Request, services: ServicesDep, user: UserDep) -> FilePage:
    """List your files that have not expired, the newest first."""
    files = await run_in_threadpool(services.files.of, user.client)
    return FilePage(results=[_shown(file, request, services) for file in files])


@router.get("/{file_id}", responses=FILE)
async def get_file(
    request: Request, file_id: FileIdPath, services: ServicesDep, user: UserDep
) -> FileObject:
    """Get the description of a file."""
    file = await run_in_threadpool(services.files.file, file_id, user.owner)
    return _shown(file, request, services)


@router.delete("/{file_id}", status_code=HTTPStatus.NO_CONTENT, responses=DELETED)
async def delete_file(file_id: FileIdPath, services: ServicesDep, user: UserDep) -> Response:
    """Delete a file. Predictions that have it as their input go on."""

    def delete() -> None:
        services.files.delete(services.files.file(file_id, user.owner))

    await run_in_threadpool(delete)
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def _read(request: Request) -> tuple[str, bytes, dict[str, JsonValue]]:
    """Return name, bytes and metadata of an upload. Raises `InvalidRequest` and its kin."""
    check_encoding(request)
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != FORM_TYPE:
        raise UnsupportedMediaType("Content-Type", content_type or None, FORM_TYPE)
    form = await parse_form(request, 2)
    try:
        content = form.get(CONTENT)
        data = await file_content(content) if isinstance(content, UploadFile) else None
        if not data:
            raise InvalidRequest(CONTENT, content and "no file", "an image file", "missing-field")
        assert isinstance(content, UploadFile)
        return (content.filename or "file")[:MAX_NAME], data, await _metadata(form)
    finally:
        await form.close()


async def _metadata(form: FormData) -> dict[str, Any]:
    """Return the metadata: a JSON object, as text or as a file."""
    given = form.get(METADATA)
    data = await file_content(given) if isinstance(given, UploadFile) else (given or "").encode()
    if not data:
        return {}
    if len(data) > MAX_METADATA:
        bound = f"JSON of at most {MAX_METADATA} bytes"
        raise InvalidRequest(METADATA, f"JSON of {len(data)} bytes", bound, "too-long")
    return parse_json(data)


def _shown(file: ClientFile, request: Request, services: Services) -> FileObject:
    return FileObject(
        id=file.id,
        name=file.name,
        content_type=file.content_type,
        size=file.size,
        etag=file.sha256,
        checksums={"sha256": file.sha256},
        metadata=file.metadata,
        created_at=datetime.fromtimestamp(file.created_at, UTC),
        expires_at=datetime.fromtimestamp(file.expires_at, UTC),
        urls={"get": file_url(file, request, services)},
    )
