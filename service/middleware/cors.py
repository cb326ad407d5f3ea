"""Use of the API by pages of other sites, with refusals as problems."""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from protocol.errors import ForeignOrigin
from service.schemas.problems import problem_response

OF_THE_BODY = ("content-type", "content-length")


class CrossOriginMiddleware(CORSMiddleware):
    """Starlette's middleware, which answers a refused preflight request with bare text."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the response to a preflight request, a problem if it is refused."""
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        bound = "among the allowed origins, with an allowed method and headers"
        error = ForeignOrigin("Origin", request_headers["origin"], bound)
        refused = problem_response(Request({"type": "http", "headers": []}), error)
        kept = {name: text for name, text in response.headers.items() if name not in OF_THE_BODY}
        refused.headers.update(kept)
        return refused
