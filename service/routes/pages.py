"""The HTML pages: the studio at /, the API reference at /docs and what they load."""

from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from service.etags import etag_of, not_modified
from service.page_files import PREFIX, ROOT, media_type, page_files
from service.routes.deps import ServicesDep
from service.routes.links import prefix_of

router = APIRouter(include_in_schema=False)

# Only scripts of this service run: no other response has the media type of a script, and nosniff
# makes browsers keep to the media type.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
REVALIDATED = "no-cache"  # kept, but used only after asking whether it is still current
# What has the prefix of one request in it is not for the cache of a proxy.
OF_ONE_CLIENT = f"private, {REVALIDATED}"


@router.get("/")
async def studio(request: Request) -> Response:
    return _page(request, "studio/studio.html")


@router.get("/docs")
async def docs(request: Request) -> Response:
    return _page(request, "docs.html")


@router.get("/openapi.json")
async def openapi(request: Request, services: ServicesDep) -> Response:
    """Return the description of the API; its servers are the address that the client uses."""
    url = services.settings.public_url or prefix_of(request) or "/"
    content = JSONResponse(request.app.openapi() | {"servers": [{"url": url}]}).body
    return _cached(request, bytes(content), "application/json", {"Cache-Control": OF_ONE_CLIENT})


@router.get(PREFIX + "{name:path}")
async def asset(request: Request, name: str) -> Response:
    """Return a script or a stylesheet."""
    content, content_type = page_files().get(name), media_type(name)
    if content is None or content_type is None:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    return _cached(request, content, content_type, {"Cache-Control": REVALIDATED})


def _page(request: Request, name: str) -> Response:
    """Return a page whose links have the path prefix of the proxies."""
    content = page_files()[name].replace(ROOT, prefix_of(request).encode())
    headers = {"Cache-Control": OF_ONE_CLIENT, "Content-Security-Policy": POLICY}
    return _cached(request, content, "text/html", headers)


def _cached(
    request: Request, content: bytes, content_type: str, headers: dict[str, str]
) -> Response:
    headers |= {"ETag": etag_of(content)}
    unchanged = not_modified(request, headers)
    return unchanged or Response(content, headers=headers, media_type=content_type)
