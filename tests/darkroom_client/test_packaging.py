"""The distribution of the client: what it contains and needs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from packaging.requirements import Requirement

from tests.support.imports import ROOT, imports_of

CLIENT = ROOT / "clients" / "python"
PACKAGE = CLIENT / "darkroom_client"
PROJECT = tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]
SERVER = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OPTIONAL = {"PIL": "pillow"}  # imported where an image of it is asked for or given


def names(requirements: list[str]) -> set[str]:
    return {Requirement(line).name for line in requirements}


def test_only_declared_packages_are_imported() -> None:
    imported = {found.package for found in imports_of("clients/python")}
    others = imported - {"darkroom_client", *sys.stdlib_module_names}
    assert others - OPTIONAL.keys() == names(PROJECT["dependencies"]) == {"httpx"}
    extras = PROJECT["optional-dependencies"]
    assert {OPTIONAL[name] for name in others & OPTIONAL.keys()} == names(extras["pillow"])


def test_version_is_that_of_the_server() -> None:
    for key in ("version", "license"):
        assert PROJECT[key] == SERVER[key]


def test_wheel_has_every_module_and_its_types(tmp_path: Path) -> None:
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(CLIENT)], check=True)
    [path] = tmp_path.glob("darkroom_client-*.whl")
    with zipfile.ZipFile(path) as wheel:
        packed = {name for name in wheel.namelist() if name.startswith("darkroom_client/")}
    modules = {f"darkroom_client/{file.name}" for file in PACKAGE.glob("*.py")}
    assert packed == modules | {"darkroom_client/py.typed"}
