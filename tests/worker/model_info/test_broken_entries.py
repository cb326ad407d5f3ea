"""One entry of a catalogue that goes wrong, in any way, does not affect the others."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from models.loading.loader import load_model
from tests.support.tiny_models import write_tiny_controlnet, write_tiny_sd
from worker.model_info import model_description
from worker.model_info.extra_networks import ModelCards
from worker.model_info.model_description import describe_models
from worker.settings import WorkerSettings

CPU = torch.device("cpu")


def cyclic_link(path: Path) -> None:
    path.symlink_to(path.name)


def missing(path: Path) -> None:
    pass


def empty_folder(path: Path) -> None:
    path.mkdir()


def folders_for_files(path: Path) -> None:
    (path / "model_index.json").mkdir(parents=True)


def links_within(path: Path) -> None:
    """A model of which every file is a link to itself."""
    write_tiny_sd(path)
    for file in [file for file in path.rglob("*") if file.is_file()]:
        file.unlink()
        file.symlink_to(file.name)


def no_text(path: Path) -> None:
    write_tiny_sd(path)
    index = json.loads((path / "model_index.json").read_text())
    index |= {"text_encoder": None, "text_encoder_2": None, "safety_checker": 7}
    (path / "model_index.json").write_text(json.dumps(index))


def nested(path: Path) -> None:
    """JSON that is nested deeper than any reader follows."""
    write_tiny_sd(path)
    (path / "unet/config.json").write_text('{"a":' * 100_000)


def not_utf8(path: Path) -> None:
    write_tiny_sd(path)
    (path / "scheduler/scheduler_config.json").write_bytes(b"\xff\xfe{}")


KINDS: dict[str, Callable[[Path], None]] = {
    kind.__name__: kind
    for kind in (
        cyclic_link,
        missing,
        empty_folder,
        folders_for_files,
        links_within,
        no_text,
        nested,
        not_utf8,
    )
}


def catalogue(folder: Path, broken: str) -> WorkerSettings:
    write_tiny_sd(folder / "good")
    text = f'[models.broken]\nsource = {json.dumps(broken)}\n[models.good]\nsource = "./good"\n'
    (folder / "models.toml").write_text(text, "utf-8")
    return WorkerSettings(catalogue=folder / "models.toml", models_home=folder / "home")


@pytest.mark.parametrize("kind", KINDS)
def test_broken_folder(tmp_path: Path, kind: str) -> None:
    KINDS[kind](tmp_path / "broken")
    found = describe_models(catalogue(tmp_path, "./broken"), CPU)
    assert list(found.descriptions) == ["good"]
    assert found.broken["broken"]


@pytest.mark.parametrize(
    "source", ["x" * 5000, "./" + "x" * 5000, "~nobody-of-this-name/model", "./a\0b", "\ud7ff", "/"]
)
def test_source_that_is_no_path(tmp_path: Path, source: str) -> None:
    found = describe_models(catalogue(tmp_path, source), CPU)
    assert list(found.descriptions) == ["good"]
    assert found.broken["broken"]


@pytest.mark.parametrize(
    "error", [MemoryError(), RecursionError("deep"), KeyError("unet"), OSError(5, "I/O")]
)
def test_unexpected_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Of a library, for which no file is known."""

    def failing(path: str, *arguments: object, **options: object) -> object:
        if path.endswith("broken"):
            raise error
        return load_model(path, *arguments, **options)  # type: ignore[arg-type]

    write_tiny_sd(tmp_path / "broken")
    monkeypatch.setattr(model_description, "load_model", failing)
    found = describe_models(catalogue(tmp_path, "./broken"), CPU)
    assert list(found.descriptions) == ["good"]
    assert type(error).__name__ in found.broken["broken"]


def test_broken_extra_networks(tmp_path: Path) -> None:
    """The store's ControlNets and LoRAs are offered beside those that cannot be read."""
    settings = catalogue(tmp_path, "./nowhere")
    home, models = tmp_path / "home", list(describe_models(settings, CPU).descriptions.values())
    write_tiny_controlnet(home / "controlnets/good", tmp_path / "good")
    for name, config in {
        "list": [1],
        "null": {"block_out_channels": None},
        "unet": {"unet": 1},
    }.items():
        broken = write_tiny_controlnet(home / f"controlnets/{name}", tmp_path / "good")
        (broken / "config.json").write_text(json.dumps(config))
    (home / "controlnets/loop").symlink_to("loop")
    (home / "loras").mkdir()
    cyclic_link(home / "loras/loop.safetensors")
    (home / "loras/folder.safetensors").mkdir()
    os.mkfifo(home / "loras/pipe.safetensors")
    [(card, _)] = ModelCards(models, home).cards()
    assert (card.controlnets, card.loras) == (("good",), ())


def test_folder_of_extra_networks_that_is_none(tmp_path: Path) -> None:
    settings = catalogue(tmp_path, "./nowhere")
    home, models = tmp_path / "home", list(describe_models(settings, CPU).descriptions.values())
    home.mkdir()
    (home / "loras").write_text("")
    cyclic_link(home / "controlnets")
    cyclic_link(home / "embeddings")
    [(card, _)] = ModelCards(models, home).cards()
    assert (card.controlnets, card.loras) == ((), ())
