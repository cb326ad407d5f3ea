"""Statements of an operator take the place of those in a model's files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.checkpoints.convert.conversion import Conversion
from models.checkpoints.errors import CheckpointError, UnsupportedConfig
from models.denoising.sampling_params import SamplingParams
from models.loading.inspection import inspect_checkpoint
from models.loading.loader import load_model
from models.loading.stated import NOTHING_STATED, Stated
from models.samplers.flow_schedule import FlowSchedule
from models.samplers.noise_schedule import NoiseSchedule
from tests.models.loading.test_replacements import CPU, latents_of
from tests.support.tiny_models import write_tiny_sd

ZERO_SNR: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
}
FLOW: dict[str, Any] = {"_class_name": "FlowMatchEulerDiscreteScheduler"}
EDM: dict[str, Any] = {"_class_name": "EDMEulerScheduler"}


def state(folder: Path, **entries: Any) -> None:
    (folder / "darkroom.json").write_text(json.dumps({"name": "mine", **entries}))


@pytest.mark.parametrize("in_folder", [True, False])
@pytest.mark.parametrize(
    ("stated", "scheduler"),
    [
        ({"prediction_type": "v_prediction"}, {"prediction_type": "v_prediction"}),
        ({"prediction_type": "v_prediction", "zero_terminal_snr": True}, ZERO_SNR),
    ],
)
def test_latents_are_those_of_a_model_whose_files_say_the_same(
    stated: dict[str, Any], scheduler: dict[str, Any], in_folder: bool, tmp_path: Path
) -> None:
    plain = write_tiny_sd(tmp_path / "plain")
    says_it = load_model(str(write_tiny_sd(tmp_path / "says", **scheduler)), CPU)
    before = load_model(str(plain), CPU)
    if in_folder:
        state(plain, **stated)
        model = load_model(str(plain), CPU)
    else:
        model = load_model(str(plain), CPU, stated=Stated(**stated))
    assert model.noise_schedule == says_it.noise_schedule
    latents = latents_of(model)
    assert torch.equal(latents, latents_of(says_it))
    assert not torch.equal(latents, latents_of(before))


def test_models_config_decides_before_the_folder(tmp_path: Path) -> None:
    folder = write_tiny_sd(tmp_path, **ZERO_SNR)
    state(folder, prediction_type="sample", zero_terminal_snr=False)
    one = Stated(prediction_type="v_prediction")
    schedule = load_model(str(folder), torch.device("meta"), stated=one).noise_schedule
    assert schedule.prediction_type == "v_prediction"
    assert isinstance(schedule, NoiseSchedule)
    assert not schedule.rescale_betas_zero_snr


def test_report_has_what_is_stated(tmp_path: Path) -> None:
    folder = write_tiny_sd(tmp_path)
    state(folder, prediction_type="v_prediction", zero_terminal_snr=True)
    report = inspect_checkpoint(str(folder))
    assert report.valid
    assert report.prediction == "v_prediction, with zero terminal SNR"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"prediction_type": "velocity"}, "prediction_type is 'velocity', not one of epsilon"),
        ({"prediction_type": 3}, "prediction_type is 3"),
        ({"zero_terminal_snr": "yes"}, "zero_terminal_snr is 'yes', not true or false"),
        ({"ema": 1}, "ema is 1, not true or false"),
        ({"zero_terminal_snr": True}, "rescale_betas_zero_snr with prediction_type 'epsilon'"),
        ({"flow_shift": 3.0}, "flow_shift is 3.0, and DDIMScheduler is configured for no flow"),
        ({"flow_shift": 0}, "flow_shift is 0, not 0.01 to 100"),
        ({"flow_shift": "3"}, "flow_shift is '3'"),
    ],
)
def test_bad_statement_is_refused_by_name(
    entries: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = write_tiny_sd(tmp_path, _class_name="DDIMScheduler")
    state(folder, **entries)
    with pytest.raises(UnsupportedConfig, match=message):
        load_model(str(folder), torch.device("meta"))
    assert Stated() == NOTHING_STATED


@pytest.mark.parametrize(
    ("scheduler", "entries", "message"),
    [
        (FLOW, {"prediction_type": "epsilon"}, "FlowMatchEulerDiscreteScheduler is configured for"),
        (FLOW, {"zero_terminal_snr": True}, "noise levels of FlowMatchEulerDiscreteScheduler are"),
        (EDM, {"zero_terminal_snr": True}, "noise levels of EDMEulerScheduler are not of betas"),
        (EDM, {"prediction_type": "sample"}, "prediction_type is 'sample', not one of"),
    ],
)
def test_statement_that_the_noise_levels_contradict_is_refused(
    scheduler: dict[str, Any], entries: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = write_tiny_sd(tmp_path, **scheduler)
    state(folder, **entries)
    with pytest.raises(UnsupportedConfig, match=message):
        load_model(str(folder), torch.device("meta"))


def test_operator_states_a_flow(tmp_path: Path) -> None:
    plain = write_tiny_sd(tmp_path / "plain")
    says_it = load_model(str(write_tiny_sd(tmp_path / "says", **FLOW, shift=3.0)), CPU)
    stated = Stated(prediction_type="flow_prediction", flow_shift=3.0)
    model = load_model(str(plain), CPU, stated=stated)
    assert model.noise_schedule == says_it.noise_schedule
    params = SamplingParams(
        "a cat", width=32, height=32, steps=2, sampler="euler", schedule="flow", guidance_scale=1.0
    )
    one, other = (list(m.generate([params]))[-1][0].x for m in (model, says_it))
    assert torch.equal(one, other)
    state(plain, prediction_type="flow_prediction")
    assert load_model(str(plain), CPU).noise_schedule == FlowSchedule()
    state(plain, prediction_type="flow_prediction", flow_shift=2.0)
    shifted = load_model(str(plain), CPU, stated=Stated(flow_shift=3.0))
    assert shifted.noise_schedule == says_it.noise_schedule
    report = inspect_checkpoint(str(plain))
    assert report.prediction == "flow_prediction, shift 2"


def write_both(folder: Path) -> tuple[Path, torch.Tensor]:
    """Write a folder with the weights of the last step beside the averaged ones; return one."""
    write_tiny_sd(folder)
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    last = {name: tensor + 0.5 for name, tensor in load_file(path).items()}
    save_file(last, path.with_suffix(".non_ema.safetensors"))
    return folder, last["conv_in.weight"]


@pytest.mark.parametrize("in_folder", [True, False])
def test_operator_chooses_the_weights_of_the_last_step_in_a_folder(
    in_folder: bool, tmp_path: Path
) -> None:
    folder, last = write_both(tmp_path / "model")
    stated = NOTHING_STATED if in_folder else Stated(ema=False)
    if in_folder:
        state(folder, ema=False)
    model = load_model(str(folder), CPU, stated=stated)
    assert torch.equal(model.unet.conv_in.weight, last)
    averaged = load_model(str(folder), CPU, stated=Stated(ema=True))
    assert not torch.equal(averaged.unet.conv_in.weight, last)
    added = Conversion(folder, tmp_path / "added", ema=False)
    added.run()
    converted = load_file(tmp_path / "added/unet/diffusion_pytorch_model.safetensors")
    assert torch.equal(converted["conv_in.weight"], last)


def test_folder_without_other_weights_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_sd(tmp_path / "model")
    with pytest.raises(CheckpointError, match="ema is false, and the file holds one set"):
        load_model(str(folder), CPU, stated=Stated(ema=False))
    with pytest.raises(CheckpointError, match="ema is false, and model holds one set of weights"):
        Conversion(folder, tmp_path / "added", ema=False).run()
    with pytest.raises(CheckpointError, match=r"is a vae: only a whole model .*\(ema\)"):
        Conversion(folder / "vae", tmp_path / "vae", ema=True).run()
