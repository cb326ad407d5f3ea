"""The scheduler's configuration of a model folder."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from models.checkpoints.errors import CheckpointError
from models.loading.inspection import inspect_checkpoint
from models.loading.loader import load_model
from models.loading.scheduler import read_scheduler
from models.samplers.noise_schedule import NoiseSchedule
from tests.support.tiny_models import write_tiny_inpainting, write_tiny_sd, write_tiny_sdxl

SCHEDULER = "scheduler/scheduler_config.json"


def edit(path: Path, **fields: Any) -> None:
    """Set fields of a JSON file; None removes one."""
    data = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))


@pytest.mark.parametrize(
    ("write", "pipeline"),
    [
        (write_tiny_sd, "StableDiffusionPipeline"),
        (write_tiny_sd, "StableDiffusionImg2ImgPipeline"),
        (write_tiny_inpainting, "StableDiffusionInpaintPipeline"),
        (write_tiny_sdxl, "StableDiffusionXLPipeline"),
    ],
)
@pytest.mark.parametrize("name", ["DDIMScheduler", "PNDMScheduler", "EulerDiscreteScheduler"])
def test_fields_are_those_of_the_pipeline(
    tmp_path: Path, write: Any, pipeline: str, name: str
) -> None:
    """Files of the first versions lack fields, which the pipelines of Stable Diffusion set."""
    folder = write(tmp_path / "model")
    edit(folder / "model_index.json", _class_name=pipeline, scheduler=["diffusers", name])
    inpainting = pipeline == "StableDiffusionInpaintPipeline"
    skip = None if inpainting else True
    edit(folder / SCHEDULER, _class_name=name, steps_offset=None, clip_sample=None)
    edit(folder / SCHEDULER, skip_prk_steps=skip)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = getattr(diffusers, pipeline).from_pretrained(folder).scheduler.config
    ours = read_scheduler(folder)
    assert ours.get("steps_offset", 0) == theirs.steps_offset
    for field in ("clip_sample", "skip_prk_steps"):
        if field in ours and field in theirs:
            assert ours[field] == theirs[field]
    if theirs.get("clip_sample"):
        with pytest.raises(ValueError, match="clip_sample = True"):
            NoiseSchedule.from_config(ours)
    else:
        assert NoiseSchedule.from_config(ours).steps_offset == theirs.steps_offset


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"_class_name": "FlowMatchHeunDiscreteScheduler"}, "FlowMatchHeunDiscreteScheduler"),
        ({"_class_name": "EDMEulerScheduler", "rho": 3.0}, "rho = 3.0"),
        ({"_class_name": "CMStochasticIterativeScheduler"}, "CMStochasticIterativeScheduler"),
        ({"_class_name": "HeunDiscreteScheduler", "clip_sample": True}, None),
        ({"_class_name": "UniPCMultistepScheduler", "solver_order": 3}, "solver_order = 3"),
        ({"_class_name": "EulerDiscreteScheduler", "sigma_churn": 2}, "sigma_churn = 2"),
    ],
)
def test_unsupported_scheduler_is_a_problem(
    tmp_path: Path, fields: dict[str, Any], message: str | None
) -> None:
    folder = write_tiny_sd(tmp_path / "model", **fields)
    report = inspect_checkpoint(str(folder))
    if message is None:  # the pipeline sets the field
        assert report.valid
        return
    assert [problem for problem in report.problems if message in problem]
    assert not report.valid
    with pytest.raises((CheckpointError, ValueError), match=message):
        load_model(str(folder), torch.device("meta"), torch.float32)


def test_class_is_read_from_the_index_if_the_file_names_none(tmp_path: Path) -> None:
    folder = write_tiny_sd(tmp_path / "model")
    edit(folder / SCHEDULER, _class_name=None)
    edit(folder / "model_index.json", scheduler=["diffusers", "CMStochasticIterativeScheduler"])
    assert any(
        "CMStochasticIterativeScheduler" in problem
        for problem in inspect_checkpoint(str(folder)).problems
    )
    edit(folder / "model_index.json", scheduler=[None])
    [problem] = inspect_checkpoint(str(folder)).problems
    assert "names no scheduler class" in problem


def test_other_class_in_the_index_is_noted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_tiny_sd(tmp_path / "model", _class_name="EulerDiscreteScheduler")
    report = inspect_checkpoint(str(folder))
    assert report.valid
    [note] = report.notes
    assert note == (
        "scheduler_config.json is of EulerDiscreteScheduler, which is used; "
        "model_index.json names PNDMScheduler"
    )
    assert f"note: {note}" in report.lines()
    with caplog.at_level(logging.WARNING, "models.loading.loader"):
        load_model(str(folder), torch.device("cpu"), torch.float32)
    assert [record.getMessage() for record in caplog.records] == [f"{folder}: {note}"]
