"""Tests of `darkroom models` while no server is running."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from darkroom.__main__ import main
from tests.support.redis_server import free_port
from tests.support.tiny_models import write_tiny_sd


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", str(free_port()))


def test_model_folder_is_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DARKROOM_MODEL", str(write_tiny_sd(tmp_path / "tiny")))
    assert main(["models"]) == 0
    printed = capsys.readouterr().out.strip()
    assert printed.endswith("tiny, StableDiffusionPipeline, 32×32")


def test_added_model_and_single_file_are_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny_sd(tmp_path / "home" / "models" / "mine")
    (folder / "vae").rename(folder / "vqvae")  # as the paper's models have it
    monkeypatch.setenv("DARKROOM_MODELS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DARKROOM_MODEL", "mine")
    assert main(["models"]) == 0
    assert capsys.readouterr().out.strip().endswith("mine, StableDiffusionPipeline, 32×32")
    (tmp_path / "one.safetensors").write_bytes(b"")
    monkeypatch.setenv("DARKROOM_MODEL", str(tmp_path / "one.safetensors"))
    assert main(["models"]) == 0
    assert capsys.readouterr().out.strip().endswith("one.safetensors, a single file")


def test_hub_id_is_described(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DARKROOM_MODEL", "owner/some-model")
    assert main(["models"]) == 0
    assert "owner/some-model, from the Hugging Face hub" in capsys.readouterr().out


def test_folder_without_a_model_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DARKROOM_MODEL", str(tmp_path))
    assert main(["models"]) == 2
    assert f"DARKROOM_MODEL: {tmp_path} holds no model" in capsys.readouterr().err


def test_check_describes_a_sound_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny_sd(tmp_path / "tiny")
    assert main(["models", "check", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{folder}: StableDiffusionPipeline"
    facts = dict(line.split(maxsplit=1) for line in lines[1:-1])
    assert facts["tasks"] == "txt2img, img2img, inpaint, outpaint"
    assert (facts["size"], facts["predicts"]) == ("32×32", "epsilon")
    assert facts["unet"].endswith("parameters, stored as fp32")
    assert "GiB in fp16" in facts["memory"]
    assert lines[-1] == "valid"
    assert "a step" not in "".join(lines)


def test_check_reports_the_measured_memory_of_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny_sd(tmp_path / "tiny")
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("DARKROOM_WORKER_CACHE", str(tmp_path / "cache"))
    # 2^22 bytes for each of 8 x 8 cells of the two rows of a guided image.
    for model, size in ((tmp_path / "another", 2.0**30), (folder, 2.0**22)):
        kept = {"group": [4, 8, 8], "seconds": {"2": 0.1}, "bytes_per_cell": size}
        file = tmp_path / "cache" / f"steps-{model.name}.json"
        file.write_text(json.dumps(kept | {"model": str(model)}))
    assert main(["models", "check", str(folder)]) == 0
    assert "  a step          0.50 GiB for each image" in capsys.readouterr().out


def test_check_reports_the_problems_of_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny_sd(tmp_path / "home" / "models" / "tiny")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (folder / "scheduler" / "scheduler_config.json").unlink()
    monkeypatch.setenv("DARKROOM_MODELS_HOME", str(tmp_path / "home"))
    assert main(["models", "check", "tiny"]) == 1
    wrong = [line for line in capsys.readouterr().out.splitlines() if line.startswith("problem: ")]
    assert len(wrong) == 2
    assert "scheduler_config.json is missing" in wrong[0]
    assert "unet has no weights" in wrong[1]


def test_check_of_an_unconverted_file_names_models_add(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.pdparams").write_bytes(b"PK")
    assert main(["models", "check", str(tmp_path / "model.pdparams")]) == 1
    assert "darkroom models add" in capsys.readouterr().err


def test_check_of_a_pickle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"emb_params": torch.zeros(2, 768)}, tmp_path / "word.pt")
    assert main(["models", "check", str(tmp_path / "word.pt")]) == 0
    printed = capsys.readouterr().out
    assert "a textual inversion embedding" in printed
    assert "`darkroom models add` converts it" in printed
    (tmp_path / "model.ckpt").write_bytes(b"PK")
    assert main(["models", "check", str(tmp_path / "model.ckpt")]) == 1
    assert "model.ckpt" in capsys.readouterr().err


def test_models_config_is_listed_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "models.toml"
    file.write_text('[models.a]\nsource = "x/y"\naliases = ["b"]\n[models.c]\nsource = "z"\n')
    monkeypatch.setenv("DARKROOM_CATALOGUE", str(file))
    assert main(["models"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[-2:] == ["a (also b): x/y, on demand", "c: z, on demand"]
    file.write_text("[models.a]\n")
    assert main(["models"]) == 2
    assert "models.a.source: Field required" in capsys.readouterr().err


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Serve a tiny model; returns the model store."""
    monkeypatch.setenv("DARKROOM_MODEL", str(write_tiny_sd(tmp_path / "tiny")))
    monkeypatch.setenv("DARKROOM_MODELS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def written_lora(file: Path, layer: str = "mid_block.attentions.0.proj_in") -> Path:
    name = f"lora_unet_{layer.replace('.', '_')}"
    save_file({f"{name}.lora_down.weight": torch.ones(2, 64),
               f"{name}.lora_up.weight": torch.ones(64, 2)}, file)  # fmt: skip
    return file


def test_lora_is_added_under_its_name_and_checked_against_the_served_model(
    served: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written_lora(tmp_path / "墨絵 cafe\u0301.safetensors")
    assert main(["models", "check", str(file)]) == 0
    assert "  fits            tiny" in capsys.readouterr().out
    assert main(["models", "add", str(file)]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "Fits tiny."
    assert (served / "loras/墨絵-caf\u00e9.safetensors").is_file()
    assert main(["models", "check", "墨絵-cafe\u0301"]) == 0


def test_lora_that_fits_no_served_model_is_not_added(
    served: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written_lora(tmp_path / "odd.safetensors", layer="nowhere")
    for action in ("check", "add"):
        assert main(["models", action, str(file)]) == 1
        printed = capsys.readouterr()
        assert "it does not fit the served model tiny" in printed.out + printed.err
        assert "lora_unet_nowhere.lora_down.weight" in printed.out + printed.err
    assert not (served / "loras").exists()


def test_unsafe_name_is_refused_before_anything_is_read(
    served: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "add", str(tmp_path / "absent"), "--name", "a\u202eb"]) == 1
    assert r"'a\u202eb' is no name: the character U+202E" in capsys.readouterr().err
