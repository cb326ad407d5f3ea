"""Downloads of the images that a request gives by URL."""

from collections.abc import Awaitable, Callable

from protocol.errors import InvalidRequest
from service.images.ssrf_guard import SsrfGuard
from service.middleware.body_limit import LimitedBody
from service.schemas.body_parser import Fields
from service.schemas.requests import UNSET, URL_FIELDS

ReadOwn = Callable[[str, object], Awaitable[bytes | None]]  # field, URL -> the file, if it is ours


async def fetch_images(
    fields: Fields, guard: SsrfGuard | None, body: LimitedBody, read_own: ReadOwn
) -> Fields:
    """Return `fields` with each URL replaced by its file, whose bytes count as part of `body`.

    A URL of this service is not fetched but read. `guard` is None if the service takes no others.
    Raises `InvalidRequest` and `Overloaded`.
    """
    urls = {name: fields[name] for name in URL_FIELDS if fields.get(name) not in UNSET}
    files = {name: value for name, value in fields.items() if name not in URL_FIELDS}
    for name, url in urls.items():
        if files.get(field := URL_FIELDS[name]) is not None:
            raise InvalidRequest(name, url, f"left out, or sent without {field}", "given-twice")
        files[field] = await _file(name, url, guard, body, read_own)
    return files


async def _file(
    name: str, url: object, guard: SsrfGuard | None, body: LimitedBody, read_own: ReadOwn
) -> bytes:
    if (own := await read_own(name, url)) is not None:
        return own
    if guard is None:
        bound = "left out: images by address are not taken here"
        raise InvalidRequest(name, url, bound, "unknown-field")
    return await guard.fetch(name, url, body.reserve)
