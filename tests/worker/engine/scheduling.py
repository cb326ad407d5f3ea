"""Slots and limits without a network, for tests of the batcher."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field


@dataclass(eq=False)
class Waiting:
    """A slot. Groups are letters."""

    group: str
    rows: int = 2
    admitted_at: float = 0.0
    priority: int = 1
    deadline_at: float | None = None
    steps_left: int = 10


@dataclass
class Costs:
    """A step takes `fixed_s` and `row_s` more for every row, times the group's factor."""

    most_rows: int = 8
    fixed_s: float = 0.01
    row_s: float = 0.01
    factors: Mapping[str, float] = field(default_factory=dict)

    def step_seconds(self, group: Hashable, rows: int) -> float:
        return self.factors.get(str(group), 1.0) * (self.fixed_s + self.row_s * rows)

    def cap(self, group: Hashable) -> int:
        return self.most_rows
