"""Deciding who steps next, without a network: bounds, order, and that nobody starves."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.batcher import Batcher


@dataclass(frozen=True)
class Waiting:
    number: int
    shape: str
    rows: int
    admitted_at: float


waiting_lists = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([1, 2]), st.floats(0, 100)), max_size=20
).map(lambda slots: [Waiting(i, *slot) for i, slot in enumerate(slots)])


@given(waiting=waiting_lists, max_rows=st.integers(2, 16))
def test_a_batch_is_legal(waiting: list[Waiting], max_rows: int) -> None:
    batch = Batcher(max_rows).choose(waiting)
    assert bool(batch) == bool(waiting)
    assert len({slot.shape for slot in batch}) <= 1
    assert sum(slot.rows for slot in batch) <= max_rows
    assert [slot.admitted_at for slot in batch] == sorted(slot.admitted_at for slot in batch)
    assert len(set(batch)) == len(batch)


@given(waiting=waiting_lists, max_rows=st.integers(2, 16))
def test_a_batch_leaves_no_room_that_somebody_could_use(
    waiting: list[Waiting], max_rows: int
) -> None:
    batch = Batcher(max_rows).choose(waiting)
    left = [s for s in waiting if batch and s.shape == batch[0].shape and s not in batch]
    free = max_rows - sum(slot.rows for slot in batch)
    assert all(slot.rows > free for slot in left)


@given(waiting=waiting_lists.filter(bool), max_rows=st.integers(2, 16))
def test_every_shape_has_its_turn_in_every_round(waiting: list[Waiting], max_rows: int) -> None:
    batcher = Batcher(max_rows)
    shapes = {slot.shape for slot in waiting}
    for _ in range(3):
        served = [batcher.choose(waiting)[0].shape for _ in shapes]
        assert set(served) == shapes


def test_a_crowd_at_one_size_does_not_keep_a_latecomer_waiting() -> None:
    batcher = Batcher(4)
    crowd = [Waiting(i, "big", 2, float(i)) for i in range(50)]
    batcher.choose(crowd)
    late = Waiting(99, "small", 2, 1000.0)
    assert batcher.choose([*crowd, late]) == [late]
    assert batcher.choose([*crowd, late])[0].shape == "big"


def test_the_oldest_go_first() -> None:
    waiting = [Waiting(i, "a", 2, float(-i)) for i in range(5)]
    assert [slot.number for slot in Batcher(4).choose(waiting)] == [4, 3]


def test_unguided_slots_take_half_the_room() -> None:
    waiting = [Waiting(i, "a", 1, float(i)) for i in range(9)]
    assert len(Batcher(8).choose(waiting)) == 8


def test_a_batch_too_small_for_guidance_is_refused() -> None:
    with pytest.raises(ValueError, match="max_rows is 1"):
        Batcher(1)
