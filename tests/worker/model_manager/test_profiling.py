"""Step times of a real, tiny network: measured once, kept, and read again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from models.pipeline import LatentDiffusion
from worker.engine.step_profile import Measurement, StepProfile
from worker.model_manager import profiling as measuring
from worker.model_manager.profiling import measure, ready_profile, step_bytes

SIZE = (32, 32)
PATIENT_S = 600.0


def test_batches_of_growing_size_are_timed(model: LatentDiffusion) -> None:
    measured = measure(model, SIZE, 6, PATIENT_S)
    assert measured.group == model.latent_shape(*SIZE)
    assert list(measured.seconds) == [2, 4, 6]
    assert min(measured.seconds.values()) > 0
    assert measured.bytes_per_cell == 0.0  # nobody counts on a CPU


def test_without_time_only_the_smallest_batch_is_timed(model: LatentDiffusion) -> None:
    assert list(measure(model, SIZE, 64, 0.0).seconds) == [2]


def ready(model: LatentDiffusion, cache: Path | None, made_by: str = "eager") -> StepProfile:
    return ready_profile(model, SIZE, 4, PATIENT_S, made_by=made_by, cache=cache)


def test_the_second_start_reads_what_the_first_measured(
    model: LatentDiffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = model.latent_shape(*SIZE)
    first = ready(model, tmp_path / "cache")
    asked: list[int] = []

    def again(*_: object) -> Measurement:
        asked.append(1)
        return Measurement(group, {2: 7.0})

    monkeypatch.setattr(measuring, "measure", again)
    second = ready(model, tmp_path / "cache")
    assert not asked
    assert second.step_seconds(group, 4) == first.step_seconds(group, 4)
    other = ready(model, tmp_path / "cache", made_by="another executor")
    assert other.step_seconds(group, 2) == 7.0
    ready(model, None)
    assert len(asked) == 2


@pytest.mark.parametrize("spoilt", ["", "{", "[]", '{"group": [4]}'])
def test_a_file_that_cannot_be_read_is_written_anew(
    model: LatentDiffusion, tmp_path: Path, spoilt: str
) -> None:
    ready(model, tmp_path)
    [file] = tmp_path.iterdir()
    file.write_text(spoilt)
    ready(model, tmp_path)
    assert list(tmp_path.iterdir()) == [file]
    written = json.loads(file.read_text())
    assert set(written["seconds"]) == {"2", "4"}
    assert written["model"] == str(model.folder.resolve())
    assert step_bytes(tmp_path, model.folder) is None  # nobody counts on a CPU


def test_a_folder_that_cannot_be_written_to_only_costs_time(
    model: LatentDiffusion, tmp_path: Path
) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    assert ready(model, blocked / "cache").cap(model.latent_shape(*SIZE)) >= 2
    assert os.listdir(tmp_path) == ["a file"]
