"""The batcher in any order of events: admissions, cancels, time, out of memory."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from worker.engine.batcher import PATIENCE, PATIENCE_S, Batcher
from worker.engine.step_profile import Group, Measurement, StepProfile

GROUPS: tuple[Group, ...] = ((4, 8, 8), (4, 8, 16), (4, 16, 16))
MEASURED = Measurement(GROUPS[0], {2: 0.02, 4: 0.028, 8: 0.045, 16: 0.08})
MOST_ROWS = 16


@dataclass(eq=False)
class Slot:
    group: Group
    rows: int
    admitted_at: float
    priority: int
    deadline_at: float | None
    steps_left: int

    def patience_s(self, limits: StepProfile) -> float:
        alone_s = self.steps_left * limits.step_seconds(self.group, self.rows)
        return max(PATIENCE_S, PATIENCE * alone_s)


class Scheduler(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.limits = StepProfile(MEASURED, MOST_ROWS)
        self.batcher = Batcher(self.limits)
        self.slots: list[Slot] = []
        self.now = 0.0
        self.last: list[Slot] = []
        self.passed_over = dict.fromkeys(GROUPS, 0)
        self.row_prices: list[float] = []

    # -- what may happen -------------------------------------------------------------------------

    @rule(
        group=st.sampled_from(GROUPS),
        rows=st.sampled_from([1, 2]),
        priority=st.sampled_from([0, 1, 2]),
        within_s=st.none() | st.floats(0.01, 30),
        steps=st.integers(1, 30),
        many=st.integers(1, 6),
    )
    def admit(
        self, group: Group, rows: int, priority: int, within_s: float | None, steps: int, many: int
    ) -> None:
        for _ in range(many):
            deadline = None if within_s is None else self.now + within_s
            self.slots.append(Slot(group, rows, self.now, priority, deadline, steps))
            self.now += 0.001

    @rule(which=st.integers(0))
    def cancel(self, which: int) -> None:
        if self.slots:
            del self.slots[which % len(self.slots)]

    @rule(seconds=st.floats(0, 40))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(times=st.integers(1, 8), slowness=st.floats(0.5, 2))
    def step(self, times: int, slowness: float) -> None:
        for _ in range(times):
            batch = self.choose()
            if not batch:
                return
            group, rows = batch[0].group, sum(slot.rows for slot in batch)
            seconds = slowness * self.limits.step_seconds(group, rows)
            self.limits.observe(group, rows, seconds)
            self.now += seconds
            for slot in batch:
                slot.steps_left -= 1
            self.slots = [slot for slot in self.slots if slot.steps_left]

    @rule()
    def memory_runs_out(self) -> None:
        batch = self.choose()
        if len(batch) > 1:
            group, rows = batch[0].group, sum(slot.rows for slot in batch)
            self.limits.ran_out_of_memory(group, rows)
            assert self.limits.cap(group) < rows

    # -- what must hold --------------------------------------------------------------------------

    def choose(self) -> list[Slot]:
        """The batch, after a look at whether it is a right one."""
        prices = {g: self.limits.step_seconds(g, MOST_ROWS) / MOST_ROWS for g in GROUPS}
        self.row_prices += [*prices.values(), *(self.limits.step_seconds(g, 1) for g in GROUPS)]
        levels = self.levels()
        batch = self.batcher.choose(self.slots, self.now)
        if batch:
            self.is_legal(batch)
            self.keeps_the_order(batch)
            self.leaves_nobody_out(batch, levels)
        else:
            assert not self.slots
        return batch

    def is_legal(self, batch: list[Slot]) -> None:
        [group] = {slot.group for slot in batch}
        rows = sum(slot.rows for slot in batch)
        cap = self.limits.cap(group)
        assert rows <= cap or len(batch) == 1
        assert len(set(batch)) == len(batch)
        left = [slot for slot in self.slots if slot.group == group and slot not in batch]
        assert all(rows + slot.rows > cap for slot in left), "room is left that could be used"

    def keeps_the_order(self, batch: list[Slot]) -> None:
        """Check that slots of the group that are passed over are less urgent, or did not fit."""
        left = [s for s in self.slots if s.group == batch[0].group and s not in batch]
        for out in left:
            for taken in batch[1:]:
                more_urgent = self.priority_now(out) < self.priority_now(taken)
                older = out.admitted_at < taken.admitted_at
                alike = out.priority == taken.priority and out.steps_left == taken.steps_left
                no_deadlines = out.deadline_at is None and taken.deadline_at is None
                if no_deadlines and out.rows <= taken.rows:
                    assert not more_urgent
                    assert not (alike and older)

    def leaves_nobody_out(self, batch: list[Slot], levels: dict[Group, int]) -> None:
        """Groups as urgent as the one served have their turns within a bound."""
        assert levels[batch[0].group] == min(levels.values())
        dearest, cheapest = max(self.row_prices), min(self.row_prices)
        bound = (len(GROUPS) - 1) * (2 * dearest / cheapest + 1)
        for group in GROUPS:
            contends = levels.get(group) == levels[batch[0].group]
            passed = contends and group != batch[0].group
            self.passed_over[group] = self.passed_over[group] + 1 if passed else 0
            assert self.passed_over[group] <= bound

    def levels(self) -> dict[Group, int]:
        """Return the level of each group's most urgent slot, without using the batcher."""
        found: dict[Group, int] = {}
        for slot in self.slots:
            found[slot.group] = min(found.get(slot.group, 2), self.level(slot))
        return found

    def level(self, slot: Slot) -> int:
        if slot.deadline_at is None:
            return self.priority_now(slot)
        step_s = self.limits.step_seconds(slot.group, slot.rows)
        crowded_s = self.limits.step_seconds(
            slot.group, max(slot.rows, self.limits.cap(slot.group))
        )
        can_be_met = self.now + slot.steps_left * step_s <= slot.deadline_at
        near = self.now >= slot.deadline_at - 1.25 * slot.steps_left * crowded_s
        return 0 if can_be_met and near else self.priority_now(slot)

    def priority_now(self, slot: Slot) -> int:
        """A whole patience of waiting is worth a level."""
        waited = round((self.now - slot.admitted_at) / slot.patience_s(self.limits), 6)
        return max(0, slot.priority - int(waited))

    @invariant()
    def the_bounds_stay_sensible(self) -> None:
        for group in GROUPS:
            assert 1 <= self.limits.cap(group) <= MOST_ROWS
            assert 2 <= self.limits.best_rows(group) <= MOST_ROWS
            assert self.limits.step_seconds(group, 2) > 0

    def teardown(self) -> None:
        """Check that every slot finishes after at most as many steps as are left in all."""
        steps = sum(slot.steps_left for slot in self.slots)
        while self.slots:
            self.step(1, 1.0)
            steps -= 1
        assert steps >= 0


TestScheduler = Scheduler.TestCase
TestScheduler.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
