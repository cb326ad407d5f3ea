"""The `Prefer` header (RFC 7240), as far as it is honoured here: `respond-async` and `wait`."""

from dataclasses import dataclass
from typing import Self

from starlette.datastructures import Headers


@dataclass(frozen=True)
class Preferences:
    """`respond_async`: rather a 202 than waiting; `wait_s`: but do wait for this many seconds."""

    respond_async: bool = False
    wait_s: int | None = None

    @classmethod
    def of(cls, headers: Headers) -> Self:
        """What a request prefers; what is unknown or malformed is ignored, as the RFC asks."""
        asked = ",".join(headers.getlist("prefer"))
        words = dict(_preference(part) for part in asked.split(","))
        wait = words.get("wait", "")
        return cls(
            respond_async="respond-async" in words,
            wait_s=int(wait) if wait.isascii() and wait.isdigit() and len(wait) < 7 else None,
        )

    def patience_s(self, most_s: float) -> float:
        """How long to wait before answering without the pictures."""
        if self.wait_s is not None:
            return min(self.wait_s, most_s)
        return 0 if self.respond_async else most_s


def _preference(part: str) -> tuple[str, str]:
    name, _, value = part.partition(";")[0].partition("=")
    return name.strip().lower(), value.strip().strip('"')
