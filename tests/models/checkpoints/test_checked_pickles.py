"""`darkroom models check` of pickles: the same report as of a safetensors file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.checkpoints.errors import CheckpointError, Malformed, UnknownFamily
from models.loading.checkpoint_report import CheckpointReport
from models.loading.inspection import PICKLE, inspect_checkpoint
from tests.models.checkpoints.hostile import archive, call, dictionary, saved, text
from tests.models.checkpoints.references import Original, original
from tests.models.checkpoints.test_round_trips import save_lightning

Only = Callable[..., None]

# The package of CompVis' UNet calls a deprecated function of torch.
pytestmark = pytest.mark.filterwarnings("ignore:torch.get_autocast_gpu_dtype:DeprecationWarning")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder in which all temporary files are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def comparable(report: CheckpointReport) -> CheckpointReport:
    """Return a report without what differs: the place, and the order of equally many types."""
    notes = tuple(note for note in report.notes if note != PICKLE)
    components = (
        replace(part, precisions=tuple(sorted(part.precisions))) for part in report.components
    )
    return replace(report, folder=None, kind=None, notes=notes, components=tuple(components))


def both_reports(
    state: dict[str, torch.Tensor], folder: Path, stem: str
) -> tuple[CheckpointReport, CheckpointReport]:
    """Return the reports of the pickle and of the safetensors file of the same tensors."""
    save_lightning(state, folder / f"{stem}.ckpt")
    tensors = {name: tensor.clone().contiguous() for name, tensor in state.items()}
    save_file(tensors, folder / f"{stem}.safetensors")
    pickled = inspect_checkpoint(str(folder / f"{stem}.ckpt"))
    assert pickled.notes[-1] == PICKLE
    return pickled, inspect_checkpoint(str(folder / f"{stem}.safetensors"))


@pytest.fixture
def made(only: Only) -> Original:
    made = original("sd1")
    only(made.family)
    return made


def test_report_of_a_model_is_that_of_its_safetensors_file(
    made: Original, temporary: Path, cache: Path, tmp_path: Path
) -> None:
    pickled, safe = both_reports(made.state, tmp_path, "model")
    assert safe.valid
    assert comparable(pickled) == comparable(safe)
    assert list(temporary.iterdir()) == []
    assert len(list((cache / "darkroom/single_files").iterdir())) == 1  # of the other file


def test_missing_and_unknown_keys_are_named(made: Original, tmp_path: Path) -> None:
    del made.state["model.diffusion_model.out.2.bias"]
    made.state["model.diffusion_model.stranger"] = torch.zeros(3)
    pickled, safe = both_reports(made.state, tmp_path, "model")
    assert "unet: missing: conv_out.bias" in pickled.all_problems
    assert "unet: unexpected: model.diffusion_model.stranger" in pickled.all_problems
    assert comparable(pickled) == comparable(safe)


def test_numbers_beside_the_weights_are_read(only: Only, tmp_path: Path) -> None:
    """The scale of the latents of lsun_churches256 is in its file."""
    made = original("ldm-churches")
    only(made.family)
    made.state["scale_factor"] = torch.tensor(0.2276)
    pickled, safe = both_reports(made.state, tmp_path, "churches")
    assert comparable(pickled) == comparable(safe)
    made.state.pop("scale_factor")
    save_lightning(made.state, tmp_path / "none.ckpt")
    message = r"none\.ckpt: .*the file does not hold its scale_factor"
    with pytest.raises(CheckpointError, match=message) as refused:
        inspect_checkpoint(str(tmp_path / "none.ckpt"))
    assert tempfile.gettempdir() not in str(refused.value).replace(str(tmp_path), "")


@pytest.mark.parametrize(
    ("name", "predicted"), [("512-base", "epsilon"), ("768-v", "v_prediction")]
)
def test_name_and_configuration_of_the_file_count(
    name: str, predicted: str, only: Only, tmp_path: Path
) -> None:
    made = original("sd2")
    only(made.family)
    save_lightning(made.state, tmp_path / f"{name}.ckpt")
    assert inspect_checkpoint(str(tmp_path / f"{name}.ckpt")).prediction == predicted
    other = {"epsilon": "v", "v_prediction": "eps"}[predicted]
    (tmp_path / f"{name}.yaml").write_text(f"parameterization: {other}\n")
    assert inspect_checkpoint(str(tmp_path / f"{name}.ckpt")).prediction != predicted


def test_extra_networks_are_named(tmp_path: Path) -> None:
    lora = "lora_unet_mid_block_attentions_0_proj_in"
    contents = {
        "a LoRA": {f"{lora}.lora_down.weight": (4, 8), f"{lora}.lora_up.weight": (8, 4)},
        "a textual inversion embedding": {"emb_params": (2, 768)},
    }
    for title, shapes in contents.items():
        path = tmp_path / "network.pt"
        torch.save({key: torch.zeros(shape) for key, shape in shapes.items()}, path)
        report = inspect_checkpoint(str(path))
        assert (report.title, report.valid, report.notes) == (title, True, (PICKLE,))


def test_hostile_pickle_is_refused_by_name(temporary: Path, tmp_path: Path) -> None:
    system = saved(dictionary({"w": call("os", "system", text("touch owned"))}))
    for name, content in {"old": system, "zip": archive(system)}.items():
        path = tmp_path / f"{name}.ckpt"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"asks for os\.system, .* nothing was run"):
            inspect_checkpoint(str(path))
    (tmp_path / "not.ckpt").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(Malformed, match=r"not\.ckpt"):
        inspect_checkpoint(str(tmp_path / "not.ckpt"))
    torch.save({"joint_blocks.0.weight": torch.zeros(1)}, tmp_path / "sd3.pt")
    with pytest.raises(UnknownFamily, match="it is Stable Diffusion 3, a transformer model"):
        inspect_checkpoint(str(tmp_path / "sd3.pt"))
    assert list(temporary.iterdir()) == []


def test_adapter_of_peft_belongs_to_its_folder(tmp_path: Path) -> None:
    torch.save({"a.lora_A.weight": torch.zeros(2, 2)}, tmp_path / "adapter_model.bin")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="belongs to its folder"):
        inspect_checkpoint(str(tmp_path / "adapter_model.bin"))
