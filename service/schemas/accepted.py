"""The `Accept` header of a generation request (RFC 9110, section 12.5.1): JSON or an image file."""

import re
from dataclasses import dataclass
from typing import Self

from starlette.datastructures import Headers

from protocol.errors import InvalidRequest, NotAcceptable
from protocol.request.object_keys import OutputFormat
from service.schemas.requests import TaskRequest

JSON_TYPE = "application/json"
MAX_RANGES = 100  # media ranges that are read
QUALITY = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")
OFFERED = ", ".join(kind.content_type for kind in OutputFormat)


@dataclass(frozen=True)
class Accepted:
    """The image formats in which a client takes the file itself, the preferred first.

    None of them: it gets JSON. `text` is the header.
    """

    formats: tuple[OutputFormat, ...] = ()
    text: str = ""

    @classmethod
    def from_headers(cls, headers: Headers) -> Self:
        """Return what is accepted. Without a header, and on equal terms, that is JSON.

        Raises `NotAcceptable` if only images are accepted, and none of a format made here.
        """
        text = ",".join(headers.getlist("accept"))
        ranges = dict(map(_media_range, text.split(",")[:MAX_RANGES]))
        json_rank = _rank(ranges, JSON_TYPE)
        ranks = {kind: _rank(ranges, kind.content_type) for kind in OutputFormat}
        accepted = sorted(
            (kind for kind, (quality, _) in ranks.items() if quality > 0),
            key=lambda kind: ranks[kind],
            reverse=True,
        )
        if accepted and ranks[accepted[0]] > json_rank:
            return cls(tuple(accepted), text)
        if json_rank[0] == 0 and any(one.startswith("image/") for one in ranges):
            raise NotAcceptable("Accept", text, f"application/json or one of {OFFERED}")
        return cls()

    def applied_to(self, params: TaskRequest) -> TaskRequest:
        """Return the parameters with the accepted format, where the file itself is the response.

        Raises `InvalidRequest` if they ask for several images, or for another format.
        """
        if not self.formats:
            return params
        reason = f"because Accept is {self.text}"
        if params.n > 1:
            bound = f"1, {reason}: several images need application/json"
            raise InvalidRequest("n", params.n, bound, "several-images-in-one-file")
        if "response" in params.model_fields_set:
            bound = f"left out, {reason}: the file itself is the response"
            raise InvalidRequest("response", params.response.value, bound, "response-is-a-file")
        if "output_format" not in params.model_fields_set:
            return params.model_copy(update={"output_format": self.formats[0]})
        if params.output_format not in self.formats:
            accepted = " or ".join(self.formats)
            bound = f"left out or {accepted}, {reason}"
            named = params.output_format.value
            raise InvalidRequest("output_format", named, bound, "format-not-accepted")
        return params


def _media_range(text: str) -> tuple[str, float]:
    """Return a media range and its quality; 0 for a quality that is malformed."""
    name, *parameters = text.split(";")
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "q":
            quality = value.strip()
            return name.strip().lower(), float(quality) if QUALITY.fullmatch(quality) else 0.0
    return name.strip().lower(), 1.0


def _rank(ranges: dict[str, float], content_type: str) -> tuple[float, int]:
    """Return the quality of a type, and how closely the header names it: that decides a tie."""
    kind = content_type.partition("/")[0]
    for closeness, name in ((2, content_type), (1, f"{kind}/*"), (0, "*/*")):
        if name in ranges:
            return ranges[name], closeness
    return 0.0, 0
