"""Batch sizes: plans cover the rows in the least time, and the best group of sizes is chosen."""

from __future__ import annotations

from itertools import combinations_with_replacement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.cuda.rows import choose_group, plan, sufficient

SECONDS = st.dictionaries(
    st.sampled_from([1, 2, 3, 4, 8]), st.integers(1, 50).map(float), min_size=1
)


@given(st.integers(1, 12), SECONDS)
def test_no_choice_of_sizes_is_faster(rows: int, seconds: dict[int, float]) -> None:
    sizes = plan(rows, seconds)
    assert sum(sizes) >= rows
    assert sizes == sorted(sizes, reverse=True)
    least = min(
        sum(seconds[size] for size in choice)
        for count in range(1, rows + 1)
        for choice in combinations_with_replacement(seconds, count)
        if sum(choice) >= rows
    )
    assert sum(seconds[size] for size in sizes) == least


def test_a_plan_prefers_one_replay_to_two_that_take_as_long() -> None:
    assert plan(4, {2: 1.0, 4: 2.0}) == [4]


@pytest.mark.parametrize(("rows", "seconds"), [(0, {1: 1.0}), (1, {})])
def test_a_plan_needs_rows_and_sizes(rows: int, seconds: dict[int, float]) -> None:
    with pytest.raises(ValueError, match=f"{rows} rows"):
        plan(rows, seconds)


def test_sufficient_size_is_near_the_best_throughput() -> None:
    saturating = {1: 1.0, 2: 1.1, 4: 1.5, 8: 2.8, 16: 5.5}
    assert sufficient(saturating) == 4  # 2.67 rows a second, against 2.91 with 16
    assert sufficient(saturating, share=1.0) == 16


def test_group_is_fast_for_large_batches_first_and_small_second() -> None:
    seconds = {1: 1.0, 2: 1.1, 4: 1.5, 8: 2.8, 16: 5.5}
    slow, small, large = frozenset({1, 2}), frozenset({4, 8}), frozenset({16})
    assert choose_group([large, slow, small], seconds) == small
    assert choose_group([slow], seconds) == slow
