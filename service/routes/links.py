"""Addresses of this service as its clients use them, also through a proxy."""

from collections.abc import Callable

from fastapi import FastAPI
from starlette.requests import HTTPConnection

from service.auth.signed_urls import UrlSigner

HTTP = {"ws": "http", "wss": "https"}
Link = Callable[[str, int, str], str]  # job id, index, ending -> URL of an image


def prefix_of(request: HTTPConnection) -> str:
    """Return the path prefix at which the client has called the service, "" for none."""
    prefix: str = request.scope["forwarded"].prefix
    return prefix


def path_of(request: HTTPConnection, route: str, **parameters: object) -> str:
    """Return the path of a route, with the prefix."""
    return f"{prefix_of(request)}{request.app.url_path_for(route, **parameters)}"


def base_url_of(request: HTTPConnection, public_url: str | None) -> str:
    """Return the URL of the service: `public_url`, or what the client has called."""
    if public_url is not None:
        return public_url
    scheme = HTTP.get(request.scope["scheme"], request.scope["scheme"])
    return f"{scheme}://{request.headers['host']}{prefix_of(request)}"


def image_linker(app: FastAPI, signer: UrlSigner | None) -> Callable[[str], Link]:
    """Return a function that makes links to images below a URL; `signer` signs them."""

    def linker(base_url: str) -> Link:
        def link(job_id: str, index: int, ending: str) -> str:
            path = app.url_path_for("get_image", job_id=job_id, index=index) + ending
            return f"{base_url}{path}{signer.query(path) if signer else ''}"

        return link

    return linker
