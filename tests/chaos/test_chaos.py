"""The short form: everything goes wrong for half a minute, and nothing accepted is lost."""

from pathlib import Path

import pytest

from tests.chaos.__main__ import SEED, summary
from tests.chaos.run import Plan, play
from tests.chaos.verdict import as_table

pytestmark = pytest.mark.early

SHORT = Plan(
    seed=SEED, jobs=180, clients=12, recipes=18, most_steps=20, pause_s=2.0, faults_for_s=25.0
)


def test_nothing_accepted_is_lost(tmp_path: Path) -> None:
    verdict = play(SHORT, tmp_path)
    print(f"{SHORT}\n{as_table(verdict.rows)}\n{summary(verdict)}")
    assert verdict.rows
    assert verdict.finished + verdict.cancelled == verdict.jobs
    assert verdict.kept, summary(verdict)
