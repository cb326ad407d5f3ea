"""The pages for people: the playground at /, the reference at /docs, their scripts and styles."""

from http import HTTPStatus

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

from service.page_files import AT, media_type, page_files

router = APIRouter(include_in_schema=False)

# Only scripts of ours run: nothing else that this service answers has a script's type, and browsers
# are told to believe the type (nosniff).
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


@router.get("/")
async def playground() -> Response:
    return _page("playground.html")


@router.get("/docs")
async def docs() -> Response:
    return _page("docs.html")


@router.get(AT + "{name}")
async def part(name: str) -> Response:
    """A script or a style."""
    content, kind = page_files().get(name), media_type(name)
    if content is None or kind is None:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    return Response(content, media_type=kind)


def _page(name: str) -> Response:
    headers = {"Content-Security-Policy": POLICY}
    return Response(page_files()[name], headers=headers, media_type="text/html")
