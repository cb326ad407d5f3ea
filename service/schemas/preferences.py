"""The `Prefer` header (RFC 7240); `respond-async` and `wait` are supported."""

from dataclasses import dataclass
from typing import Self

from starlette.datastructures import Headers


@dataclass(frozen=True)
class Preferences:
    """Preferences of a request.

    `respond_async`: respond 202 instead of waiting for the images; `wait_s`: wait this many
    seconds for them first.
    """

    respond_async: bool = False
    wait_s: int | None = None

    @classmethod
    def from_headers(cls, headers: Headers) -> Self:
        """Return the preferences in `headers`; unknown and malformed ones are ignored."""
        parts = ",".join(headers.getlist("prefer")).split(",")
        preferences = dict(map(_preference, parts))
        wait = preferences.get("wait", "")
        return cls(
            respond_async="respond-async" in preferences,
            wait_s=int(wait) if wait.isascii() and wait.isdigit() and len(wait) < 7 else None,
        )

    def timeout_s(self, max_wait_s: float) -> float:
        """Return how many seconds to wait for the images before responding without them."""
        return 0 if self.respond_async and self.wait_s is None else self.most_s(max_wait_s)

    def most_s(self, max_wait_s: float) -> float:
        """Return how many seconds to wait for anything at all before responding."""
        return max_wait_s if self.wait_s is None else min(self.wait_s, max_wait_s)


def _preference(part: str) -> tuple[str, str]:
    name, _, value = part.partition(";")[0].partition("=")
    return name.strip().lower(), value.strip().strip('"')
