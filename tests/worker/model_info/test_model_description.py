"""Descriptions of configured models, made without reading weights."""

from __future__ import annotations

import json
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
from models.samplers.noise_schedule import NoiseSchedule
from protocol.registry.models_config import InvalidModelsConfig
from tests.support.tiny_models import write_tiny_distilled, write_tiny_sd, write_tiny_sdxl
from tests.support.tiny_safety import write_tiny_safety
from worker.engine.safety import Mode
from worker.model_info.model_description import DescribedModels, describe_models
from worker.model_info.sources import locate
from worker.settings import WorkerSettings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installed small model, and a larger one next to the models config, without weights."""
    folder: Path = tmp_path_factory.mktemp("described")
    write_tiny_sd(folder / "home" / "models" / "small")
    write_tiny_sdxl(folder / "large")
    for weights in (folder / "large").rglob("*.safetensors"):
        weights.unlink()
    return folder


def described(folder: Path, models_config: str) -> DescribedModels:
    file = folder / "models.toml"
    file.write_text(models_config, "utf-8")
    return describe_models(WorkerSettings(catalogue=file, models_home=folder / "home"), CPU)


def test_cards_and_sizes_need_no_weights(folder: Path) -> None:
    found = described(
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
    base, second = found.descriptions["base"], found.descriptions["second"]
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


def test_broken_entry_does_not_affect_the_others(folder: Path) -> None:
    found = described(
        folder,
        """
        [models.good]
        source = "small"
        [models.gone]
        source = "./nowhere"
        [models.dependent]
        source = "./large"
        refiner = "gone"
        [models.wrong]
        source = "small"
        defaults = { steps = 0 }
        """,
    )
    assert list(found.descriptions) == ["good"]
    assert "nowhere" in found.broken["gone"]
    assert found.broken["dependent"].startswith("its refiner gone cannot be loaded: ")
    assert found.broken["wrong"].startswith("models.wrong.defaults: default_steps: ")


def test_configured_unet_replaces_the_own_one(folder: Path, tmp_path: Path) -> None:
    distilled = write_tiny_distilled(write_tiny_sd(tmp_path / "distilled"))
    added = install(str(distilled / "unet"), ModelStore(folder / "home"), name="fast")
    assert added.path == folder / "home/unets/fast"
    entries = '[models.quick]\nsource = "small"\nunet = "fast"\n[models.plain]\nsource = "small"\n'
    found = described(folder, entries + '[models.wrong]\nsource = "./large"\nunet = "fast"\n')
    quick, plain = found.descriptions["quick"], found.descriptions["plain"]
    assert quick.skeleton.unet.config.time_cond_proj_dim
    assert (quick.card.default_steps, quick.card.default_sampler) == (4, "lcm")
    assert (plain.card.default_steps, plain.card.default_sampler) == (20, "plms")
    assert "does not fit the model" in found.broken["wrong"]


def test_entry_states_what_the_files_do_not_say(folder: Path, tmp_path: Path) -> None:
    bare = write_tiny_sd(tmp_path / "bare")
    vae = shutil.move(bare / "vae", tmp_path / "vae")
    entries = f'''
        [models.v]
        source = "small"
        prediction_type = "v_prediction"
        zero_terminal_snr = true
        family = "pony"
        [models.bare]
        source = "{bare}"
        vae = "{vae}"
        [models.without]
        source = "{bare}"
    '''
    found = described(folder, entries)
    described_v = found.descriptions["v"]
    schedule = described_v.skeleton.noise_schedule
    assert isinstance(schedule, NoiseSchedule)
    assert (schedule.prediction_type, schedule.rescale_betas_zero_snr) == ("v_prediction", True)
    assert (described_v.card.family, described_v.card.default_sampler) == ("pony", "ddim")
    assert found.descriptions["bare"].skeleton.autoencoder.config.scaling_factor == 0.18215
    assert "has neither vae/ nor vqvae/" in found.broken["without"]


def test_size_includes_the_safety_checker_unless_it_is_off(folder: Path) -> None:
    checked = folder / "home" / "models" / "checked"
    shutil.copytree(folder / "home" / "models" / "small", checked)
    black, white = (np.full((32, 32, 3), level, np.uint8) for level in (0, 255))
    white[:, ::2] = 40
    write_tiny_safety(checked, black, white)
    checker = load_safety_checker(checked, torch.float32, CPU)
    sizes = {}
    for name, safety in (("small", "flag"), ("checked", "off"), ("checked", "flag")):
        settings = WorkerSettings(
            model=name, models_home=folder / "home", worker_safety=cast(Mode, safety)
        )
        sizes[name, safety] = describe_models(settings, CPU).descriptions[name].size
    assert sizes["checked", "off"] == sizes["small", "flag"]
    checker_bytes = sum(parameter.nbytes for parameter in checker.parameters())
    assert sizes["checked", "flag"] == sizes["small", "flag"] + checker_bytes


def test_single_model_is_described_without_a_models_config(folder: Path, tmp_path: Path) -> None:
    settings = WorkerSettings(model="small", models_home=folder / "home")
    found = describe_models(settings, CPU)
    assert list(found.descriptions) == ["small"]
    assert found.descriptions["small"].config.resident is True
    with pytest.raises(CheckpointError):
        describe_models(WorkerSettings(model=str(tmp_path / "nowhere")), CPU)
    with pytest.raises(InvalidModelsConfig, match="cannot be read"):
        describe_models(WorkerSettings(catalogue=tmp_path / "models.toml"), CPU)


def test_source_is_an_installed_name_a_path_or_a_hub_id(tmp_path: Path) -> None:
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


def test_models_installed_by_request_are_served_beside_the_configured(tmp_path: Path) -> None:
    """Their manifests have the id of the install; those of the command line do not."""
    models = tmp_path / "home" / "models"
    write_tiny_sd(models / "configured")
    for name in ("added", "requested", "damaged", "base", "xl"):
        shutil.copytree(models / "configured", models / name)
        manifest = {"name": name, "kind": "model"} | ({} if name == "added" else {"install": "1"})
        (models / name / "manifest.json").write_text(json.dumps(manifest))
    shutil.copytree(models / "configured", models / "unreadable")
    (models / "unreadable" / "manifest.json").write_text("{")
    (models / "damaged" / "unet" / "config.json").write_text("[]")
    found = described(
        tmp_path, '[models.base]\nsource = "configured"\naliases = ["xl"]\nresident = true\n'
    )
    assert list(found.descriptions) == ["base", "requested"]
    assert found.descriptions["base"].source == str(models / "configured")
    assert found.descriptions["requested"].config.resident is not True
    assert list(found.broken) == ["damaged"]
    single = describe_models(WorkerSettings(models_home=tmp_path / "home"), CPU)
    assert {"requested", "base", "xl"} < set(single.descriptions)
    assert len(single.descriptions) == 4  # with the bundled model
