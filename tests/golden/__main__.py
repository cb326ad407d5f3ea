"""Record the golden images, or compare every pixel of them.

python -m tests.golden record FOLDER
python -m tests.golden check FOLDER    # exit status 1 if any image differs
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.golden.comparison import difference, metadata
from tests.golden.requests import generate_all
from tests.golden.service import running_service


def main() -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("command", choices=("record", "check"))
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    return {"record": record, "check": check}[given.command](given.folder)


def record(folder: Path) -> int:
    """Write every image into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with running_service() as client:
        for name, file in generate_all(client):
            (folder / name).write_bytes(file)
            print(f"{name}: {len(file)} bytes", flush=True)
    return 0


def check(folder: Path) -> int:
    """Compare every image with the one in `folder`, a line each."""
    different = count = 0
    with running_service() as client:
        for name, file in generate_all(client):
            line = verdict((folder / name).read_bytes(), file)
            print(f"{name}: {line}", flush=True)
            count += 1
            different += line != "identical"
    print(f"{count - different} of {count} images are identical")
    return int(different > 0)


def verdict(expected: bytes, file: bytes) -> str:
    """Return "identical" if no pixel and no metadata differ, else the differences in words."""
    apart = difference(expected, file)
    same_texts = metadata(expected) == metadata(file)
    if apart.largest == 0 and same_texts:
        return "identical"
    texts = "" if same_texts else ", metadata differ"
    return f"differs, largest {apart.largest:g}, mean {apart.mean:.4g} levels{texts}"


if __name__ == "__main__":
    sys.exit(main())
