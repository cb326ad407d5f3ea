"""Images given by address: fetched and put where images given as files are, if that is allowed."""

from dataclasses import dataclass

from protocol.errors import InvalidRequest
from service.images.ssrf_guard import Guard
from service.middleware.body_limit import Upload
from service.schemas.body_parser import Fields

BY_ADDRESS = {"image_url": "image", "mask_url": "mask"}


@dataclass(frozen=True)
class Fetching:
    """`guard`: None where images by address are not taken."""

    guard: Guard | None

    async def filled(self, fields: Fields, upload: Upload) -> Fields:
        """`fields`, with files in place of addresses, held with the body they came in.

        Raises `InvalidRequest` and `Overloaded`.
        """
        asked = {name: fields[name] for name in BY_ADDRESS if name in fields}
        if not asked:
            return fields
        if self.guard is None:
            name, url = next(iter(asked.items()))
            raise InvalidRequest(
                name, url, "left out: images by address are not taken here", "unknown-field"
            )
        files: Fields = {}
        for name, url in asked.items():
            if (field := BY_ADDRESS[name]) in fields:
                raise InvalidRequest(name, url, f"left out, or sent without {field}", "given-twice")
            files[field] = await self.guard.fetch(name, url, upload.hold)
        return {name: value for name, value in fields.items() if name not in asked} | files
