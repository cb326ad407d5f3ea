"""Decodes a stream of server-sent events (WHATWG HTML, 9.2)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

# A line ends in these only; `str.splitlines` knows more, which the data may contain.
LINE_END = re.compile(r"\r\n|\n|\r(?!\Z)")


@dataclass(frozen=True)
class Event:
    """An event. `retry_s`: the seconds after which the server wants to be asked again."""

    name: str
    data: str
    id: str | None
    retry_s: float | None


class EventDecoder:
    """Makes events of pieces of text, which may end anywhere."""

    def __init__(self) -> None:
        self._rest = ""
        self._fields: dict[str, str] = {}

    def events(self, text: str) -> Iterator[Event]:
        """Yield the events that are complete with this piece."""
        *lines, self._rest = LINE_END.split(self._rest + text)
        for line in lines:
            if line:
                self._add(line)
            elif event := self._end():
                yield event

    def _add(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data" and name in self._fields:
            value = f"{self._fields[name]}\n{value}"
        self._fields[name] = value

    def _end(self) -> Event | None:
        fields, self._fields = self._fields, {}
        if "data" not in fields:
            return None
        retry = fields.get("retry", "")
        return Event(
            name=fields.get("event", "message"),
            data=fields["data"],
            id=fields.get("id"),
            retry_s=int(retry) / 1000 if retry.isdecimal() else None,
        )
