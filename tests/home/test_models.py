"""`darkroom models` where nothing runs: which model the settings choose."""

from pathlib import Path

import pytest

from darkroom.__main__ import main
from tests.redis_server import free_port
from tests.tiny_models import write_tiny_sd


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", str(free_port()))


def test_a_folder_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DARKROOM_MODEL", str(write_tiny_sd(tmp_path / "tiny")))
    assert main(["models"]) == 0
    said = capsys.readouterr().out.strip()
    assert said.endswith("tiny, StableDiffusionPipeline, 32×32")


def test_a_hub_id_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DARKROOM_MODEL", "somebody/some-model")
    assert main(["models"]) == 0
    assert "somebody/some-model, from the Hugging Face hub" in capsys.readouterr().out


def test_a_folder_without_a_model_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DARKROOM_MODEL", str(tmp_path))
    assert main(["models"]) == 1
    assert f"{tmp_path} holds no model" in capsys.readouterr().err
