"""The installed LoRAs: found by name in one folder only, and checked by their headers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from models.lora.errors import LoraError
from models.lora.merging import layers_of
from models.lora.names import UNET
from models.lora.registry import LoraRegistry
from models.pipeline import LatentDiffusion
from tests.models.lora import spellings


def add(model: LatentDiffusion, folder: Path, name: str) -> Path:
    layers = layers_of(model)
    pairs = spellings.random_pairs(layers, [(UNET, "down_blocks.0.attentions.0.proj_in")])
    return spellings.save(folder / f"{name}.safetensors", spellings.kohya(pairs))


def test_fitting_loras_are_listed(
    tiny_sd: LatentDiffusion, tiny_sdxl: LatentDiffusion, tmp_path: Path
) -> None:
    registry = LoraRegistry(tmp_path / "loras")
    assert registry.fitting(layers_of(tiny_sd)) == ()  # there is no folder yet
    first = add(tiny_sd, tmp_path / "loras", "b.with.dots")
    layers = layers_of(tiny_sdxl)
    pairs = spellings.random_pairs(layers, [(UNET, "down_blocks.1.attentions.0.proj_in")])
    spellings.save(tmp_path / "loras/a.safetensors", spellings.kohya(pairs))
    (tmp_path / "loras/notes.txt").write_text("x")
    (tmp_path / "loras/folder.safetensors").mkdir()
    (tmp_path / "loras/broken.safetensors").write_bytes(b"\0" * 9)
    assert registry.fitting(layers_of(tiny_sd)) == ("b.with.dots",)
    assert registry.fitting(layers) == ("a",)
    misfits = registry.misfits(layers)
    assert list(misfits) == ["a", "b.with.dots", "broken"]
    assert "cannot be read" in str(misfits["broken"])
    assert "does not fit" in str(misfits["b.with.dots"])
    first.unlink()
    assert registry.fitting(layers_of(tiny_sd)) == ()


def test_file_is_checked_once_until_it_changes(
    tiny_sd: LatentDiffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[Path] = []

    def counted(file: Path, layers: object) -> None:
        checked.append(file)
        if file.stat().st_size > 100_000:
            raise LoraError("too large")

    monkeypatch.setattr("models.lora.registry.check_lora", counted)
    file = add(tiny_sd, tmp_path, "one")
    registry, layers = LoraRegistry(tmp_path), layers_of(tiny_sd)
    for _ in range(3):
        assert registry.fitting(layers) == ("one",)
    assert registry.fitting(layers_of(tiny_sd)) == ("one",)  # equal layers of another object
    assert checked == [file]
    file.write_bytes(b"\0" * 200_000)
    assert registry.misfits(layers) == {"one": "too large"}
    assert checked == [file, file]


def test_loras_of_a_model_are_in_its_folder(tiny_sd: LatentDiffusion, tmp_path: Path) -> None:
    installed, model = tmp_path / "loras", tmp_path / "model"
    own, other = (replace(tiny_sd, folder=folder) for folder in (model, tmp_path / "another model"))
    registry = LoraRegistry(installed)
    add(tiny_sd, model / "loras", "own")
    add(tiny_sd, model / "loras", "both")
    assert registry.fitting(layers_of(own)) == ("both", "own")
    assert registry.fitting(layers_of(other)) == ()
    add(tiny_sd, installed, "both")
    add(tiny_sd, installed, "installed")
    assert registry.fitting(layers_of(own)) == ("both", "installed", "own")
    assert registry.fitting(layers_of(other)) == ("both", "installed")
    assert registry.files(model)["both"].path == installed / "both.safetensors"
    assert registry.get("own", layers_of(own)).name == "own"
    with pytest.raises(LoraError, match="no LoRA is called 'own'"):
        registry.get("own", layers_of(other))


@pytest.mark.parametrize("name", ["../outside", "/outside", "outside.safetensors", "", "."])
def test_name_cannot_leave_the_folder(tiny_sd: LatentDiffusion, tmp_path: Path, name: str) -> None:
    add(tiny_sd, tmp_path, "outside")
    (tmp_path / "loras").mkdir()
    registry = LoraRegistry(tmp_path / "loras")
    with pytest.raises(LoraError, match="no LoRA is called"):
        registry.get(name, layers_of(tiny_sd))
