"""Tests of the simulation: latencies calculated by hand, and the output of the benchmark."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest

from bench.simulation.devices import Device, sdxl_h200
from bench.simulation.policies import Policy, RequestLevel, StepLevel, serial
from bench.simulation.requests import (
    Request,
    RequestKind,
    at_rate,
    bursty,
    poisson,
    read_trace,
    synthetic_trace,
    write_trace,
)
from bench.simulation.run import QueueCost, quantile, simulate, summary
from worker.engine.step_profile import Measurement

SIZE = (4, 8, 8)
# A step takes 0.1 s with 2 rows and 0.2 s with 8; decoding takes 0.05 s.
STEPS = Measurement(SIZE, {2: 0.1, 4: 0.15, 8: 0.2})
DEVICE = Device("toy", "invented", STEPS, 0.05, side=64, factor=8, default_steps=4, slots=4)
KIND = RequestKind(SIZE, steps=4)


def latencies(policy: Policy, *at: float) -> list[float]:
    served = simulate(DEVICE, lambda: policy, [Request(when, KIND) for when in at])
    return [round(each.latency_s, 6) for each in served]


def test_latency_alone_is_the_same_with_every_policy() -> None:
    alone = 0.45
    assert DEVICE.alone_s(KIND) == alone
    assert latencies(StepLevel(DEVICE), 3.0) == [alone]
    assert latencies(serial(), 3.0) == [alone]
    assert latencies(RequestLevel(4, timeout_s=0.0), 3.0) == [alone]


def test_serial_runs_one_request_after_the_other() -> None:
    assert latencies(serial(), 0.0, 0.1) == [0.45, 0.8]


def test_request_level_waits_for_a_full_batch_or_the_time_out() -> None:
    assert latencies(RequestLevel(2, timeout_s=1.0), 0.0, 0.3) == [0.95, 0.7]
    assert latencies(RequestLevel(2, timeout_s=0.2), 0.0) == [0.65]
    # The third misses the batch and waits for its end; by then its time-out is over.
    assert latencies(RequestLevel(2, timeout_s=0.2), 0.0, 0.0, 0.1) == [0.65, 0.7, 1.05]


def test_step_level_admits_a_new_request_at_the_next_step() -> None:
    # One step alone, three steps together, decoding of the first; last step and decoding of the
    # second.
    first, second = latencies(StepLevel(DEVICE), 0.0, 0.05)
    assert first == pytest.approx(0.1 + 3 * 0.15 + 0.05)
    assert second == pytest.approx(first + 0.1 + 0.05 - 0.05)


def test_slow_queue_delays_both_of_two_workers() -> None:
    at_once = [Request(0.0, KIND), Request(0.0, KIND)]
    two = simulate(DEVICE, lambda: StepLevel(DEVICE), at_once, workers=2)
    assert [each.latency_s for each in two] == pytest.approx([0.45, 0.45])
    cost = QueueCost(take_s=0.1, end_s=0.025, busy=0.5)
    slow = simulate(DEVICE, lambda: StepLevel(DEVICE), at_once, workers=2, cost=cost)
    assert [each.latency_s for each in slow] == pytest.approx([0.2 + 0.5, 0.4 + 0.5])


def test_capacity_is_the_rate_of_full_batches() -> None:
    assert DEVICE.capacity_per_s([KIND]) == pytest.approx(4 / (4 * 0.2 + 4 * 0.05))


def test_only_step_level_reaches_the_capacity() -> None:
    device = sdxl_h200()
    kind = device.kind()
    requests = [Request(0.0, kind)] * 400
    limit = device.capacity_per_s([kind])
    for policy in (lambda: StepLevel(device), lambda: RequestLevel(8, 5.0), serial):
        assert summary(simulate(device, policy, requests)).done_per_s <= limit * 1.0001
    ours = summary(simulate(device, lambda: StepLevel(device), requests))
    assert ours.done_per_s == pytest.approx(limit, rel=0.02)
    # The rate of MLPerf's submission with batches of eight, from which the device is derived.
    assert limit == pytest.approx(2.303, rel=0.05)


def test_arrivals_have_the_given_mean_rate() -> None:
    for arrivals in (poisson, bursty):
        requests = list(arrivals([KIND], 5.0, 20_000, 1))
        assert len(requests) / requests[-1].at == pytest.approx(5.0, rel=0.1)
        assert all(a.at < b.at for a, b in pairwise(requests))
    gaps = {
        arrivals: [b.at - a.at for a, b in pairwise(arrivals([KIND], 5.0, 20_000, 1))]
        for arrivals in (poisson, bursty)
    }
    squares = {name: fmean(gap**2 for gap in each) for name, each in gaps.items()}
    assert squares[bursty] > 1.5 * squares[poisson]


def test_trace_is_read_back_from_its_file(tmp_path: Path) -> None:
    lines = synthetic_trace(side=64)
    write_trace(tmp_path / "trace.csv", lines)
    requests = read_trace(tmp_path / "trace.csv", factor=8)
    assert len(requests) == len(lines) > 300
    assert {request.kind.group for request in requests} == {(4, 8, 8), (4, 12, 12)}
    assert {request.kind.rows for request in requests} == {1, 2}
    assert {request.priority for request in requests} == {0, 1, 2}
    faster = at_rate(requests, 100.0)
    assert len(faster) / faster[-1].at == pytest.approx(100.0)
    (tmp_path / "other.csv").write_text("when,what\n1,2\n")
    with pytest.raises(ValueError, match=r"other\.csv begins with"):
        read_trace(tmp_path / "other.csv", factor=8)


def test_quantiles() -> None:
    assert [quantile(range(1, 101), q) for q in (0.01, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]
    assert quantile([7], 0.5) == 7


@pytest.mark.long
def test_benchmark_shows_the_gain_of_step_level() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "bench.simulation.simulate", "--smoke"],
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(ran.stdout.splitlines()[-1])
    assert result["benchmark"] == "simulate"
    assert result["redis"]["job_s"] > 0
    for title, gains in result["gain_at_0.8"].items():
        assert gains["request-level"] > 1, title
        assert gains["serial"] > 1, title
