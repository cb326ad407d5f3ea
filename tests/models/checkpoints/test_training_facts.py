"""The prediction type of a single file: from metadata, marker tensors and the YAML file."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from models.checkpoints.checkpoint import resolve
from models.checkpoints.convert.conversion import Conversion
from models.checkpoints.detect.training_facts import (
    ASSUMED,
    configuration_file,
    training_facts,
)
from models.checkpoints.errors import CheckpointError, Malformed
from models.checkpoints.files import read_json
from models.checkpoints.hub_sources import _neighbours
from models.checkpoints.readers.yaml_file import MAX_BYTES, read_yaml
from models.loading.inspection import inspect_checkpoint
from models.loading.scheduler import read_scheduler
from models.samplers.noise_schedule import NoiseSchedule
from tests.models.checkpoints.references import Original, original
from tests.models.checkpoints.test_round_trips import contiguous

Only = Callable[..., None]
PREDICTION = "modelspec.prediction_type"
COMPVIS = """
model:
  base_learning_rate: 1.0e-04
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    parameterization: "v"
    linear_start: 0.00085
    linear_end: 0.0120
    timesteps: 1000
    unet_config: {target: ldm.modules.diffusionmodules.openaimodel.UNetModel, params: {a: [1, 2]}}
"""
SGM = """
model:
  target: sgm.models.diffusion.DiffusionEngine
  params:
    denoiser_config:
      target: sgm.modules.diffusionmodules.denoiser.DiscreteDenoiser
      params:
        num_idx: 1000
        scaling_config: {target: sgm.modules.diffusionmodules.denoiser_scaling.%s}
        discretization_config: {target: sgm.modules.diffusionmodules.discretizer.%s}
