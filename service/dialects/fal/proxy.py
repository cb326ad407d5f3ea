"""fal's browser-proxy protocol: /api/fal/proxy, with the address of fal in a header.

A page calls its own server, which is to pass the call on to fal. Here the address is mapped to the
route that does the same in this service. It is never fetched.
"""

from urllib.parse import unquote, urlsplit

from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope, Send

from protocol.errors import InvalidRequest
from service.dialects.fal.descriptions import PROXIED, PROXY
from service.dialects.fal.errors import WRONG_TARGET
from service.settings import DialectName

TARGET_HEADER = "x-fal-target-url"
PATHS = {"fal.run": "/fal/run", "queue.fal.run": "/fal/queue"}
BOUND = f"an https address of {' or '.join(PATHS)}"

router = APIRouter(prefix="/api/fal", tags=[DialectName.FAL])


class MappedResponse(Response):
    """The response of the route at another path of this service."""

    def __init__(self, path: str, query: str) -> None:
        super().__init__()
        self.path, self.query = path, query

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["path"], scope["raw_path"] = unquote(self.path), self.path.encode()
        scope["query_string"] = self.query.encode()
        await scope["app"].router(scope, receive, send)


@router.get("/proxy", response_class=Response, responses=PROXIED, openapi_extra=PROXY)
async def fal_proxy_get(request: Request) -> Response:
    """Get the state or the result of a request, by its address at fal."""
    return mapped(request)


@router.post("/proxy", response_class=Response, responses=PROXIED, openapi_extra=PROXY)
async def fal_proxy_post(request: Request) -> Response:
    """Generate images, or queue a request, by the address at fal."""
    return mapped(request)


@router.put("/proxy", response_class=Response, responses=PROXIED, openapi_extra=PROXY)
async def fal_proxy_put(request: Request) -> Response:
    """Cancel a request, by its address at fal."""
    return mapped(request)


def mapped(request: Request) -> MappedResponse:
    """Return the response to a call that a proxy would pass on. Raises `InvalidRequest`."""
    target = request.headers.get(TARGET_HEADER)
    try:
        url = urlsplit(target or "")
        prefix = PATHS[url.netloc] if url.scheme == "https" and url.path.isascii() else None
    except (KeyError, ValueError):
        prefix = None
    if prefix is None or not url.query.isascii():
        raise InvalidRequest(TARGET_HEADER, target, BOUND, WRONG_TARGET)
    return MappedResponse(prefix + url.path, url.query)
