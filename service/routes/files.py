"""GET /v1/files/{id}/content: the bytes of a file that a client has uploaded."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from protocol.errors import UnknownFile, UnknownImage
from protocol.request.object_keys import JOB_ID
from service.etags import not_modified
from service.images.image_file import FORMATS
from service.routes.client_files import HEIC_TYPE, ending_of
from service.routes.deps import ServicesDep, UserDep
from service.routes.endings import with_endings
from service.schemas.examples import JOB
from service.schemas.file_responses import CACHED, FILE_HEADERS
from service.schemas.problem_responses import ACCESS_STATUSES, SERVER_STATUSES, problem_responses
from service.schemas.request_bodies import BINARY

TYPES = (*(f"image/{name.lower()}" for name in FORMATS), HEIC_TYPE)
FileIdPath = Annotated[
    str, Path(pattern=JOB_ID, description="32 hexadecimal digits.", examples=[JOB])
]

router = APIRouter(prefix="/v1/files", tags=["files"])


@router.get(
    "/{file_id}/content",
    response_class=Response,
    responses={
        200: {
            "description": "The file as it was uploaded.",
            "content": {content_type: {"schema": BINARY} for content_type in TYPES},
        },
        304: {"description": "The client has the file: its `If-None-Match` has the ETag."},
        **problem_responses(*ACCESS_STATUSES, *SERVER_STATUSES, 404, 422),
    },
)
@with_endings(router, "/{file_id}/content", map(ending_of, TYPES))
def get_file_content(
    request: Request, file_id: FileIdPath, services: ServicesDep, user: UserDep
) -> Response:
    """Get the bytes of a file that you have uploaded through one of the APIs of other systems.

    The address may end in the file's format, as in `…/content.png`.
    """
    file = services.files.file(file_id, user.owner)
    name: str = request.scope["path"].rpartition("/")[2]
    if name.partition(".")[2] not in ("", ending_of(file.content_type)):
        raise UnknownFile(file_id)
    headers = FILE_HEADERS | CACHED | {"ETag": f'"{file.sha256}"'}
    if (unchanged := not_modified(request, headers)) is not None:
        return unchanged
    try:
        data = services.files.read(file)
    except UnknownImage as error:
        raise UnknownFile(file_id) from error
    return Response(data, 200, headers, media_type=file.content_type)
