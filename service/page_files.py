"""Files of the HTML pages, read once; no other file can be requested.

The reference at /docs is Swagger UI, out of the package fastapi-offline.
"""

from collections.abc import Mapping
from functools import cache
from importlib import resources

PREFIX = "/pages/"
ROOT = b"{root}"  # stands in the HTML pages for the path of the service, "" or "/darkroom"
# Types of TypeScript are for programs that fetch them; no browser runs them.
ASSET_TYPES = {"css": "text/css", "js": "text/javascript", "ts": "application/typescript"}
SWAGGER_UI = ("swagger-ui-bundle.js", "swagger-ui.css")


@cache
def page_files() -> Mapping[str, bytes]:
    """Return the content of each file by its name, such as "playground.css"."""
    folder = resources.files("service").joinpath("pages")
    own = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    packaged = resources.files("fastapi_offline").joinpath("static")
    return own | {name: packaged.joinpath(name).read_bytes() for name in SWAGGER_UI}


def media_type(name: str) -> str | None:
    """Return the media type of a script or stylesheet, None for any other file."""
    return ASSET_TYPES.get(name.rpartition(".")[2])


def asset_paths() -> frozenset[str]:
    """Return the URL paths of the scripts and stylesheets."""
    return frozenset(f"{PREFIX}{name}" for name in page_files() if media_type(name))
