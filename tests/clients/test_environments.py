"""Tests of the lists of client packages: locks with hashes and no addresses, and their table."""

import json
import re
import sys

import pytest

from tests.clients.environments import LISTS, NODE, PYTHON
from tests.clients.table import PAGE, with_tables
from tests.support.imports import ROOT, imports_of


@pytest.mark.parametrize("name", PYTHON)
def test_python_locks_have_hashes_and_no_addresses(name: str) -> None:
    text = (LISTS / name / "requirements.txt").read_text()
    locked = re.findall(r"^[a-z0-9-]+==(?:.*\\\n)+.*$", text, re.MULTILINE)
    assert len(locked) > 10
    assert all("--hash=sha256:" in entry for entry in locked)
    assert "://" not in text


@pytest.mark.parametrize("name", PYTHON)
def test_python_requirements_have_upper_bounds(name: str) -> None:
    lines = (LISTS / name / "requirements.in").read_text().splitlines()
    wanted = [line for line in lines if not line.startswith("#")]
    assert wanted
    assert all(re.fullmatch(r"[a-z-]+>=[\d.]+,<[\d.]+", line) for line in wanted)


@pytest.mark.parametrize("name", NODE)
def test_node_locks_have_hashes_and_no_addresses(name: str) -> None:
    text = (LISTS / name / "package-lock.json").read_text()
    packages = json.loads(text)["packages"]
    assert all("integrity" in package for path, package in packages.items() if path)
    assert "://" not in text, "npm adds the addresses of sponsors: remove them"


def test_scripts_import_packages_of_their_environments_only() -> None:
    """They run without this project's dependencies."""
    lists = [(LISTS / name / "requirements.txt").read_text() for name in PYTHON]
    locked = {name for text in lists for name in re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE)}
    names = {"PIL": "pillow", "langchain_community": "langchain-community"}
    names |= {"sd_backend_client": "sd-backend-client", "fal_client": "fal-client"}
    names |= {"huggingface_hub": "huggingface-hub", "comfy_api_simplified": "comfy-api-simplified"}
    foreign = {
        found.package
        for found in imports_of("tests/clients/python")
        if found.package not in {"tests", *sys.stdlib_module_names}
    }
    assert {names.get(package, package) for package in foreign} <= locked
    own = [found for found in imports_of("tests/clients/python") if found.package == "tests"]
    assert all(found.module.startswith("tests.clients.python.") for found in own)


def test_table_of_clients_is_current() -> None:
    page = PAGE.read_text("utf-8")
    assert with_tables(page) == page, "run `make docs`"


def test_table_of_front_ends_names_existing_tests() -> None:
    named = re.findall(r"`(tests/clients/sequences/\w+\.py)`", PAGE.read_text("utf-8"))
    files = (ROOT / "tests/clients/sequences").glob("test_*.py")
    assert sorted(named) == sorted(path.relative_to(ROOT).as_posix() for path in files)
