"""Short chaos test: half a minute of faults, and no accepted job is lost."""

from pathlib import Path

import pytest

from tests.chaos.__main__ import SEED, summary
from tests.chaos.report import as_table
from tests.chaos.run import Plan, run

pytestmark = pytest.mark.early

SHORT = Plan(
    seed=SEED, jobs=180, clients=12, requests=18, most_steps=20, pause_s=2.0, faults_for_s=25.0
)


def test_no_accepted_job_is_lost(tmp_path: Path) -> None:
    report = run(SHORT, tmp_path)
    print(f"{SHORT}\n{as_table(report.rows)}\n{summary(report)}")
    assert report.rows
    assert report.finished + report.cancelled == report.jobs
    assert report.passed, summary(report)
