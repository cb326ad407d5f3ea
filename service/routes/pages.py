"""The HTML pages: the playground at /, the API reference at /docs, scripts and stylesheets."""

from http import HTTPStatus

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

from service.page_files import PREFIX, media_type, page_files

router = APIRouter(include_in_schema=False)

# Only scripts of this service run: no other response has the media type of a script, and nosniff
# makes browsers keep to the media type.
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


@router.get(PREFIX + "{name}")
async def asset(name: str) -> Response:
    """Return a script or a stylesheet."""
    content, content_type = page_files().get(name), media_type(name)
    if content is None or content_type is None:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    return Response(content, media_type=content_type)


def _page(name: str) -> Response:
    headers = {"Content-Security-Policy": POLICY}
    return Response(page_files()[name], headers=headers, media_type="text/html")
