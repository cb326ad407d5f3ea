"""The import statements of a folder, read from the source of every module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Import:
    """One imported name: `file` relative to the repository.

    `module` is imported, or `name` from it, which may be a module too. `when_called`: inside a
    function.
    """

    file: str
    line: int
    module: str
    name: str | None
    when_called: bool

    @property
    def package(self) -> str:
        """Return the first part of the module's name."""
        return self.module.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.package}"


@cache
def imports_of(folder: str) -> tuple[Import, ...]:
    """Return every import below `folder`, which is read once."""
    found: list[Import] = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        found += _imports(tree, path.relative_to(ROOT).as_posix(), False)
    return tuple(found)


def _imports(node: ast.AST, file: str, when_called: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        inside = when_called or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(file, child.lineno, alias.name, None, when_called)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{file}:{child.lineno} is a relative import"
            for alias in child.names:
                yield Import(file, child.lineno, str(child.module), alias.name, when_called)
        yield from _imports(child, file, inside)
