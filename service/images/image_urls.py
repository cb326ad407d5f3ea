"""Downloads of the images that a request gives by URL."""

from protocol.errors import InvalidRequest
from service.images.ssrf_guard import SsrfGuard
from service.middleware.body_limit import LimitedBody
from service.schemas.body_parser import Fields

URL_FIELDS = {"image_url": "image", "mask_url": "mask"}


async def fetch_images(fields: Fields, guard: SsrfGuard | None, body: LimitedBody) -> Fields:
    """Return `fields` with each URL replaced by its file, whose bytes count as part of `body`.

    `guard` is None if the service takes no images by URL. Raises `InvalidRequest` and
    `Overloaded`.
    """
    urls = {name: fields[name] for name in URL_FIELDS if name in fields}
    if not urls:
        return fields
    if guard is None:
        name, url = next(iter(urls.items()))
        raise InvalidRequest(
            name, url, "left out: images by address are not taken here", "unknown-field"
        )
    files: Fields = {}
    for name, url in urls.items():
        if (field := URL_FIELDS[name]) in fields:
            raise InvalidRequest(name, url, f"left out, or sent without {field}", "given-twice")
        files[field] = await guard.fetch(name, url, body.reserve)
    return {name: value for name, value in fields.items() if name not in urls} | files
