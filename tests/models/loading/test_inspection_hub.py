"""A hub's model is checked by its headers, and a first stage is fetched, on loopback."""

from __future__ import annotations

import json
from pathlib import Path

from tests.models.checkpoints.loopback_hub import Hub, Repository, serving
from tests.models.checkpoints.test_hub import files_of, run
from tests.support.tiny_models import write_tiny_sd

UNET = "unet/diffusion_pytorch_model.safetensors"


def test_only_the_headers_of_a_hubs_weights_are_fetched(tmp_path: Path) -> None:
    files = files_of(write_tiny_sd(tmp_path / "tiny"))
    broken = json.loads(files["unet/config.json"]) | {"out_channels": 3}
    damaged = files | {"unet/config.json": json.dumps(broken).encode()}
    repositories = {"owner/tiny": Repository(files), "owner/damaged": Repository(damaged)}
    with serving(Hub(repositories)) as hub:
        valid = run(hub, tmp_path, "darkroom", "models", "check", "owner/tiny")
        assert valid.returncode == 0, valid.stderr
        assert valid.stdout.startswith("owner/tiny: StableDiffusionPipeline\n")
        assert valid.stdout.endswith("valid\n")
        ranges = hub.downloads(UNET)
        assert ranges
        assert None not in ranges  # never the whole file
        assert not list((tmp_path / "hf").rglob("*.safetensors"))

        wrong = run(hub, tmp_path, "darkroom", "models", "check", "owner/damaged")
        assert wrong.returncode == 1
        assert "problem: unet: misshapen: conv_out.weight is (4, 32, 3, 3)" in wrong.stdout

        unknown = run(hub, tmp_path, "darkroom", "models", "check", "owner/nothing")
        assert unknown.returncode == 1
        assert "cannot fetch 'owner/nothing'" in unknown.stderr


def test_network_with_a_repository_of_its_own_is_checked(tmp_path: Path) -> None:
    files = files_of(write_tiny_sd(tmp_path / "tiny") / "vae")
    with serving(Hub({"owner/vae": Repository(files)})) as hub:
        valid = run(hub, tmp_path, "darkroom", "models", "check", "owner/vae")
        assert valid.returncode == 0, valid.stderr
        assert valid.stdout.startswith("owner/vae: a first stage (AutoencoderKL)\n")
        assert not list((tmp_path / "hf").rglob("*.safetensors"))


def test_first_stage_with_a_repository_of_its_own_is_fetched(tmp_path: Path) -> None:
    folder = write_tiny_sd(tmp_path / "tiny") / "vae"
    files = files_of(folder) | {"sdxl_vae.safetensors": b"another variant", "README.md": b"hi"}
    with serving(Hub({"owner/vae": Repository(files)})) as hub:
        ran = run(hub, tmp_path, "tests.models.loading.resolve_vae", "owner/vae")
        assert ran.returncode == 0, ran.stderr
    assert files_of(Path(ran.stdout.strip())) == files_of(folder)
