"""Step times of a real, tiny network are measured once, cached, and read again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from models.pipeline import LatentDiffusion
from worker.engine.step_profile import Measurement, StepProfile
from worker.model_manager import profiling
from worker.model_manager.profiling import measure, ready_profile, step_bytes

SIZE = (32, 32)
BUDGET_S = 600.0


def test_batches_of_growing_size_are_timed(model: LatentDiffusion) -> None:
    measured = measure(model, SIZE, 6, BUDGET_S)
    assert measured.group == model.latent_shape(*SIZE)
    assert list(measured.seconds) == [2, 4, 6]
    assert min(measured.seconds.values()) > 0
    assert measured.bytes_per_cell == 0.0  # memory is not counted on a CPU


def test_without_time_only_the_smallest_batch_is_timed(model: LatentDiffusion) -> None:
    assert list(measure(model, SIZE, 64, 0.0).seconds) == [2]


def ready(model: LatentDiffusion, cache: Path | None, made_by: str = "eager") -> StepProfile:
    return ready_profile(model, SIZE, 4, BUDGET_S, made_by=made_by, cache=cache)


def test_second_start_reads_the_cached_measurement(
    model: LatentDiffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = model.latent_shape(*SIZE)
    first = ready(model, tmp_path / "cache")
    calls: list[int] = []

    def again(*_: object) -> Measurement:
        calls.append(1)
        return Measurement(group, {2: 7.0})

    monkeypatch.setattr(profiling, "measure", again)
    second = ready(model, tmp_path / "cache")
    assert not calls
    assert second.step_seconds(group, 4) == first.step_seconds(group, 4)
    other = ready(model, tmp_path / "cache", made_by="another executor")
    assert other.step_seconds(group, 2) == 7.0
    ready(model, None)
    assert len(calls) == 2


@pytest.mark.parametrize("invalid", ["", "{", "[]", '{"group": [4]}'])
def test_unreadable_cache_file_is_written_again(
    model: LatentDiffusion, tmp_path: Path, invalid: str
) -> None:
    ready(model, tmp_path)
    [file] = tmp_path.iterdir()
    file.write_text(invalid)
    ready(model, tmp_path)
    assert list(tmp_path.iterdir()) == [file]
    written = json.loads(file.read_text())
    assert set(written["seconds"]) == {"2", "4"}
    assert written["model"] == str(model.folder.resolve())
    assert step_bytes(tmp_path, model.folder) is None  # memory is not counted on a CPU


def test_unwritable_cache_folder_is_ignored(model: LatentDiffusion, tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    assert ready(model, blocked / "cache").cap(model.latent_shape(*SIZE)) >= 2
    assert os.listdir(tmp_path) == ["a file"]
