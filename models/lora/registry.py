"""The installed LoRAs: files in a folder, which may be absent.

    folder/<name>.safetensors

A requested name is looked up among the names in the folder; it is never used as a path.
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
from models.lora.reading import LoRA, check_lora, read_lora

log = logging.getLogger(__name__)

SUFFIX = ".safetensors"
MAX_CACHED = 10_000  # results of header checks, one for each file and model


@dataclass(frozen=True)
class LoraFile:
    """A file at one time; a file that was replaced is another."""

    path: Path
    size: int
    changed_ns: int

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(SUFFIX)


class LoraRegistry:
    """LoRAs by name. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._checked: OrderedDict[tuple[LoraFile, int], str | None] = OrderedDict()

    def files(self) -> dict[str, LoraFile]:
        """Return the present files by name, sorted."""
        found: dict[str, LoraFile] = {}
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if entry.name.endswith(SUFFIX) and entry.is_file():
                        stat = entry.stat()
                        file = LoraFile(Path(entry.path), stat.st_size, stat.st_mtime_ns)
                        found[file.name] = file
        except FileNotFoundError:
            return {}
        return dict(sorted(found.items()))

    def misfits(self, layers: Layers) -> dict[str, str | None]:
        """Return, by name, the reason a file does not fit these layers, or None if it fits.

        Only headers are read, once for each file and model.
        """
        return {name: self._misfit(file, layers) for name, file in self.files().items()}

    def fitting(self, layers: Layers) -> tuple[str, ...]:
        """Return the names of those that fit these layers."""
        return tuple(name for name, reason in self.misfits(layers).items() if reason is None)

    def get(self, name: str, layers: Layers) -> LoRA:
        """Return the LoRA `name`, read for these layers. Raises LoraError."""
        file = self.files().get(name)
        if file is None:
            raise LoraError(f"no LoRA is called {name!r}")
        return read_lora(file.path, layers)

    def _misfit(self, file: LoraFile, layers: Layers) -> str | None:
        key = file, layers.digest
        with self._lock:
            if key in self._checked:
                self._checked.move_to_end(key)
                return self._checked[key]
        try:
            check_lora(file.path, layers)
            reason = None
        except LoraError as error:
            reason = str(error)
            log.info("not offered: %s", reason)
        with self._lock:
            self._checked[key] = reason
            while len(self._checked) > MAX_CACHED:
                self._checked.popitem(last=False)
        return reason
