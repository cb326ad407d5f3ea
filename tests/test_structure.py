"""Tests of the structure: no import circle, layers inside each package, small folders.

All imports count, including those inside a function or under `TYPE_CHECKING`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.imports import ROOT, imports_of

PACKAGES = (
    *("protocol", "service", "worker", "models", "training"),
    *("clients/python", "darkroom", "bench"),
)
MAX_MODULES = 24  # in one folder

# Package -> its layers from the lowest to the highest. A subpackage imports its own modules and
# those of lower layers. "." stands for the modules of the package's root not named elsewhere.
LAYERS = {
    "protocol": (
        {"__init__", "record", "errors", "observing", "folder"},
        {"connection"},
        {"request"},
        {"recipes"},
        {"setting_types"},
        {"settings"},
        {"startup", "variables"},
        {"listening"},
        {"storage", "telemetry"},
        {"queue"},
        {"auth", "registry", "clients"},
    ),
    "service": (
        {"__init__", "settings", "page_files", "network_addresses", "origins", "etags", "outbound"},
        {"telemetry", "auth", "schemas"},
        {"middleware"},
        {"images"},
        {"recipes"},
        {"jobs"},
        {"webhooks"},
        {"routes"},
        {"dialects"},
        {"."},
    ),
    "worker": (
        {"__init__", "settings", "interfaces", "periodic_runner"},
        {"telemetry", "engine", "model_info"},
        {"model_manager", "output"},
        {"consumer", "installs"},
        {"."},
    ),
    "models": (
        {"__init__"},
        {"checkpoints"},
        {"networks", "text", "samplers"},
        {"denoising", "autoencoders", "sound", "upscalers"},
        {"executors", "conditioners"},
        {"."},
        {"lora", "cuda"},
        {"loading", "tuning"},
    ),
    "darkroom": (
        {
            *("__init__", "addresses", "arguments", "client", "display"),
            *("development_certificate", "lasting_imports", "signals", "terminal"),
        },
        {"processes"},
        {"commands"},
        {"."},
    ),
    "bench": (
        {"__init__", "common"},
        {"engine", "serving", "docs", "full_size"},
        {"simulation"},
        {"."},
    ),
}


def module_name(file: str) -> str:
    file = file.removeprefix("clients/python/")
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


MODULES = {
    module_name(file): file
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    for file in [path.relative_to(ROOT).as_posix()]
}


def imported_files(package: str) -> Iterator[tuple[str, str]]:
    """Yield (file, the file of ours that it imports) for every import in `package`."""
    for found in imports_of(package):
        target = MODULES.get(f"{found.module}.{found.name}") or MODULES.get(found.module)
        if target is not None and target != found.file:
            yield found.file, target


@cache
def import_graph() -> dict[str, list[str]]:
    """Return the files of ours that each file imports."""
    graph: dict[str, list[str]] = {file: [] for file in MODULES.values()}
    for package in PACKAGES:
        for file, target in sorted(set(imported_files(package))):
            graph[file].append(target)
    return graph


def circles(graph: dict[str, list[str]]) -> list[list[str]]:
    """Return every circle of imports as a list of files."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(file: str, path: list[str]) -> None:
        if file in path:
            found.append([*path[path.index(file) :], file])
        elif file not in done:
            for target in graph[file]:
                visit(target, [*path, file])
            done.add(file)

    for file in graph:
        visit(file, [])
    return found


def test_imports_make_no_circle() -> None:
    assert circles(import_graph()) == []


def test_circle_is_detected() -> None:
    assert circles({"a": ["b"], "b": ["c"], "c": ["b"]}) == [["b", "c", "b"]]


def place(file: str) -> tuple[str, str]:
    """Return the package of `file`, and its subpackage or module of the root."""
    package, *inside = file.removesuffix(".py").split("/")
    part = inside[0]
    if len(inside) == 1 and not any(part in layer for layer in LAYERS[package]):
        part = "."
    return package, part


def level(package: str, part: str) -> int:
    return next(i for i, layer in enumerate(LAYERS[package]) if part in layer)


@pytest.mark.parametrize("package", LAYERS)
def test_every_subpackage_has_a_layer(package: str) -> None:
    folders = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    assert folders <= set().union(*LAYERS[package])


@pytest.mark.parametrize("package", LAYERS)
def test_subpackages_import_lower_layers_only(package: str) -> None:
    wrong = []
    for file, targets in import_graph().items():
        for target in targets:
            if not (file.startswith(f"{package}/") and target.startswith(f"{package}/")):
                continue
            (_, part), (_, below) = place(file), place(target)
            root_modules = part == below or (level(package, part) == level(package, below) == 0)
            if root_modules or level(package, below) < level(package, part):
                continue
            wrong.append(f"{file} imports {target}")
    assert wrong == []


def test_folders_are_small() -> None:
    sizes = Counter(str(Path(file).parent) for file in MODULES.values())
    assert {folder: size for folder, size in sizes.items() if size > MAX_MODULES} == {}
