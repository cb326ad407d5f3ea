"""Tests of the imports of every module: packages of the project, of others, and declared extras."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib

import pytest

from tests.support.imports import ROOT, imports_of

# Folder -> folders of this project that it may import.
MAY_IMPORT = {
    "protocol": set[str](),
    "service": {"protocol"},
    "worker": {"protocol", "models"},
    "models": set[str](),
    "training": {"models"},
    "clients/python": {"darkroom_client"},
    "darkroom": {"protocol", "darkroom_client"},
    "bench": {"protocol", "service", "worker", "models", "training", "darkroom", "tests"},
}

# Commands that run a program in their own process import it inside a function.
MAY_IMPORT_WHEN_CALLED = {"darkroom": {"service", "worker", "models"}}

OWN = {*MAY_IMPORT, "darkroom_client", "tests"}  # the client is below clients/python

# Folder -> third-party packages that it must not import.
NEVER = {
    "protocol": {"torch", "fastapi", "starlette", "uvicorn", "PIL", "numpy"},
    "service": {"torch", "numpy", "safetensors", "huggingface_hub"},
    "darkroom": {"torch", "fastapi", "starlette", "uvicorn", "PIL", "numpy"},
    "clients/python": {"pydantic", "rich"},
    "models": {"redis", "rq", "fastapi", "pydantic", "diffusers", "transformers"},
    "models/samplers": {"torch"},
    "worker": {"fastapi", "starlette", "uvicorn", "diffusers", "transformers"},
    "training": {"redis", "rq", "fastapi", "diffusers", "transformers"},
}

# Third-party package -> folder -> the only files there that may import it.
ONLY_IN = {
    "rq": {"": {"protocol/queue/views.py", "worker/consumer/rq_worker.py"}},
    "obstore": {"": {"protocol/storage/object_store.py"}},
    "opentelemetry": {"": {"protocol/telemetry/otel.py"}},
    "PIL": {
        "service": {
            f"service/images/{name}.py"
            for name in (
                "codec_child",
                "colours",
                "edit_images",
                "enlarged_previews",
                "file_channels",
                "image_file",
                "inpainting",
                "input_images",
                "mask_shaping",
                "masks",
                "openpose",
                "pixels",
                "preprocessing",
                "resize_modes",
                "uploaded_images",
            )
        },
        "models": {"models/upscalers/resampling.py", "models/denoising/fill.py"},
    },
    "pi_heif": {"service": {"service/images/codec_child.py", "service/images/image_file.py"}},
    "c2pa": {
        "service": {"service/recipes/credentials_child.py"},
        "worker": {"worker/output/content_credentials.py"},
    },
    "cryptography": {
        "": {"darkroom/development_certificate.py", "worker/output/signing_identity.py"}
    },
    "soundfile": {"": {"worker/output/sound_file.py"}},
    "spandrel": {"": {"models/upscalers/other_architectures.py"}},
}

# Folder -> extras whose requirements it may use in addition to the base.
EXTRAS = {
    "protocol": {"tracing"},
    "service": {"heic", "provenance"},
    "darkroom": {"provenance"},
    "clients/python": set[str](),
    "worker": {"worker", "gpu", "provenance"},
    "models": {"worker", "gpu", "upscalers"},
    "training": {"worker", "training"},
    "bench": {"worker", "gpu", "training", "dev"},
    "tests": {"worker", "gpu", "upscalers", "training", "tracing", "provenance", "dev"},
}
# Scripts that run in environments of their own; tests/clients/test_environments.py checks them.
ELSEWHERE = "tests/clients/python/"


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_folder_imports_allowed_folders_only(folder: str) -> None:
    allowed = {folder} | MAY_IMPORT[folder]
    allowed_when_called = allowed | MAY_IMPORT_WHEN_CALLED.get(folder, set())
    wrong = [
        str(found)
        for found in imports_of(folder)
        if found.package in OWN
        and found.package not in (allowed_when_called if found.when_called else allowed)
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", NEVER)
def test_folder_does_not_import_forbidden_packages(folder: str) -> None:
    assert [str(found) for found in imports_of(folder) if found.package in NEVER[folder]] == []


@pytest.mark.parametrize(
    ("package", "folder"), [(name, folder) for name in ONLY_IN for folder in ONLY_IN[name]]
)
def test_package_is_imported_by_its_files_only(package: str, folder: str) -> None:
    folders = [folder] if folder else [name for name in MAY_IMPORT if name != "bench"]
    importing = {
        found.file for name in folders for found in imports_of(name) if found.package == package
    }
    assert importing == ONLY_IN[package][folder]


@pytest.mark.parametrize("folder", EXTRAS)
def test_imported_packages_are_declared(folder: str) -> None:
    distributions = importlib.metadata.packages_distributions()
    oracles = _oracles() if folder == "tests" else []
    declared = {_canonical(name) for name in (*_requirements(EXTRAS[folder]), *oracles)}
    undeclared = [
        str(found)
        for found in imports_of(folder)
        if found.package not in {*OWN, *sys.stdlib_module_names}
        and not found.file.startswith(ELSEWHERE)
        # A package that is not installed, such as optional kernels, has the name of its import.
        and not declared
        & {_canonical(name) for name in distributions.get(found.package, [found.package])}
    ]
    assert undeclared == []


@pytest.mark.parametrize(
    ("folders", "unwanted"),
    [
        (["protocol"], ["torch", "fastapi"]),
        (["protocol", "service"], ["torch"]),
        (["darkroom"], ["torch", "fastapi", "rq"]),
    ],
)
def test_importing_all_modules_does_not_load_heavy_packages(
    folders: list[str], unwanted: list[str]
) -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    code = f"import {', '.join(modules)}, sys; print([n for n in {unwanted} if n in sys.modules])"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ran.stdout.strip(), ran.returncode) == ("[]", 0), ran.stderr


def _requirements(extras: set[str]) -> list[str]:
    """Return the names of the distributions that the base and `extras` require."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    lines = project["dependencies"] + [line for extra in extras for line in optional[extra]]
    return [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines]


def _oracles() -> list[str]:
    """Return the names of the distributions that only the tests use, without their dependencies."""
    lines = (ROOT / ".ci/oracles.txt").read_text().splitlines()
    return [line.split("==")[0] for line in lines if "==" in line]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
