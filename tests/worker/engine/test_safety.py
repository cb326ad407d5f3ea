"""Images that a model's safety checker flags, in each mode."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.checkpoints.checkpoint import CheckpointMissing
from models.loading.loader import load_model
from models.pipeline import LatentDiffusion
from protocol.queue.job import FinishReason
from protocol.request.request import Task
from protocol.storage.object_store import ObjectStore
from tests.support.tiny_models import write_tiny_sd
from tests.support.tiny_safety import write_tiny_safety
from tests.worker.engine.test_engine import KEY, RecordingListener, request, run
from worker.consumer.context import WorkerContext
from worker.consumer.job_run import JobRun
from worker.consumer.leases import Claim
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import LoadedModel, unmeasured
from worker.engine.safety import Mode, hidden, safety_of
from worker.interfaces import AdmittedJob, OneModel, Pixels
from worker.output.output_processor import OutputProcessor
from worker.settings import WorkerSettings
from worker.telemetry.metrics import Metrics


def random_image(seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (48, 40, 3), dtype=np.uint8)


FLAGGED, FINE = random_image(1), random_image(2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LatentDiffusion:
    folder = write_tiny_sd(tmp_path_factory.mktemp("checked"))
    return load_model(str(write_tiny_safety(folder, FLAGGED, FINE)), torch.device("cpu"))


def screened(model: LatentDiffusion, mode: Mode, pixels: Pixels) -> tuple[Pixels, FinishReason]:
    resident = replace(unmeasured(model, 2), safety=safety_of(model, mode))
    return DiffusionEngine({"tiny": resident}, 2).screen(request(), pixels)


@pytest.mark.parametrize("mode", ["flag", "blank"])
def test_flagged_image_has_its_finish_reason(model: LatentDiffusion, mode: Mode) -> None:
    _, reason = screened(model, mode, FLAGGED)
    assert reason is FinishReason.CONTENT_FILTERED
    shown, reason = screened(model, mode, FINE)
    assert reason is FinishReason.SUCCESS
    assert shown is FINE


def test_flagged_image_is_hidden_only_in_mode_blank(model: LatentDiffusion) -> None:
    assert screened(model, "flag", FLAGGED)[0] is FLAGGED
    blank, _ = screened(model, "blank", FLAGGED)
    np.testing.assert_array_equal(blank, hidden(FLAGGED))


def test_hidden_image_of_inpainting_stays_hidden(model: LatentDiffusion) -> None:
    """The checker is given the restored image, here the client's own, and nothing is restored
    after it."""
    resident = replace(unmeasured(model, 2), safety=safety_of(model, "blank"))
    engine, listener = DiffusionEngine({"tiny": resident}, 2), RecordingListener()
    height, width, _ = FLAGGED.shape
    fields = {"task": Task.INPAINT, "width": width, "height": height, "strength": 1.0}
    one = request(image_key=KEY, mask_key=KEY, **fields)
    black = np.zeros((height, width), np.uint8)
    engine.admit(AdmittedJob("job", one, packed(FLAGGED), packed(black), listener))
    run(engine)
    pixels, _ = listener.images[0]
    np.testing.assert_array_equal(pixels, FLAGGED)
    shown, reason = engine.screen(one, pixels)
    assert reason is FinishReason.CONTENT_FILTERED
    np.testing.assert_array_equal(shown, hidden(FLAGGED))


def packed(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(("mode", "hides"), [("flag", False), ("blank", True), ("off", False)])
def test_image_that_may_be_hidden_has_no_previews(
    model: LatentDiffusion, mode: Mode, hides: bool
) -> None:
    resident = replace(unmeasured(model, 2), safety=safety_of(model, mode))
    shown: list[str] = []
    reporter: Any = SimpleNamespace(show=lambda job_id, file: shown.append(job_id))
    output = OutputProcessor(ObjectStore.open("memory:///"), 1, 0.0)
    engine = DiffusionEngine({"tiny": resident}, 2)
    context = WorkerContext(WorkerSettings(), OneModel("tiny"), engine, output, reporter, Metrics())
    claim = Claim("the job", "execution", "", b"", 0.0, 0)
    run = JobRun(context, claim, request(), lambda run, outcome: None)
    run.on_previews({0: FLAGGED})
    output.submit(lambda: None).result()  # behind it, if it was begun
    output.close()
    assert shown == ([] if hides else ["the job"])


def test_images_are_not_checked_if_off_or_without_a_checker(
    model: LatentDiffusion, tmp_path: Path
) -> None:
    shown, reason = screened(model, "off", FLAGGED)
    assert shown is FLAGGED
    assert reason is FinishReason.SUCCESS
    other = load_model(str(write_tiny_sd(tmp_path)), torch.device("cpu"))
    assert safety_of(other, "flag") is None


def test_missing_checker_is_an_error_at_loading(model: LatentDiffusion, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_bytes((model.folder / "model_index.json").read_bytes())
    without = replace(model, folder=tmp_path)
    with pytest.raises(CheckpointMissing, match="names a safety checker"):
        safety_of(without, "flag")
    assert safety_of(without, "off") is None


@pytest.mark.parametrize("shape", [(512, 512, 3), (64, 256, 3), (8, 8, 3), (96, 96, 5)])
def test_hidden_image_has_a_label_and_nothing_else(shape: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    blank = hidden(noise)
    assert blank.shape == shape
    np.testing.assert_array_equal(blank, hidden(np.zeros(shape, dtype=np.uint8)))
    colours = blank[..., :3]
    assert (colours == colours[..., :1]).all()
    labelled = float((colours[..., 0] != 128).mean())
    assert 0.005 < labelled < 0.5
    assert not blank[..., 3:].any()  # nor of depth


def test_image_of_a_removed_model_is_not_passed(model: LatentDiffusion) -> None:
    engine = DiffusionEngine({"tiny": LoadedModel(model, unmeasured(model, 2).profile)}, 2)
    engine.remove("tiny")
    with pytest.raises(KeyError):
        engine.screen(request(), FLAGGED)
