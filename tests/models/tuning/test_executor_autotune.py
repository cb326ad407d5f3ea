"""The measured candidates, sizes and times, on a clock that only the networks advance."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from models.executors.base import Network, Run
from models.executors.stopwatch import best_seconds
from models.tuning import executor_autotune
from models.tuning.executor_autotune import LARGEST_ERROR, REPEATS

ROWS = (2, 16)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


class Contest:
    """Runs that take the given time for each row, and a list of the runs."""

    def __init__(self, clock: Clock, budget_s: float, **seconds: Callable[[int], float]) -> None:
        self.calls: list[tuple[str, int]] = []
        network = Network("denoiser", nn.Identity(), lambda rows: (torch.ones(rows),), ((0,),))
        runs = {name: self._run(name, clock, cost) for name, cost in seconds.items()}
        self.won = executor_autotune._fastest(network, runs, ROWS, budget_s)

    def _run(self, name: str, clock: Clock, seconds: Callable[[int], float]) -> Run:
        def run(*inputs: Tensor) -> Tensor:
            rows = len(inputs[0])
            clock.now += rows * seconds(rows)
            self.calls.append((name, rows))
            return inputs[0]

        return run


def test_both_sizes_count_with_enough_time(clock: Clock) -> None:
    few_rows = {2: 0.010, 16: 0.020}  # best alone, worst in a batch
    batch = {2: 0.012, 16: 0.010}
    contest = Contest(clock, 10.0, alone=few_rows.__getitem__, batch=batch.__getitem__)
    assert contest.won == "batch"
    both = [(name, rows) for rows in ROWS for name in ("alone", "batch") for _ in range(REPEATS)]
    assert contest.calls == both


def test_slow_candidate_is_not_tried_at_more_rows(clock: Clock) -> None:
    def slow(rows: int) -> float:
        return 0.03

    contest = Contest(clock, 60.0, a=lambda _: 0.010, b=lambda _: 0.011, slow=slow)
    assert contest.won == "a"
    assert ("slow", 2) in contest.calls
    assert ("slow", 16) not in contest.calls
    assert ("b", 16) in contest.calls
    assert {rows for _, rows in Contest(clock, 60.0, a=lambda _: 0.01, slow=slow).calls} == {2}


def test_slow_network_is_run_once_by_each_candidate(clock: Clock) -> None:
    contest = Contest(clock, 10.0, a=lambda _: 8.0, b=lambda _: 7.0)
    assert contest.won == "b"
    assert contest.calls == [("a", 2), ("b", 2)]


def test_single_candidate_is_not_run(clock: Clock) -> None:
    contest = Contest(clock, 10.0, only=lambda _: 1.0)
    assert (contest.won, contest.calls) == ("only", [])


def test_reference_is_computed_once_and_inexact_candidates_are_left_out() -> None:
    calls = []

    def exact(*inputs: Tensor) -> Tensor:
        calls.append("exact")
        return inputs[0]

    def off_by(share: float) -> Callable[[], Run]:
        return lambda: lambda *inputs: inputs[0] * (1 + share * LARGEST_ERROR)

    def eager() -> Run:
        return exact

    network = Network("decoder", nn.Identity(), lambda rows: (torch.ones(rows, 3),), ((0,),))
    candidates = {"near": off_by(0.9), "off": off_by(1.1), "eager": eager}
    assert list(executor_autotune._exact_enough(network, exact, candidates, 2)) == ["near", "eager"]
    assert calls == ["exact"]


def test_no_call_starts_after_the_time_budget(clock: Clock) -> None:
    took = iter([4.0, 3.0, 2.0, 1.0])

    def call() -> None:
        clock.now += next(took)

    assert best_seconds(call, 4, budget_s=7.0) == 3.0
    assert best_seconds(call, 4, budget_s=0.0) == 2.0
    assert best_seconds(call, 1, budget_s=9.0) == 1.0
