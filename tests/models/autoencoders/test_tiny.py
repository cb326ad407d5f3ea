"""Tiny autoencoders: the trained weights against diffusers, and their use in a model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from models.autoencoders.registry import build_first_stage, load_first_stage
from models.checkpoints.checkpoint import CheckpointError
from models.checkpoints.convert.install import install
from models.checkpoints.convert.model_store import ModelStore
from models.loading.inspection import inspect_checkpoint
from models.loading.loader import load_model
from protocol.registry.presence import Presence
from protocol.request.request import Decoder
from tests.support.shared_files import shared_file
from tests.support.tiny_models import write_tiny_sd, write_tiny_vae
from tests.worker.consumer.harness import client
from tests.worker.engine.test_engine import RecordingListener, request
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.engine.slots import denoised
from worker.interfaces import AdmittedJob
from worker.model_info.model_card import model_card
from worker.model_manager.startup import start_models
from worker.settings import WorkerSettings
from worker.telemetry.heartbeat import Heartbeat
from worker.telemetry.metrics import Metrics


def trained(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return configuration and weights with diffusers' names.

    Upstream counts a clamp as the first layer of the decoder.
    """
    folder = shared_file("data/taesd")
    config = json.loads((folder / "diffusers_AutoencoderTiny_config.json").read_text("utf-8"))
    weights = {}
    for part, before in (("encoder", 0), ("decoder", 1)):
        for key, tensor in load_file(folder / f"{name}_{part}.safetensors").items():
            layer, _, rest = key.partition(".")
            weights[f"{part}.layers.{int(layer) - before}.{rest}"] = tensor.float()
    return config, weights


@pytest.mark.parametrize("name", ["taesd", "taesdxl"])
@torch.inference_mode()
def test_trained_weights_equal_diffusers(name: str) -> None:
    config, weights = trained(name)
    theirs = diffusers.AutoencoderTiny.from_config(config).eval()
    theirs.load_state_dict(weights)
    ours = build_first_stage(config).eval()
    ours.load_state_dict(weights)
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(2, 3, 64, 96, generator=generator) * 2 - 1
    z = 2 * torch.randn(2, 4, 8, 12, generator=generator)
    assert torch.equal(ours.encode(image).mode(), theirs.encode(image).latents)
    assert torch.equal(ours.decode(z), theirs.decode(z).sample)
    # Encoder and decoder were trained to be inverse.
    smooth = torch.nn.functional.interpolate(image[:, :, :4, :6], size=(64, 96), mode="bicubic")
    error = ours.decode(ours.encode(smooth.clamp(-1, 1)).mode()) - smooth.clamp(-1, 1)
    assert error.square().mean().sqrt() < 0.2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model with a tiny autoencoder in addition to its own."""
    folder = write_tiny_sd(tmp_path_factory.mktemp("with-tiny"))
    write_tiny_vae(folder / "tiny_vae", levels=3)
    return folder


def test_request_selects_tiny_decoder(folder: Path) -> None:
    model = load_model(str(folder), torch.device("cpu"))
    assert model_card(model, "tiny").decoders == ("full", "tiny")
    engine = DiffusionEngine({"tiny": unmeasured(model, 4)}, max_slots=4)
    listeners = {decoder: RecordingListener() for decoder in Decoder}
    for decoder, listener in listeners.items():
        engine.admit(AdmittedJob(decoder, request(decoder=decoder), None, None, listener))
    latents = [denoised(slot) for slot in engine._slots]
    while not engine.idle:
        engine.step()
    assert torch.equal(latents[0].x, latents[1].x)
    full, tiny = (listeners[decoder].images[0][0] for decoder in Decoder)
    assert np.array_equal(full, model.decode(latents[0].x[None])[0].numpy())
    assert np.array_equal(tiny, model.decode_tiny(latents[0].x[None])[0].numpy())
    assert not np.array_equal(full, tiny)


def test_operator_declares_an_installed_tiny_autoencoder(tmp_path: Path, redis_url: str) -> None:
    write_tiny_sd(tmp_path / "sd")
    write_tiny_vae(tmp_path / "home" / "vaes" / "small")
    catalogue = tmp_path / "models.toml"
    catalogue.write_text('[models.sd]\nsource = "sd"\ntiny_vae = "small"\nresident = true\n')
    settings = WorkerSettings(
        catalogue=catalogue, models_home=tmp_path / "home", worker_executor="eager", worker_slots=1
    )
    heartbeat = Heartbeat(Presence(client(redis_url)), "w")
    engine, served = start_models(settings, torch.device("cpu"), heartbeat, Metrics())
    [description] = served.descriptions.values()
    assert description.card.decoders == ("full", "tiny")
    assert engine.models["sd"].model.tiny is not None


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    """Write the two files of TAESD as their author publishes them."""
    for half in ("encoder", "decoder"):
        file = f"taesd_{half}.safetensors"
        shutil.copyfile(shared_file(f"data/taesd/{file}"), tmp_path / file)
    return tmp_path


@pytest.mark.parametrize("named", ["encoder", "decoder"])
def test_encoder_and_decoder_files_are_installed_as_one(
    upstream: Path, tmp_path: Path, named: str
) -> None:
    home = ModelStore(tmp_path / "home")
    added = install(str(upstream / f"taesd_{named}.safetensors"), home, name="taesd", kind="vae")
    assert (added.kind, added.path) == ("vae", home.root / "vaes" / "taesd")
    assert inspect_checkpoint(str(added.path)).valid
    config, weights = trained("taesd")
    ours = load_first_stage(added.path, torch.float32, torch.device("cpu"))
    assert ours.config == build_first_stage(config).config
    assert ours.state_dict().keys() == weights.keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in ours.state_dict().items())


def test_pickle_files_are_installed(upstream: Path, tmp_path: Path) -> None:
    for file in upstream.glob("*.safetensors"):
        torch.save(load_file(file), file.with_suffix(".pth"))
        file.unlink()
    added = install(str(upstream / "taesd_decoder.pth"), ModelStore(tmp_path / "home"))
    assert inspect_checkpoint(str(added.path)).valid


def test_encoder_or_decoder_alone_is_refused(upstream: Path, tmp_path: Path) -> None:
    home = ModelStore(tmp_path / "home")
    encoder, decoder = (upstream / f"taesd_{half}.safetensors" for half in ("encoder", "decoder"))
    with pytest.raises(CheckpointError, match="decoder of a tiny autoencoder, whose other half"):
        inspect_checkpoint(str(decoder))
    shutil.copyfile(decoder, encoder)
    with pytest.raises(CheckpointError, match=r"taesd_encoder\.safetensors is no encoder"):
        install(str(decoder), home)
    encoder.unlink()
    with pytest.raises(CheckpointError, match="its encoder must be in the same folder"):
        install(str(decoder), home)
    renamed = decoder.rename(upstream / "tiny.safetensors")
    with pytest.raises(CheckpointError, match="its encoder must be in the same folder"):
        install(str(renamed), home)
    assert home.names("vae") == []


def test_tiny_autoencoder_for_other_latents_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_sd(tmp_path)
    write_tiny_vae(folder / "tiny_vae", levels=4)
    with pytest.raises(CheckpointError, match=r"4 channels for 8 pixels, .* 4 channels for 4"):
        load_model(str(folder), torch.device("cpu"))


def test_model_without_tiny_autoencoder_lacks_the_decoder(tmp_path: Path) -> None:
    model = load_model(str(write_tiny_sd(tmp_path)), torch.device("cpu"))
    assert model_card(model, "tiny").decoders == ("full",)
