"""The pages for people: the playground at /, the reference at /docs; each a single file."""

import base64
import hashlib
import re
from functools import cache
from importlib import resources

from fastapi import APIRouter, Response

router = APIRouter(include_in_schema=False)

INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


@router.get("/")
async def playground() -> Response:
    return _page("playground.html")


@router.get("/docs")
async def docs() -> Response:
    return _page("docs.html")


def _page(name: str) -> Response:
    html, policy = _load(name)
    return Response(html, headers={"Content-Security-Policy": policy}, media_type="text/html")


@cache
def _load(name: str) -> tuple[str, str]:
    """A page, and the policy under which nothing but its own script and style may run."""
    html = resources.files("service").joinpath("pages", name).read_text("utf-8")
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for kind, text in INLINE.findall(html):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
    policy = (
        f"default-src 'none'; script-src {' '.join(hashes['script'])}; "
        f"style-src {' '.join(hashes['style'])}; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return html, policy
