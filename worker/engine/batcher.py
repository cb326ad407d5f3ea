"""Chooses the slots of the next step. Pure: candidates, limits and the time -> batch; no torch.

Only slots of one group (one model, one latent shape) can share a run of the network. Priority, age
and deadline become one number for each slot, the time at which it is due:

    due = admitted + priority * patience      priority 0 (high), 1 (normal), 2 (low)
    due = the latest moment to go on that still meets the deadline, if that comes first

A slot that is due is at level 0; before, its level is the patience periods left: 1 or 2. The groups
with slots of the lowest level take turns by deficit round robin, paid in device time; inside a
group slots go by level, then by due time, until the rows are used up. A due time does not change
while its slot waits, and new slots are due later, so no slot starves; and a batch lasts for one
step, so an urgent new slot has the next one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Generic, Protocol, TypeVar

PATIENCE_S = 10.0  # the waiting time that a level of priority is worth,
PATIENCE = 3.0  # or this times its remaining steps' time alone, if that is longer
SAFETY = 1.25  # factor on the predicted time, when a deadline is compared with it


class Candidate(Protocol):
    """A slot as the batcher sees it. Times are of one monotonic clock, in seconds."""

    @property
    def group(self) -> Hashable:
        """A key: slots of equal groups can share a run of the network."""

    @property
    def rows(self) -> int:
        """Rows of the network that one step takes: 2 if guided, 3 if by an image too, else 1."""

    @property
    def admitted_at(self) -> float: ...

    @property
    def priority(self) -> int:
        """0 high, 1 normal, 2 low."""

    @property
    def deadline_at(self) -> float | None:
        """The time after which the image is no longer needed."""

    @property
    def steps_left(self) -> int: ...


class Limits(Protocol):
    """The cost of steps and the bound of batches, as `worker.engine.step_profile` measures them."""

    def step_seconds(self, group: Hashable, rows: int) -> float:
        """Predict the seconds of one step of `rows` rows, above 0."""

    def cap(self, group: Hashable) -> int:
        """Return the rows that a batch of this group may have."""


C = TypeVar("C", bound=Candidate)


def free_slots(held: Sequence[Candidate], slots: int) -> int:
    """Return the number of slots to admit in addition to those `held`; `slots` may step together.

    Until one group fills a batch, so that groups take turns with full batches; at most twice
    `slots` in all, because other workers cannot run what is held here.
    """
    largest = max(Counter(slot.group for slot in held).values(), default=0)
    return max(0, min(slots - largest, 2 * slots - len(held)))


class Batcher:
    """Chooses batches, and keeps the credit of each group."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # Group -> seconds it is owed. A served group goes to the end: ties go to the others.
        self._credit: dict[Hashable, float] = {}

    def choose(self, candidates: Sequence[C], now: float) -> list[C]:
        """Return the slots of the next step, the most urgent first; empty only without candidates.

        A slot that alone exceeds the cap is a batch of its own: it cannot be split.
        """
        queues: dict[Hashable, list[_Entry[C]]] = {}
        for slot in candidates:
            queues.setdefault(slot.group, []).append(self._entry(slot, now))
        self._credit = {group: owed for group, owed in self._credit.items() if group in queues}
        if not queues:
            return []
        levels = {group: min(entry.level for entry in queue) for group, queue in queues.items()}
        batches = {
            group: _first(queue, self._limits.cap(group))
            for group, queue in queues.items()
            if levels[group] == min(levels.values())
        }
        return batches[self._take_turn(batches)]

    def _entry(self, slot: C, now: float) -> _Entry[C]:
        alone_s = slot.steps_left * self._limits.step_seconds(slot.group, slot.rows)
        patience_s = max(PATIENCE_S, PATIENCE * alone_s)
        due = slot.admitted_at + slot.priority * patience_s
        # Rounded, so that a slot just admitted is not one level further for the sake of a bit.
        level = ceil(round(max(0.0, due - now) / patience_s, 6))
        # A slot that would be late even alone must not hold up the others.
        if slot.deadline_at is not None and now + alone_s <= slot.deadline_at:
            rows = max(slot.rows, self._limits.cap(slot.group))
            batched_s = slot.steps_left * self._limits.step_seconds(slot.group, rows)
            due = min(due, slot.deadline_at - SAFETY * batched_s)
            level = 0 if now >= due else level
        return _Entry(level, due, slot.admitted_at, slot)

    def _take_turn(self, batches: Mapping[Hashable, Sequence[Candidate]]) -> Hashable:
        """Return the group whose turn it is.

        In every round a group earns credit in proportion to the rows of its batch; it is served,
        and pays, once its credit covers its step. All rounds up to that one are computed at once.
        """
        for group in batches:
            self._credit.setdefault(group, 0.0)
        order = [group for group in self._credit if group in batches]
        rows = {group: sum(slot.rows for slot in batches[group]) for group in order}
        price = {group: self._limits.step_seconds(group, rows[group]) for group in order}
        rounds = {group: (price[group] - self._credit[group]) / rows[group] for group in order}
        chosen = min(order, key=rounds.__getitem__)
        for group in order:
            self._credit[group] += max(0.0, rounds[chosen]) * rows[group]
        self._credit[chosen] = self._credit.pop(chosen) - price[chosen]
        return chosen


@dataclass(frozen=True)
class _Entry(Generic[C]):
    """A slot and its place: by level, then due time, then age."""

    level: int
    due: float
    admitted_at: float
    slot: C

    @property
    def place(self) -> tuple[int, float, float]:
        return self.level, self.due, self.admitted_at


def _first(queue: list[_Entry[C]], cap: int) -> list[C]:
    """Return slots of at most `cap` rows by their places.

    The first slot is always taken; others that do not fit are passed over.
    """
    batch: list[C] = []
    rows = 0
    for entry in sorted(queue, key=lambda entry: entry.place):
        if not batch or rows + entry.slot.rows <= cap:
            batch.append(entry.slot)
            rows += entry.slot.rows
    return batch
