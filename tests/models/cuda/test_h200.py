"""The script for a machine with an H200, as far as it runs without one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.__main__ import MODULES
from bench.common.summary import summary
from bench.engine.correctness import Check, different_in_batch, relative_error
from models.pipeline import LatentDiffusion

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "bench/h200.sh"


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), *arguments],
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "HOME": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.long
def test_the_check_of_correctness_passes_with_tiny_models() -> None:
    ran = script("--smoke", "correctness")
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout.splitlines()[-1])
    assert all(check["passed"] for check in result["checks"])
    assert {check["model"] for check in result["checks"]} == {"tiny sd", "tiny sdxl"}


def test_unknown_stage_is_named() -> None:
    ran = script("--smoke", "nonsense")
    assert ran.returncode == 2
    assert "no stage nonsense" in ran.stderr


def test_a_failing_benchmark_fails_the_script() -> None:
    """With a Python that has no benchmark, every one of a stage fails and is named."""
    ran = subprocess.run(
        [str(SCRIPT), "--smoke", "components"],
        env={"PATH": "/usr/bin:/bin", "PYTHON": "/bin/false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr.count("failed: components --workload bundled128") == 2


def test_every_program_of_the_script_exists() -> None:
    programs = set(re.findall(r"\brun h200\S* \d+ (\w+)", SCRIPT.read_text()))
    assert len(programs) >= 7
    assert programs <= MODULES.keys()


def test_a_check_has_a_bound_on_one_side() -> None:
    assert Check("m", "error", 0.1, 0.2).passed
    assert not Check("m", "error", float("inf"), 0.2).passed
    assert Check("m", "decibels", 30, 25, least=True).passed
    assert not Check("m", "decibels", 20, 25, least=True).passed


def test_error_is_reported() -> None:
    x = torch.ones(3)
    assert relative_error(x, x) == 0
    assert relative_error(1.1 * x, x) == pytest.approx(0.1)
    assert relative_error(x / 0, x) == float("inf")


def test_batch_that_changes_images_is_reported(
    tiny_sd: LatentDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = LatentDiffusion.advance

    def careless(model: LatentDiffusion, batch: list[object]) -> None:
        advance(model, batch)  # type: ignore[arg-type]
        for state in batch:
            state.x = state.x + 1e-3 * (len(batch) - 1)  # type: ignore[attr-defined]

    assert different_in_batch(tiny_sd, 32) == (0, 0)
    monkeypatch.setattr(LatentDiffusion, "advance", careless)
    assert different_in_batch(tiny_sd, 32)[0] == 5


def test_results_become_tables(tmp_path: Path) -> None:
    result = {
        "benchmark": "offline", "at": "2026", "device": "cuda", "cpu": "c", "cores": 16,
        "python": "3", "packages": {"torch": "2"}, "steps": 30,
        "results": [{"requests": "alike", "images_per_s": 1.23456}, {"requests": "mixed"}],
    }  # fmt: skip
    (tmp_path / "h200-offline.json").write_text(json.dumps(result))
    text = summary("h200", tmp_path)
    assert "## offline" in text
    assert "steps 30" in text
    assert "| alike | 1.235 |" in text
    assert "| mixed | – |" in text
    with pytest.raises(FileNotFoundError, match="h100"):
        summary("h100", tmp_path)
