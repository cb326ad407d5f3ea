"""Tests of the comparison at full size, on small networks: it accepts correct networks only."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from bench.full_size.__main__ import earlier, findings
from bench.full_size.finding import TOLERANCE, Finding
from bench.full_size.folders import compare_network, network_of
from tests.support.tiny_models import write_tiny_refiner, write_tiny_sd


@pytest.mark.long
def test_all_networks_of_a_model_are_compared(tmp_path: Path) -> None:
    write_tiny_sd(tmp_path / "published" / "small")
    write_tiny_refiner(tmp_path / "published" / "refiner")
    found = list(findings(tmp_path / "published", ["small", "refiner"], tmp_path / "scratch"))
    assert [(finding.checkpoint, finding.part) for finding in found] == [
        ("small", "unet"),
        ("small", "vae"),
        ("small", "text_encoder"),
        ("refiner", "unet"),
        ("refiner", "vae"),
        ("refiner", "text_encoder_2"),
    ]
    assert all(finding.parameters > 1000 for finding in found)
    assert [finding for finding in found if finding.error > TOLERANCE] == []


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_wrong_outputs_are_detected(part: str, tmp_path: Path) -> None:
    folder = write_tiny_sd(tmp_path / "small")
    network = network_of(json.loads((folder / part / "config.json").read_text()))
    assert network is not None
    correct = network.run_ours
    wrong = replace(network, run_ours=lambda module: [1.001 * out for out in correct(module)])
    _, error = compare_network(wrong, tmp_path / "scratch")
    assert error == pytest.approx(1e-3, rel=0.1)


def test_earlier_results_of_other_checkpoints_are_kept(tmp_path: Path) -> None:
    found = [Finding(name, "unet", 7, 1e-6, 2.0, "2026-11-23T12:00:00+00:00") for name in "abc"]
    file = tmp_path / "results.json"
    assert earlier(file, ["a"]) == []
    file.write_text(json.dumps({"networks": [asdict(finding) for finding in found]}))
    assert earlier(file, ["b", "d"]) == [found[0], found[2]]
