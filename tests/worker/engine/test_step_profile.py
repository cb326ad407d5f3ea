"""Predictions of steps and bounds of batches, without a network or a clock."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.step_profile import (
    LONGEST_STEP_S,
    UNMEASURED,
    Measurement,
    StepProfile,
    row_counts,
)

SIZE = (4, 8, 8)
TIMES = {2: 0.020, 4: 0.030, 8: 0.050, 16: 0.099}  # 10, 7.5, 6.25 and 6.19 ms a row


def profile(seconds: dict[int, float] = TIMES, most_rows: int = 16) -> StepProfile:
    return StepProfile(Measurement(SIZE, seconds), most_rows)


@pytest.mark.parametrize(
    ("rows", "seconds"),
    [(1, 0.020), (2, 0.020), (3, 0.025), (8, 0.050), (12, 0.0745), (32, 0.197)],
)
def test_times_are_interpolated_linearly(rows: int, seconds: float) -> None:
    assert profile().step_seconds(SIZE, rows) == pytest.approx(seconds)


def test_row_of_four_times_the_cells_counts_as_four_rows() -> None:
    assert profile().step_seconds((4, 16, 16), 2) == pytest.approx(TIMES[8])
    assert profile().best_rows((4, 16, 16)) == 2
    assert profile().step_seconds((4, 4, 8), 8) == pytest.approx(TIMES[4])


def test_best_batch_is_the_smallest_that_is_nearly_fastest_per_row() -> None:
    assert profile().best_rows(SIZE) == 8  # sixteen would be faster by 1 %, and twice the wait
    assert profile(TIMES | {16: 0.09}).best_rows(SIZE) == 16
    assert profile({2: 0.02, 4: 0.04, 8: 0.08}).best_rows(SIZE) == 2


def test_step_is_longer_than_a_second_only_if_one_image_takes_that() -> None:
    halving = {2: 0.5, 4: 0.6, 8: 0.7, 16: 2 * LONGEST_STEP_S}
    assert profile(halving).best_rows(SIZE) == 8
    assert profile({2: 14.0, 4: 15.0}).best_rows(SIZE) == 2


def test_larger_batches_are_tried_if_only_the_smallest_was_measured() -> None:
    assert profile({2: 0.02}).best_rows(SIZE) == 16
    assert profile({2: 14.0}).best_rows(SIZE) == 2


def test_without_measurements_all_run_together() -> None:
    assert StepProfile(UNMEASURED, most_rows=24).cap((4, 64, 64)) == 24


def test_bound_below_a_guided_image_is_refused() -> None:
    with pytest.raises(ValueError, match="most_rows is 1"):
        StepProfile(UNMEASURED, most_rows=1)


@given(most=st.integers(2, 300))
def test_sizes_double_up_to_the_largest(most: int) -> None:
    counts = row_counts(most)
    assert (counts[0], counts[-1]) == (2, most)
    assert all(a < b <= 2 * a for a, b in pairwise(counts))


# -- refined by every step -----------------------------------------------------------------------


def test_prediction_learns_from_steps() -> None:
    learning = profile()
    for _ in range(200):
        learning.observe(SIZE, 6, 0.2)
    assert learning.step_seconds(SIZE, 6) == pytest.approx(0.2, rel=0.01)


def test_busy_machine_slows_all_sizes_and_changes_no_cap() -> None:
    learning = profile()
    for _ in range(200):
        learning.observe(SIZE, 8, 3 * TIMES[8])
    for rows, seconds in TIMES.items():
        assert learning.step_seconds(SIZE, rows) == pytest.approx(3 * seconds, rel=0.05)
    assert learning.best_rows(SIZE) == 8


def test_single_slow_step_changes_little() -> None:
    learning = profile()
    learning.observe(SIZE, 8, 60.0)
    assert learning.step_seconds(SIZE, 8) < 2 * TIMES[8]
    assert learning.best_rows(SIZE) == 8


def test_slow_batches_become_smaller() -> None:
    learning = profile(TIMES | {16: 0.06})
    assert learning.best_rows(SIZE) == 16
    for _ in range(800):
        learning.observe(SIZE, 16, 0.2)
        learning.observe(SIZE, 8, TIMES[8])
    assert learning.best_rows(SIZE) == 8


# -- memory --------------------------------------------------------------------------------------


def test_batches_are_as_large_as_memory_allows() -> None:
    measured = Measurement(SIZE, TIMES, bytes_per_cell=1000.0)
    small = StepProfile(measured, 16, memory_bytes=5 * 64 * 1000.0)
    assert small.cap(SIZE) == 5
    assert small.cap((4, 16, 16)) == 1
    assert small.fits(SIZE, 2)
    assert not small.fits((4, 16, 16), 2)


def test_out_of_memory_halves_the_batches_of_every_size() -> None:
    learning = profile()
    learning.ran_out_of_memory(SIZE, 8)
    assert learning.cap(SIZE) == 4
    assert learning.cap((4, 8, 16)) == 2
    assert learning.fits((4, 16, 16), 2)  # another program may have used the memory
    learning.ran_out_of_memory(SIZE, 4)
    assert learning.cap(SIZE) == 2


def test_batch_grows_again_while_full_batches_fit() -> None:
    learning = profile()
    learning.ran_out_of_memory(SIZE, 8)
    steps = 0
    while learning.cap(SIZE) < 8:
        learning.observe(SIZE, learning.cap(SIZE), TIMES[4])
        steps += 1
    assert 500 < steps < 1000
    learning.ran_out_of_memory(SIZE, 8)
    for _ in range(2000):
        learning.observe(SIZE, 2, TIMES[2])  # not full: they say nothing about memory
    assert learning.cap(SIZE) == 4