"""
LEGACY = "LegacyDDPMDiscretization"


@cache
def _made(family: str) -> Original:
    return original(family)


def write(
    tmp_path: Path,
    *,
    metadata: dict[str, str] | None = None,
    keys: tuple[str, ...] = (),
    yaml: str | None = None,
    suffix: str = "safetensors",
    name: str = "model",
    family: str = "sd1",
) -> Path:
    """Write a small model in one file."""
    state = contiguous(_made(family).state) | {key: torch.zeros(0) for key in keys}
    path = tmp_path / f"{name}.{suffix}"
    if suffix == "safetensors":
        save_file(state, path, metadata=metadata)
    else:
        torch.save(state, path)
    if yaml is not None:
        path.with_suffix(".yaml").write_text(yaml)
    return path


@pytest.fixture(autouse=True)
def small_family(only: Only) -> None:
    only(_made("sd1").family)


def schedules_of(path: Path, tmp_path: Path) -> tuple[NoiseSchedule, tuple[str, ...]]:
    """Return the noise schedule and the notes of a file, as it is and once it is added."""
    added = tmp_path / "added"
    added.mkdir()
    made = Conversion(path, added).run()
    schedule, report = (
        NoiseSchedule.from_config(read_scheduler(added)),
        inspect_checkpoint(str(added)),
    )
    assert report.valid
    assert report.notes == tuple(made.notes)
    if path.suffix == ".safetensors":
        folder = resolve(str(path))
        assert NoiseSchedule.from_config(read_scheduler(folder)) == schedule
        assert inspect_checkpoint(str(path)).notes == report.notes
    return schedule, report.notes


@pytest.mark.parametrize(
    ("stated", "prediction", "zero_snr"),
    [
        ("v", "v_prediction", False),
        pytest.param("V", "v_prediction", False, marks=pytest.mark.long),
        pytest.param("velocity", "v_prediction", False, marks=pytest.mark.long),
        ("v-prediction", "v_prediction", False),
        pytest.param("v_prediction", "v_prediction", False, marks=pytest.mark.long),
        ("v-zsnr", "v_prediction", True),
        pytest.param("v_ztsnr", "v_prediction", True, marks=pytest.mark.long),
        ("epsilon", "epsilon", False),
        pytest.param("eps", "epsilon", False, marks=pytest.mark.long),
        pytest.param("", "epsilon", False, marks=pytest.mark.long),
    ],
)
def test_metadata_state_the_prediction_type(
    tmp_path: Path, stated: str, prediction: str, zero_snr: bool
) -> None:
    schedule, notes = schedules_of(write(tmp_path, metadata={PREDICTION: stated}), tmp_path)
    assert schedule.prediction_type == prediction
    assert schedule.rescale_betas_zero_snr is zero_snr
    assert notes == ()


@pytest.mark.parametrize("suffix", ["safetensors", pytest.param("ckpt", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("yaml", "prediction", "zero_snr"),
    [
        (COMPVIS, "v_prediction", False),
        pytest.param(COMPVIS.replace('"v"', "eps"), "epsilon", False, marks=pytest.mark.long),
        (COMPVIS.replace('"v"', "v\n    zero_snr: true"), "v_prediction", True),
        pytest.param("parameterization: v\n", "v_prediction", False, marks=pytest.mark.long),
        pytest.param(SGM % ("VScaling", LEGACY), "v_prediction", False, marks=pytest.mark.long),
        (SGM % ("EpsScaling", LEGACY), "epsilon", False),
    ],
)
def test_yaml_file_states_the_prediction_type(
    tmp_path: Path, yaml: str, prediction: str, zero_snr: bool, suffix: str
) -> None:
    path = write(tmp_path, yaml=yaml, suffix=suffix)
    schedule, notes = schedules_of(path, tmp_path)
    assert schedule.prediction_type == prediction
    assert schedule.rescale_betas_zero_snr is zero_snr
    assert notes == ()


def test_markers_state_it_and_zero_snr_has_a_scheduler_for_it(tmp_path: Path) -> None:
    schedule, _ = schedules_of(write(tmp_path, keys=("v_pred", "ztsnr")), tmp_path)
    assert (schedule.prediction_type, schedule.rescale_betas_zero_snr) == ("v_prediction", True)
    assert schedule.alphas_cumprod[-1] == 0
    index = read_json(tmp_path / "added/model_index.json")
    assert index["scheduler"] == ["diffusers", "DDIMScheduler"]


@pytest.mark.parametrize(
    ("facts", "prediction", "noted"),
    [
        (
            {"metadata": {PREDICTION: "epsilon"}, "keys": ("v_pred",)},
            "v_prediction",
            [("the tensors v_pred and ztsnr", "the file's metadata", "epsilon")],
        ),
        (
            {"metadata": {PREDICTION: "v"}, "yaml": "parameterization: eps"},
            "epsilon",
            [("model.yaml", "the file's metadata", "v_prediction")],
        ),
        (
            {"metadata": {PREDICTION: "v"}, "keys": ("v_pred",), "yaml": "parameterization: eps"},
            "epsilon",
            [
                ("model.yaml", "the tensors v_pred and ztsnr", "v_prediction"),
                ("model.yaml", "the file's metadata", "v_prediction"),
            ],
        ),
        (
            {"metadata": {PREDICTION: "v"}, "keys": ("v_pred",), "yaml": "parameterization: v"},
            "v_prediction",
            [],
        ),
    ],
)
def test_contradictions_are_noted(
    tmp_path: Path, facts: dict[str, Any], prediction: str, noted: list[tuple[str, ...]]
) -> None:
    schedule, notes = schedules_of(write(tmp_path, **facts), tmp_path)
    assert schedule.prediction_type == prediction
    assert list(notes) == [
        f"prediction_type is {prediction!r} by {used}, which is used, and {value!r} by {source}"
        for used, source, value in noted
    ]


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"metadata": {PREDICTION: "flow"}}, "modelspec.prediction_type is 'flow'"),
        ({"yaml": "parameterization: w"}, "model.yaml: parameterization is 'w'"),
        ({"yaml": SGM % ("EDMScaling", LEGACY)}, "EDMScaling' is not supported"),
        ({"yaml": SGM % ("VScaling", "EDMDiscretization")}, "EDMDiscretization' is not supported"),
        ({"yaml": COMPVIS.replace("0.0120", "much")}, "linear_end is 'much', not a number"),
        ({"yaml": COMPVIS.replace("timesteps: 1000", "beta_schedule: cosine")}, "'cosine'"),
        ({"yaml": "- a\n- b\n"}, "no YAML mapping"),
    ],
)
def test_what_is_not_understood_is_refused(
    tmp_path: Path, facts: dict[str, Any], message: str
) -> None:
    path = write(tmp_path, **facts)
    (tmp_path / "added").mkdir()
    with pytest.raises(CheckpointError, match=message):
        Conversion(path, tmp_path / "added").run()
    with pytest.raises(CheckpointError, match=message):
        resolve(str(path))


@pytest.mark.parametrize(
    ("name", "facts", "prediction", "size"),
    [
        ("v2-1_768-ema-pruned", {}, "v_prediction", 96),
        pytest.param("768-v-ema", {}, "v_prediction", 96, marks=pytest.mark.long),
        pytest.param("512-base-ema", {}, "epsilon", 64, marks=pytest.mark.long),
        ("v2-1_512-ema-pruned", {}, "epsilon", 64),
        pytest.param(
            "mine", {"yaml": "parameterization: eps"}, "epsilon", 64, marks=pytest.mark.long
        ),
        ("mine", {"yaml": "parameterization: v"}, "v_prediction", 96),
        pytest.param(
            "mine", {"metadata": {PREDICTION: "epsilon"}}, "epsilon", 64, marks=pytest.mark.long
        ),
        ("mine", {"metadata": {PREDICTION: "v"}}, "v_prediction", 96),
        ("512-base", {"metadata": {PREDICTION: "v"}}, "v_prediction", 96),
    ],
)
def test_stable_diffusion_2_has_either_prediction_type(
    tmp_path: Path, only: Only, name: str, facts: dict[str, Any], prediction: str, size: int
) -> None:
    only(_made("sd2").family)
    path = write(tmp_path, name=name, family="sd2", **facts)
    schedule, notes = schedules_of(path, tmp_path)
    assert schedule.prediction_type == prediction
    assert ASSUMED not in notes
    assert read_json(resolve(str(path)) / "unet/config.json")["sample_size"] == size


def test_note_tells_of_an_assumed_prediction_type(tmp_path: Path, only: Only) -> None:
    only(_made("sd2").family)
    schedule, notes = schedules_of(write(tmp_path, name="mine", family="sd2"), tmp_path)
    assert schedule.prediction_type == "v_prediction"
    assert notes == (ASSUMED,)


def test_betas_of_a_yaml_file_are_used(tmp_path: Path) -> None:
    yaml = COMPVIS.replace("0.00085", "15e-4").replace("0.0120", "0.0195").replace("1000", "400")
    schedule, _ = schedules_of(write(tmp_path, yaml=yaml), tmp_path)
    assert schedule.beta_start == 0.0015
    assert schedule.beta_end == 0.0195
    assert schedule.num_train_timesteps == 400


def test_folder_in_the_cache_follows_the_yaml_file(tmp_path: Path) -> None:
    """The folder of a single file is made once: a new YAML file must not be ignored."""
    path = write(tmp_path)
    assert read_scheduler(resolve(str(path)))["prediction_type"] == "epsilon"
    path.with_suffix(".yaml").write_text("parameterization: v")
    assert read_scheduler(resolve(str(path)))["prediction_type"] == "v_prediction"
    path.with_suffix(".yaml").write_text("parameterization: eps\n")
    assert read_scheduler(resolve(str(path)))["prediction_type"] == "epsilon"
    path.with_suffix(".yaml").unlink()
    assert read_scheduler(resolve(str(path)))["prediction_type"] == "epsilon"


def test_yaml_file_next_to_a_link_is_found(tmp_path: Path) -> None:
    path = write(tmp_path)
    link = tmp_path / "links" / "other.safetensors"
    link.parent.mkdir()
    link.symlink_to(path)
    assert configuration_file(link) is None
    path.with_suffix(".yaml").write_text("parameterization: v")
    assert configuration_file(link) == path.with_suffix(".yaml")
    assert read_scheduler(resolve(str(link)))["prediction_type"] == "v_prediction"
    link.with_suffix(".yaml").write_text("parameterization: eps")
    assert read_scheduler(resolve(str(link)))["prediction_type"] == "epsilon"


HOSTILE = {
    "python object": "parameterization: !!python/object/apply:os.system ['touch gone']",
    "own tag": "parameterization: !something v",
    "aliases": "a: &a [1, 1]\nb: &b [*a, *a]\nparameterization: v",
    "deep": "a: " + "[" * 10_000 + "]" * 10_000,
    "large": "a: " + "x" * MAX_BYTES,
    "no text": "parameterization: \udc80v",
    "control characters": "a: \x00",
    "broken": "a: [1, 2",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_yaml_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.yaml"
    path.write_bytes(HOSTILE[name].encode("utf-8", "surrogateescape"))
    with pytest.raises(Malformed, match=r"model\.yaml"):
        read_yaml(path)
    with pytest.raises(Malformed):
        training_facts(path, (), {})


def test_yaml_file_is_fetched_with_a_file_of_the_hub() -> None:
    files = ["v/model.yaml", "v/model.safetensors", "model.yaml", "other.safetensors"]
    assert _neighbours("v/model.safetensors", files) == ["v/model.yaml"]
    assert _neighbours("other.safetensors", files) == []
