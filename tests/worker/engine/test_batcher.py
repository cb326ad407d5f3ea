"""The choice of the next step's slots, without a network: bounds, order, turns, urgency."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.worker.engine.scheduling import Costs, Waiting
from worker.engine.batcher import PATIENCE_S, Batcher, free_slots

NOW = 100.0

slots = st.builds(
    Waiting,
    group=st.sampled_from("abc"),
    rows=st.sampled_from([1, 2]),
    admitted_at=st.floats(0, NOW),
    priority=st.sampled_from([0, 1, 2]),
    deadline_at=st.none() | st.floats(NOW - 50, NOW + 50),
    steps_left=st.integers(1, 100),
)
slot_lists = st.lists(slots, max_size=20)
caps = st.integers(2, 16)


@given(waiting=slot_lists, cap=caps)
def test_batch_is_legal(waiting: list[Waiting], cap: int) -> None:
    batch = Batcher(Costs(cap)).choose(waiting, NOW)
    assert bool(batch) == bool(waiting)
    assert len({slot.group for slot in batch}) <= 1
    assert sum(slot.rows for slot in batch) <= cap
    assert len(set(batch)) == len(batch)


@given(waiting=slot_lists, cap=caps)
def test_batch_leaves_no_rows_that_a_slot_could_use(waiting: list[Waiting], cap: int) -> None:
    batch = Batcher(Costs(cap)).choose(waiting, NOW)
    left = [s for s in waiting if batch and s.group == batch[0].group and s not in batch]
    free = cap - sum(slot.rows for slot in batch)
    assert all(slot.rows > free for slot in left)


@given(waiting=slot_lists.filter(bool), cap=caps)
def test_order_of_the_candidates_does_not_matter(waiting: list[Waiting], cap: int) -> None:
    for number, slot in enumerate(waiting):
        slot.group, slot.admitted_at = "a", number / 10  # no two alike
    batch = Batcher(Costs(cap)).choose(waiting, NOW)
    assert Batcher(Costs(cap)).choose(waiting[::-1], NOW) == batch


def test_slot_larger_than_the_cap_runs_alone() -> None:
    guided, other = Waiting("a", admitted_at=1), Waiting("a", admitted_at=2)
    assert Batcher(Costs(1)).choose([guided, other], NOW) == [guided]


def test_oldest_slots_go_first() -> None:
    waiting = [Waiting("a", admitted_at=float(-i)) for i in range(5)]
    assert Batcher(Costs(4)).choose(waiting, 0.0) == [waiting[4], waiting[3]]


def test_unguided_slots_take_half_the_rows() -> None:
    waiting = [Waiting("a", rows=1, admitted_at=float(i)) for i in range(9)]
    assert len(Batcher(Costs(8)).choose(waiting, NOW)) == 8


# -- turns ---------------------------------------------------------------------------------------


def turns(costs: Costs, waiting: list[Waiting], steps: int) -> Counter[str]:
    """Return the number of `steps` steps that each group gets while no slot leaves."""
    batcher = Batcher(costs)
    return Counter(batcher.choose(waiting, 0.0)[0].group for _ in range(steps))


def test_equal_groups_alternate() -> None:
    batcher = Batcher(Costs())
    waiting = [Waiting("a"), Waiting("b"), Waiting("c")]
    served = "".join(batcher.choose(waiting, 0.0)[0].group for _ in range(9))
    assert served == served[:3] * 3
    assert set(served[:3]) == set("abc")


def test_many_slots_of_one_group_do_not_block_another() -> None:
    batcher = Batcher(Costs(most_rows=8))
    many = [Waiting("big") for _ in range(50)]
    for _ in range(10):
        batcher.choose(many, 0.0)
    late = Waiting("small", admitted_at=1.0)
    served = [batcher.choose([*many, late], 1.0)[0].group for _ in range(12)]
    assert "small" in served[:3]
    assert "big" in served[:3]


def test_groups_pay_in_device_time() -> None:
    waiting = [Waiting("slow"), Waiting("quick")]
    shares = turns(Costs(factors={"slow": 4.0}), waiting, 100)
    assert shares == {"slow": 20, "quick": 80}


def test_rows_get_equal_device_time_in_batches_of_any_size() -> None:
    costs = Costs(most_rows=16, fixed_s=0.0)
    many, single = [Waiting("many") for _ in range(8)], Waiting("single")
    shares = turns(costs, [*many, single], 100)
    assert shares == {"many": 50, "single": 50}  # steps of eight and of one: equal time per row


def test_returning_group_has_neither_debt_nor_credit() -> None:
    batcher = Batcher(Costs())
    both = [Waiting("a"), Waiting("b")]
    for _ in range(5):
        batcher.choose([both[0]], 0.0)
    served = [batcher.choose(both, 0.0)[0].group for _ in range(4)]
    assert Counter(served) == {"a": 2, "b": 2}


# -- free slots ----------------------------------------------------------------------------------


def test_slots_are_free_until_a_group_fills_a_batch() -> None:
    assert free_slots([], 8) == 8
    assert free_slots([Waiting("a")] * 5, 8) == 3
    assert free_slots([Waiting("a")] * 5 + [Waiting("b")] * 5, 8) == 3
    assert free_slots([Waiting("a")] * 8, 8) == 0


def test_at_most_twice_the_slots_are_held() -> None:
    held = [Waiting(group) for group in "abcdefg" for _ in range(2)]
    assert free_slots(held, 8) == 2
    assert free_slots([*held, Waiting("h"), Waiting("h")], 8) == 0
    assert free_slots([Waiting("a")] * 20, 8) == 0  # a job of many images may exceed it


# -- urgency -------------------------------------------------------------------------------------


def test_high_priority_has_the_next_step_in_all_groups() -> None:
    batcher = Batcher(Costs(most_rows=4))
    running = [Waiting("a"), Waiting("a"), Waiting("b"), Waiting("b")]
    for _ in range(6):
        batcher.choose(running, 1.0)
    for group in "ab":
        high = Waiting(group, admitted_at=1.0, priority=0)
        for _ in range(3):
            batch = batcher.choose([*running, high], 1.0)
            assert batch[0] is high
            assert len(batch) == 2


def test_low_priority_waits_for_normal_until_it_is_due() -> None:
    batcher = Batcher(Costs())
    low = Waiting("low", priority=2)
    normal = Waiting("normal", admitted_at=0.001)
    for _ in range(20):
        assert batcher.choose([low, normal], 0.002)[0] is normal
    fresh = Waiting("normal", admitted_at=2 * PATIENCE_S)
    served = {batcher.choose([low, fresh], 2 * PATIENCE_S)[0].group for _ in range(20)}
    assert served == {"low"}  # it is due by then, and the new slot is not


def test_patience_grows_with_the_work() -> None:
    """Check that an image that takes minutes is not urgent at once, which would undo priorities."""
    costs = Costs(most_rows=2, factors={"a": 1000.0})
    long = Waiting("a", steps_left=20)
    high = Waiting("a", admitted_at=60.0, priority=0)
    assert Batcher(costs).choose([long, high], 61.0) == [high]


def test_near_deadline_preempts_and_far_one_does_not() -> None:
    costs = Costs(most_rows=4)  # a full step takes 0.05 s
    many = [Waiting("a") for _ in range(4)]
    slot = Waiting("b", admitted_at=1.0, steps_left=10, deadline_at=3.0)
    order = [Batcher(costs).choose([*many, slot], now)[0].group for now in (1.0, 2.4)]
    assert order == ["a", "b"]


def test_earlier_deadline_goes_first() -> None:
    costs = Costs(most_rows=2)
    soon, later = (Waiting("a", deadline_at=at) for at in (0.5, 0.51))
    assert Batcher(costs).choose([later, soon], 0.0) == [soon]


def test_deadline_that_cannot_be_met_is_not_urgent() -> None:
    costs = Costs(most_rows=2)
    hopeless = Waiting("a", admitted_at=1.0, steps_left=100, deadline_at=1.5)
    other = Waiting("a", admitted_at=0.0)
    assert Batcher(costs).choose([hopeless, other], 1.0) == [other]
