"""What a catalogue's entries are, before a weight of them is read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from safetensors import safe_open

from models.checkpoints.convert.install import install
from models.checkpoints.convert.model_store import ModelStore
from models.checkpoints.errors import CheckpointError
from models.networks.safety_checker import load_safety_checker
from protocol.registry.models_config import InvalidModelsConfig
from tests.support.tiny_models import write_tiny_distilled, write_tiny_sd, write_tiny_sdxl
from tests.support.tiny_safety import write_tiny_safety
from worker.engine.safety import Mode
from worker.model_info.model_description import Plan, plan
from worker.model_info.sources import locate
from worker.settings import WorkerSettings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that was added, and a larger one beside the catalogue, without weights."""
    folder: Path = tmp_path_factory.mktemp("offered")
    write_tiny_sd(folder / "home" / "models" / "small")
    write_tiny_sdxl(folder / "large")
    for weights in (folder / "large").rglob("*.safetensors"):
        weights.unlink()
    return folder


def planned(folder: Path, catalogue: str) -> Plan:
    file = folder / "models.toml"
    file.write_text(catalogue, "utf-8")
    return plan(WorkerSettings(catalogue=file, models_home=folder / "home"), CPU)


def test_cards_and_sizes_need_no_weights(folder: Path) -> None:
    found = planned(
        folder,
        """
        [models.base]
        source = "./large"
        aliases = ["xl"]
        refiner = "second"
        defaults = { steps = 7, description = "declared" }
        [models.second]
        source = "small"
        """,
    )
    assert (dict(found.broken), found.budget) == ({}, None)
    base, second = found.offerings["base"], found.offerings["second"]
    assert (base.card.name, base.card.family, base.card.aliases) == ("base", "sdxl", ("xl",))
    assert (base.card.default_steps, base.card.description) == (7, "declared")
    assert (base.card.refiners, second.card.refiners) == (("second",), ())
    assert base.tokenizer_json
    # As many bytes as the file of each network holds.
    stored = 0
    for path in (folder / "home" / "models" / "small").rglob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            stored += sum(4 * file.get_tensor(key).numel() for key in file.keys())  # noqa: SIM118
    assert second.size == stored


def test_an_entry_that_cannot_be_described_hurts_no_other(folder: Path) -> None:
    found = planned(
        folder,
        """
        [models.good]
        source = "small"
        [models.gone]
        source = "./nowhere"
        [models.leaning]
        source = "./large"
        refiner = "gone"
        [models.wrong]
        source = "small"
        defaults = { steps = 0 }
        """,
    )
    assert list(found.offerings) == ["good"]
    assert "nowhere" in found.broken["gone"]
    assert found.broken["leaning"].startswith("its refiner gone cannot be loaded: ")
    assert found.broken["wrong"].startswith("models.wrong.defaults: default_steps: ")


def test_a_unet_may_take_the_place_of_a_models_own(folder: Path, tmp_path: Path) -> None:
    distilled = write_tiny_distilled(write_tiny_sd(tmp_path / "distilled"))
    added = install(str(distilled / "unet"), ModelStore(folder / "home"), name="fast")
    assert added.path == folder / "home/unets/fast"
    entries = '[models.quick]\nsource = "small"\nunet = "fast"\n[models.plain]\nsource = "small"\n'
    found = planned(folder, entries + '[models.wrong]\nsource = "./large"\nunet = "fast"\n')
    quick, plain = found.offerings["quick"], found.offerings["plain"]
    assert quick.skeleton.unet.config.time_cond_proj_dim
    assert (quick.card.default_steps, quick.card.default_sampler) == (4, "lcm")
    assert (plain.card.default_steps, plain.card.default_sampler) == (20, "plms")
    assert "does not fit the model" in found.broken["wrong"]


def test_a_safety_checker_takes_its_place_unless_it_is_off(folder: Path) -> None:
    watched = folder / "home" / "models" / "watched"
    shutil.copytree(folder / "home" / "models" / "small", watched)
    black, white = (np.full((32, 32, 3), level, np.uint8) for level in (0, 255))
    white[:, ::2] = 40
    write_tiny_safety(watched, black, white)
    checker = load_safety_checker(watched, torch.float32, CPU)
    sizes = {}
    for name, safety in (("small", "flag"), ("watched", "off"), ("watched", "flag")):
        settings = WorkerSettings(
            model=name, models_home=folder / "home", worker_safety=cast(Mode, safety)
        )
        sizes[name, safety] = plan(settings, CPU).offerings[name].size
    assert sizes["watched", "off"] == sizes["small", "flag"]
    taken = sum(parameter.nbytes for parameter in checker.parameters())
    assert sizes["watched", "flag"] == sizes["small", "flag"] + taken


def test_without_a_catalogue_the_one_model_is_described(folder: Path, tmp_path: Path) -> None:
    settings = WorkerSettings(model="small", models_home=folder / "home")
    found = plan(settings, CPU)
    assert list(found.offerings) == ["small"]
    assert found.offerings["small"].declared.resident is True
    with pytest.raises(CheckpointError):
        plan(WorkerSettings(model=str(tmp_path / "nowhere")), CPU)
    with pytest.raises(InvalidModelsConfig, match="cannot be read"):
        plan(WorkerSettings(catalogue=tmp_path / "models.toml"), CPU)


def test_a_source_is_looked_for_where_it_may_be(tmp_path: Path) -> None:
    added, base = tmp_path / "added", tmp_path / "base"
    for place in (added / "mine", base / "mine", base / "there"):
        place.mkdir(parents=True)
    assert locate("mine", added, base) == str(added / "mine")
    assert locate("./mine", added, base) == str(base / "mine")
    assert locate("there", added, base) == str(base / "there")
    assert locate("owner/name", added, base) == "owner/name"
    assert locate("/elsewhere/model", added, base) == "/elsewhere/model"
    assert locate("bundled", added, base) == "bundled"
    shutil.rmtree(base / "there")
    assert locate("there", added, base) == "there"
