"""Tests of the structure: no import circle, layers inside each package, small folders.

All imports count, including those inside a function or under `TYPE_CHECKING`.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("protocol", "service", "worker", "models", "training", "darkroom", "bench")
MAX_MODULES = 24  # in one folder

# Package -> its layers from the lowest to the highest. A subpackage imports its own modules and
# those of lower layers. "." stands for the modules of the package's root not named elsewhere.
LAYERS = {
    "protocol": (
        {"__init__", "record", "errors", "observing", "folder"},
        {"connection"},
        {"request"},
        {"settings"},
        {"storage", "telemetry"},
        {"queue"},
        {"auth", "registry"},
    ),
    "service": (
        {"__init__", "settings", "page_files"},
        {"telemetry", "auth", "schemas"},
        {"middleware"},
        {"images"},
        {"jobs"},
        {"routes"},
        {"."},
    ),
    "worker": (
        {"__init__", "settings", "interfaces", "periodic_runner"},
        {"telemetry", "engine", "model_info"},
        {"model_manager", "output"},
        {"consumer"},
        {"."},
    ),
    "models": (
        {"__init__"},
        {"checkpoints"},
        {"networks", "text", "samplers"},
        {"denoising", "autoencoders", "sound"},
        {"executors", "conditioners"},
        {"."},
        {"lora", "cuda"},
        {"loading", "tuning"},
    ),
    "darkroom": (
        {"__init__", "addresses", "client", "display", "signals"},
        {"processes"},
        {"commands"},
        {"."},
    ),
    "bench": ({"__init__", "common"}, {"engine", "serving", "docs", "full_size"}, {"simulation"}),
}
# Imports between subpackages of one layer.
SAME_LAYER = {("models/tuning", "models/cuda")}


def module_name(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


MODULES = {
    module_name(file): file
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    for file in [path.relative_to(ROOT).as_posix()]
}


def imported(file: str) -> Iterator[str]:
    """Yield the files of this project that `file` imports."""
    for node in ast.walk(ast.parse((ROOT / file).read_text("utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            module = node.module
            for alias in node.names:
                full = f"{module}.{alias.name}"
                names.append(full if full in MODULES else module)
        yield from (MODULES[name] for name in names if name in MODULES)


GRAPH = {file: sorted(set(imported(file)) - {file}) for file in MODULES.values()}


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
    assert circles(GRAPH) == []


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
    for file, targets in GRAPH.items():
        for target in targets:
            if not (file.startswith(f"{package}/") and target.startswith(f"{package}/")):
                continue
            (_, part), (_, below) = place(file), place(target)
            same_layer = (f"{package}/{part}", f"{package}/{below}") in SAME_LAYER
            root_modules = part == below or (level(package, part) == level(package, below) == 0)
            if root_modules or same_layer or level(package, below) < level(package, part):
                continue
            wrong.append(f"{file} imports {target}")
    assert wrong == []


def test_folders_are_small() -> None:
    sizes = Counter(str(Path(file).parent) for file in MODULES.values())
    assert {folder: size for folder, size in sizes.items() if size > MAX_MODULES} == {}
