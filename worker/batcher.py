"""Which slots take the next step. Pure: candidates and bounds in, batch out; no torch, no clock.

Only slots of one latent shape can share a run of the network. Shapes take turns, the one that
has waited longest first, so a crowd at one size never keeps another from being served; inside
a shape the oldest slots go first, until the rows of a batch are used up.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol, TypeVar


class Candidate(Protocol):
    """What deciding needs to know about a slot."""

    @property
    def shape(self) -> Hashable: ...

    @property
    def rows(self) -> int: ...

    @property
    def admitted_at(self) -> float: ...


C = TypeVar("C", bound=Candidate)


class Batcher:
    """Chooses batches of at most `max_rows` network rows, remembering whose turn it was."""

    def __init__(self, max_rows: int) -> None:
        """`max_rows` is at least 2, the rows of one guided picture."""
        if max_rows < 2:
            raise ValueError(f"max_rows is {max_rows}, but one guided picture takes 2 rows")
        self.max_rows = max_rows
        self._turn = 0
        self._served: dict[Hashable, int] = {}  # shape -> the turn it last had

    def choose(self, candidates: Sequence[C]) -> list[C]:
        """The slots of the next step, oldest first; empty only if there are no candidates."""
        if not candidates:
            self._served.clear()
            return []
        shape = self._next_shape(candidates)
        batch, rows = [], 0
        for slot in sorted(candidates, key=lambda c: c.admitted_at):
            if slot.shape == shape and rows + slot.rows <= self.max_rows:
                batch.append(slot)
                rows += slot.rows
        return batch

    def _next_shape(self, candidates: Sequence[C]) -> Hashable:
        waiting = {c.shape for c in candidates}
        oldest = {s: min(c.admitted_at for c in candidates if c.shape == s) for s in waiting}
        self._served = {s: turn for s, turn in self._served.items() if s in waiting}
        shape = min(waiting, key=lambda s: (self._served.get(s, -1), oldest[s]))
        self._turn += 1
        self._served[shape] = self._turn
        return shape
