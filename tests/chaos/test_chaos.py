"""Short chaos tests: some seconds of faults, and no accepted job is lost, except with Redis."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.__main__ import SEED, summary
from tests.chaos.report import as_table
from tests.chaos.run import Plan, run

pytestmark = pytest.mark.early

LONGER = Plan(
    seed=SEED, jobs=180, clients=12, requests=18, most_steps=20, pause_s=2.0, faults_for_s=20.0
)
SHORT = replace(LONGER, jobs=80, clients=8, requests=12, pause_s=1.5, faults_for_s=12.0)
EMPTIED = replace(LONGER, jobs=100, pause_s=5.0, only="Redis emptied")
RECOVERED_WITHIN_S = 15.0


@pytest.mark.parametrize("plan", [SHORT, pytest.param(LONGER, marks=pytest.mark.long)])
def test_no_accepted_job_is_lost(plan: Plan, tmp_path: Path) -> None:
    report = run(plan, tmp_path)
    print(f"{plan}\n{as_table(report.rows)}\n{summary(report)}")
    assert report.rows
    ended = report.finished + report.cancelled + report.deleted
    assert ended + len(report.lost_with_redis) == report.jobs
    assert report.passed, summary(report)


@pytest.mark.long
def test_emptied_redis_costs_its_jobs_and_nothing_else(tmp_path: Path) -> None:
    """No program is restarted: everything published must come back by itself, within seconds."""
    report = run(EMPTIED, tmp_path)
    print(f"{EMPTIED}\n{as_table(report.rows)}\n{summary(report)}")
    assert len(report.recoveries) >= 2
    assert max(report.recoveries) < RECOVERED_WITHIN_S
    ended = report.finished + report.cancelled + report.deleted
    assert ended + len(report.lost_with_redis) == report.jobs
    assert report.passed, summary(report)
