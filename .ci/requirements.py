"""Print the base requirements of pyproject.toml and those of the given extras.

    python .ci/requirements.py worker training > requirements.txt

pip checks hashes only if every requirement has one, and a folder (`-e .`) has none. So the
requirements are installed from this list with the constraints, and then the project without
dependencies.
"""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
OWN_EXTRAS = re.compile(r"darkroom\[(?P<extras>[^]]+)\]")


def requirements(extras: list[str]) -> list[str]:
    """Return the requirement lines for `extras`; extras that name other extras are resolved."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    lines: dict[str, None] = dict.fromkeys(project["dependencies"])
    pending = list(extras)
    while pending:
        for line in project["optional-dependencies"][pending.pop(0)]:
            if own := OWN_EXTRAS.fullmatch(line):
                pending += own["extras"].split(",")
            else:
                lines[line] = None
    return list(lines)


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1:])))
