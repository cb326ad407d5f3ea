"""Models from a hub on loopback, through the real huggingface_hub, in separate processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.checkpoints.files import SAFE
from models.checkpoints.hub import model_files
from models.loading.loader import BUNDLED
from tests.models.checkpoints.loopback_hub import LARGE, Hub, Repository, serving
from tests.support.forked_program import run_forked
from tests.support.shared_files import shared_file
from tests.support.tiny_models import write_tiny_sd

pytestmark = pytest.mark.early

PROGRAM = "tests.models.checkpoints.fetch_program"
UNET = "unet/diffusion_pytorch_model.safetensors"


def files_of(folder: Path) -> dict[str, bytes]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_sd(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def hub(tiny: Path) -> Iterator[Hub]:
    """Serve a model in the diffusers layout, with other files that are not needed."""
    files = files_of(tiny)
    pickles = {"unet/diffusion_pytorch_model.bin": b"no", "model.ckpt": b"no", "README.md": b"hi"}
    with serving(Hub({"owner/tiny": Repository({**files, **pickles})})) as served:
        yield served


def run(hub: Hub, home: Path, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process that can reach only this hub."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DARKROOM_MODELS_HOME": str(home / "added"),
        **settings,
    }
    return run_forked(*command, environment=environment)


def fetched(hub: Hub, home: Path, repository: str = "owner/tiny", **settings: str) -> Path:
    ran = run(hub, home, PROGRAM, "fetch", repository, **settings)
    assert ran.returncode == 0, ran.stderr
    return Path(ran.stdout.strip())


def refused(hub: Hub, home: Path, repository: str = "owner/tiny", **settings: str) -> str:
    ran = run(hub, home, PROGRAM, "fetch", repository, **settings)
    assert ran.returncode == 1
    return ran.stderr.strip().splitlines()[-1]


def test_only_the_needed_files_of_a_model_are_fetched(hub: Hub, tiny: Path, tmp_path: Path) -> None:
    folder = fetched(hub, tmp_path)
    assert files_of(folder) == files_of(tiny)
    assert len(hub.repositories["owner/tiny"].files["unet/config.json"]) < LARGE
    assert len(hub.repositories["owner/tiny"].files[UNET]) > LARGE


def test_cached_model_is_used_without_the_hub(hub: Hub, tiny: Path, tmp_path: Path) -> None:
    folder = fetched(hub, tmp_path)
    hub.requests.clear()
    assert fetched(hub, tmp_path, HF_HUB_OFFLINE="1") == folder
    assert hub.requests == []
    away = Hub(url="http://127.0.0.1:9")  # the port of `discard`, without a server
    assert fetched(away, tmp_path) == folder
    message = refused(hub, tmp_path, "owner/other", HF_HUB_OFFLINE="1")
    assert message == (
        "CheckpointMissing: owner/other is not in the cache, and the hub cannot be asked"
    )


def test_interrupted_download_is_resumed(hub: Hub, tmp_path: Path) -> None:
    """The client writes pieces of 10 MiB: complete ones are not fetched again."""
    raw = os.urandom(24 << 20)
    hub.repositories["owner/large"] = Repository(
        {"unet/model.safetensors": raw, "model_index.json": b"{}"}
    )
    hub.cut_next = 15 << 20
    folder = fetched(hub, tmp_path, "owner/large")
    assert (folder / "unet/model.safetensors").read_bytes() == raw
    assert hub.downloads("model.safetensors") == [None, f"bytes={10 << 20}-"]


def test_progress_of_a_download_is_reported(hub: Hub, tmp_path: Path) -> None:
    raw = os.urandom(24 << 20)
    files = {"unet/model.safetensors": raw, "model_index.json": b"{}"}
    hub.repositories["owner/large"] = Repository(files)
    ran = run(hub, tmp_path, PROGRAM, "report", "owner/large")
    assert ran.returncode == 0, ran.stderr
    reported = [tuple(map(int, line.split())) for line in ran.stdout.splitlines()]
    assert len(reported) > 2
    assert reported == sorted(reported)
    assert reported[-1] == (total := sum(map(len, files.values())), total)
    assert "Fetching" not in ran.stderr  # no bars where no terminal shows them
    assert "%" not in ran.stderr


@pytest.mark.long
def test_loading_reports_the_fetched_bytes(hub: Hub, tmp_path: Path) -> None:
    ran = run(hub, tmp_path, PROGRAM, "load", "owner/tiny")
    assert ran.returncode == 0, ran.stderr
    fetching = [line for line in ran.stdout.splitlines() if "fetching, " in line]
    assert len(fetching) > 1
    assert re.fullmatch(r"0\.1000 fetching, (0\.01) of \1 GB", fetching[-1])


def test_refusals_of_the_hub_have_clear_messages(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["owner/gated"] = Repository(
        dict(hub.repositories["owner/tiny"].files), gated=True
    )
    cannot = "CheckpointMissing: cannot fetch"
    assert refused(hub, tmp_path, HF_TOKEN="hf_bad") == (
        f"{cannot} 'owner/tiny' from the hub: the token in HF_TOKEN is not accepted"
    )
    missing = "there is no such repository, or it is private and HF_TOKEN may not see it"
    for token in ({}, {"HF_TOKEN": "hf_good"}):
        message = refused(hub, tmp_path, "owner/nothing", **token)
        assert message == f"{cannot} 'owner/nothing' from the hub: {missing}"
    assert refused(hub, tmp_path, "owner/gated", HF_TOKEN="hf_good") == (
        f"{cannot} 'owner/gated' from the hub: "
        "its owner asks for consent: accept it on its page, and set HF_TOKEN"
    )


def test_repository_with_pickles_only_is_refused_with_advice(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["owner/old"] = Repository(
        {"model_index.json": b"{}", "unet/config.json": b"{}", "unet/pytorch_model.bin": b"x"}
    )
    assert refused(hub, tmp_path, "owner/old") == (
        "CheckpointError: owner/old holds no safetensors, only unet/pytorch_model.bin: "
        "convert it once with `darkroom models add owner/old`"
    )
    assert not any(path.endswith(".bin") for _, path, _ in hub.requests)


def test_model_is_added_from_the_hub(hub: Hub, tiny: Path, tmp_path: Path) -> None:
    """The UNet is a pickle there; it is added as safetensors."""
    files = files_of(tiny)
    weights = load_file(tiny / UNET)
    torch.save(weights, tmp_path / "unet.bin")
    files["unet/diffusion_pytorch_model.bin"] = (tmp_path / "unet.bin").read_bytes()
    del files[UNET]
    hub.repositories["owner/mixed"] = Repository(files)
    ran = run(hub, tmp_path, "darkroom", "models", "add", "owner/mixed", "--name", "mine")
    assert ran.returncode == 0, ran.stderr
    folder = tmp_path / "added" / "models" / "mine"
    assert str(folder) in ran.stdout
    assert not list(folder.rglob("*.bin"))
    added = load_file(folder / UNET)
    assert added.keys() == weights.keys()
    assert all(torch.equal(added[name], weights[name]) for name in weights)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["source"] == "owner/mixed"
    assert manifest["kind"] == "model"


@pytest.mark.long
def test_component_with_a_repository_of_its_own_is_added(
    hub: Hub, tiny: Path, tmp_path: Path
) -> None:
    """As stabilityai/sd-vae-ft-mse, which once had pickles only."""
    weights = load_file(tiny / "vae/diffusion_pytorch_model.safetensors")
    torch.save(weights, tmp_path / "vae.bin")
    hub.repositories["owner/vae"] = Repository(
        {
            "config.json": (tiny / "vae/config.json").read_bytes(),
            "diffusion_pytorch_model.bin": (tmp_path / "vae.bin").read_bytes(),
        }
    )
    ran = run(hub, tmp_path, "darkroom", "models", "add", "owner/vae")
    assert ran.returncode == 0, ran.stderr
    folder = tmp_path / "added" / "vaes" / "vae"
    added = load_file(folder / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(added[name], tensor) for name, tensor in weights.items())
    assert json.loads((folder / "config.json").read_text())["_class_name"] == "AutoencoderKL"


def test_one_file_of_a_repository_is_added(hub: Hub, tmp_path: Path) -> None:
    # It fits the bundled model, which is served by default.
    served = load_file(BUNDLED / UNET)["conv_in.weight"]
    pair = {
        "unet.conv_in.lora_A.weight": torch.ones(2, *served.shape[1:]),
        "unet.conv_in.lora_B.weight": torch.ones(len(served), 2, 1, 1),
    }
    save_file(pair, tmp_path / "style.safetensors")
    raw = (tmp_path / "style.safetensors").read_bytes()
    hub.repositories["owner/styles"] = Repository({"style.safetensors": raw, "b.safetensors": raw})
    which = run(hub, tmp_path, "darkroom", "models", "add", "owner/styles")
    assert which.returncode == 1
    assert "several files, say which: owner/styles/b.safetensors" in which.stderr
    one = run(hub, tmp_path, "darkroom", "models", "add", "owner/styles/style.safetensors")
    assert one.returncode == 0, one.stderr
    assert (tmp_path / "added" / "loras" / "style.safetensors").read_bytes() == raw
    assert hub.downloads("b.safetensors") == []


@pytest.mark.long
def test_both_files_of_a_tiny_autoencoder_are_fetched(hub: Hub, tmp_path: Path) -> None:
    files = {
        f"{half}.safetensors": shared_file(f"data/taesd/{half}.safetensors").read_bytes()
        for half in ("taesd_encoder", "taesd_decoder", "taesdxl_decoder")
    }
    hub.repositories["owner/tiny-vaes"] = Repository(files)
    source = "owner/tiny-vaes/taesd_decoder.safetensors"
    ran = run(hub, tmp_path, "darkroom", "models", "add", source, "--name", "taesd")
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "added/vaes/taesd/config.json").is_file()
    assert hub.downloads("taesdxl_decoder.safetensors") == []


def test_one_variant_of_each_component_is_chosen() -> None:
    files = [
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "vae/config.json",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/config.json",
        "text_encoder/model.safetensors.index.json",
        "text_encoder/model-00001-of-00002.safetensors",
        "text_encoder/model-00002-of-00002.safetensors",
        "text_encoder/model.safetensors.index.fp16.json",
        "text_encoder/model.fp16-00001-of-00001.safetensors",
        "tokenizer/vocab.json",
        "tokenizer/run.py",
        "low_res_scheduler/scheduler_config.json",
        "depth_estimator/config.json",
        "depth_estimator/model.safetensors",
        "vae_1_0/diffusion_pytorch_model.safetensors",
    ]
    last_step = set(model_files(files, half=True, suffixes=SAFE, ema=False))
    assert "unet/diffusion_pytorch_model.non_ema.safetensors" in last_step
    assert "unet/diffusion_pytorch_model.fp16.safetensors" not in last_step
    assert "vae/diffusion_pytorch_model.fp16.safetensors" in last_step
    full = set(model_files(files, half=False, suffixes=SAFE))
    small = set(model_files(files, half=True, suffixes=SAFE))
    always = {
        "model_index.json",
        "unet/config.json",
        "vae/config.json",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/config.json",
        "tokenizer/vocab.json",
        "low_res_scheduler/scheduler_config.json",
    }
    assert full == always | {
        "unet/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors.index.json",
        "text_encoder/model-00001-of-00002.safetensors",
        "text_encoder/model-00002-of-00002.safetensors",
    }
    assert small == always | {
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model.safetensors.index.fp16.json",
        "text_encoder/model.fp16-00001-of-00001.safetensors",
    }


def test_transformer_model_is_refused_before_its_weights_are_fetched(tmp_path: Path) -> None:
    index = {"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}
    files = {
        "model_index.json": json.dumps(index).encode(),
        "transformer/config.json": b"{}",
        "vae/config.json": b"{}",
        "vae/diffusion_pytorch_model.safetensors": b"large",
    }
    with serving(Hub({"owner/flux": Repository(files)})) as hub:
        message = refused(hub, tmp_path, "owner/flux")
        assert "FluxPipeline is Flux, a transformer model" in message
        assert not hub.downloads("diffusion_pytorch_model.safetensors")
