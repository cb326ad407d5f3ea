"""Tests of the constraints file: it pins all packages with hashes, and contains no address."""

import hashlib
import importlib.metadata
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
ENTRY = re.compile(r"^(?P<name>[a-z0-9-]+)==(?P<version>[^ ]+)(?P<rest>(?:.*\\\n)+.*)$", re.M)
NO_HASH = "0" * 64


def test_every_entry_has_a_version_and_hashes() -> None:
    text = CONSTRAINTS.read_text()
    rest = ENTRY.sub("", text).strip()
    assert rest == ""
    for entry in ENTRY.finditer(text):
        hashes = re.findall(r"--hash=(\S+)", entry["rest"])
        assert hashes, entry["name"]
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", found) for found in hashes), entry["name"]


@pytest.mark.parametrize(
    "file", ["constraints.txt", "pyproject.toml", "Makefile", ".ci/lock", ".ci/run"]
)
def test_no_index_address_is_recorded(file: str) -> None:
    text = (ROOT / file).read_text()
    assert "://" not in text
    assert not re.search(r"--(extra-)?index|--find-links", text)


def test_installed_packages_match_the_constraints() -> None:
    pinned: dict[str, set[Version]] = {}
    for entry in ENTRY.finditer(CONSTRAINTS.read_text()):
        pinned.setdefault(entry["name"], set()).add(Version(entry["version"]))
    wrong = {
        name: installed
        for name in needed("darkroom", {"dev"})
        # A local build ("+cpu") is a build of the pinned version.
        if Version((installed := importlib.metadata.version(name)).partition("+")[0])
        not in pinned.get(name, set())
    }
    assert wrong == {}


def needed(name: str, extras: set[str]) -> set[str]:
    """Return all distributions that `name` with `extras` requires on this machine, recursively."""
    found: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    pending = [(name, frozenset(extras))]
    while pending:
        distribution, wanted = pending.pop()
        for line in importlib.metadata.requires(distribution) or []:
            requirement = Requirement(line)
            marker = requirement.marker
            if marker and not any(marker.evaluate({"extra": extra}) for extra in {"", *wanted}):
                continue
            dependency = (canonicalize_name(requirement.name), frozenset(requirement.extras))
            if dependency not in seen:
                seen.add(dependency)
                pending.append((str(dependency[0]), dependency[1]))
                found.add(str(dependency[0]))
    return found - {name}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """Write a wheel that pip can install: an empty distribution that requires another one."""
    return make_wheel(tmp_path, "pinned_thing", requires="other-thing")


@pytest.fixture
def other_wheel(tmp_path: Path) -> Path:
    return make_wheel(tmp_path, "other_thing")


def test_pip_accepts_files_with_matching_hashes(wheel: Path, other_wheel: Path) -> None:
    ran = install(wheel, {"pinned-thing": sha256(wheel), "other-thing": sha256(other_wheel)})
    assert ran.returncode == 0, ran.stderr
    assert "Would install other_thing-1.0 pinned_thing-1.0" in ran.stdout


def test_pip_refuses_a_file_with_a_wrong_hash(wheel: Path, other_wheel: Path) -> None:
    ran = install(wheel, {"pinned-thing": NO_HASH, "other-thing": sha256(other_wheel)})
    assert ran.returncode != 0
    assert "DO NOT MATCH THE HASHES" in ran.stderr


def test_pip_refuses_a_dependency_with_a_wrong_hash(wheel: Path, other_wheel: Path) -> None:
    ran = install(wheel, {"pinned-thing": sha256(wheel), "other-thing": NO_HASH})
    assert ran.returncode != 0
    assert "DO NOT MATCH THE HASHES" in ran.stderr


def test_pip_refuses_an_unpinned_dependency(wheel: Path, other_wheel: Path) -> None:
    ran = install(wheel, {"pinned-thing": sha256(wheel)})
    assert ran.returncode != 0
    assert "must have their versions pinned" in ran.stderr


def install(wheel: Path, hashes: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Install the distribution in `wheel` as `make` does, with constraints of these hashes."""
    constraints = wheel.parent / "constraints.txt"
    constraints.write_text(
        "".join(f"{name}==1.0 --hash=sha256:{digest}\n" for name, digest in hashes.items())
    )
    options = ["--isolated", "--dry-run", "--no-index", "--find-links", str(wheel.parent)]
    command = [sys.executable, "-m", "pip", "install", *options, "-c", str(constraints)]
    return subprocess.run(
        [*command, "pinned-thing>=1,<2"], capture_output=True, text=True, check=False
    )


def make_wheel(folder: Path, name: str, requires: str | None = None) -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    if requires:
        metadata += f"Requires-Dist: {requires}\n"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", tags)
        archive.writestr(f"{info}/RECORD", "")
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
