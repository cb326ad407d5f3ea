"""Files of the HTML pages, read once; no other file can be requested.

The reference at /docs is Swagger UI, out of the package fastapi-offline.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

PREFIX = "/pages/"
ROOT = b"{root}"  # stands in the HTML pages for the path of the service, "" or "/darkroom"
# Types of TypeScript are for programs that fetch them; no browser runs them.
ASSET_TYPES = {"css": "text/css", "js": "text/javascript", "ts": "application/typescript"}
SWAGGER_UI = ("swagger-ui-bundle.js", "swagger-ui.css")


@cache
def page_files() -> Mapping[str, bytes]:
    """Return the content of each file by its path, such as "studio/main.js"."""
    own = dict(_files(resources.files("service").joinpath("pages"), ""))
    packaged = resources.files("fastapi_offline").joinpath("static")
    return own | {name: packaged.joinpath(name).read_bytes() for name in SWAGGER_UI}


def _files(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of the files in a folder and in those below it."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _files(entry, f"{prefix}{entry.name}/")
        else:
            yield f"{prefix}{entry.name}", entry.read_bytes()


def media_type(name: str) -> str | None:
    """Return the media type of a script or stylesheet, None for any other file."""
    return ASSET_TYPES.get(name.rpartition(".")[2])


def asset_paths() -> frozenset[str]:
    """Return the URL paths of the scripts and stylesheets."""
    return frozenset(f"{PREFIX}{name}" for name in page_files() if media_type(name))
