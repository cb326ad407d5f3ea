"""The LoRAs that the operator has added: files in a folder, which may be absent.

    folder/<name>.safetensors

Names come from the folder, never from a request: what is not there by name is not there.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from models.lora.errors import LoraError
from models.lora.layers import Layers
from models.lora.reading import LoRA, check, read

log = logging.getLogger(__name__)

SUFFIX = ".safetensors"
MOST_REMEMBERED = 10_000  # files whose headers were looked at, times the models they may fit


@dataclass(frozen=True)
class LoraFile:
    """One file as it is at a moment; one that was written anew is another."""

    path: Path
    size: int
    changed_ns: int

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(SUFFIX)


class LoraRegistry:
    """LoRAs by name. May be used from several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[LoraFile, int], str | None] = OrderedDict()

    def files(self) -> dict[str, LoraFile]:
        """What is there now, by name and in its order."""
        found: dict[str, LoraFile] = {}
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if entry.name.endswith(SUFFIX) and entry.is_file():
                        told = entry.stat()
                        file = LoraFile(Path(entry.path), told.st_size, told.st_mtime_ns)
                        found[file.name] = file
        except FileNotFoundError:
            return {}
        return dict(sorted(found.items()))

    def misfits(self, layers: Layers) -> dict[str, str | None]:
        """Each by name, with the reason why it does not fit these layers; None where it does.

        Only headers are read, and of each file once for the same layers.
        """
        return {name: self._misfit(file, layers) for name, file in self.files().items()}

    def fitting(self, layers: Layers) -> tuple[str, ...]:
        """The names of those that fit."""
        return tuple(name for name, why_not in self.misfits(layers).items() if why_not is None)

    def get(self, name: str, layers: Layers) -> LoRA:
        """The LoRA of that name, read for these layers. Raises LoraError."""
        file = self.files().get(name)
        if file is None:
            raise LoraError(f"no LoRA is called {name!r}")
        return read(file.path, layers)

    def _misfit(self, file: LoraFile, layers: Layers) -> str | None:
        key = file, layers.digest
        with self._lock:
            if key in self._seen:
                self._seen.move_to_end(key)
                return self._seen[key]
        try:
            check(file.path, layers)
            why_not = None
        except LoraError as error:
            why_not = str(error)
            log.info("not offered: %s", why_not)
        with self._lock:
            self._seen[key] = why_not
            while len(self._seen) > MOST_REMEMBERED:
                self._seen.popitem(last=False)
        return why_not
