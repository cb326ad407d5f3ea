"""The LoRAs that can be used: the installed ones, and those that come with a model.

    folder/<name>.safetensors         installed, for every model that it fits
    model/loras/<name>.safetensors    in the folder of a model, for this one alone

Each may have a card, `<name>.json` beside it. Both folders may be absent; an installed LoRA takes
the place of a model's own of the same name. A requested name is looked up among the names in the
folders; it is never used as a path.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from models.checkpoints.names import by_name, normal_form
from models.lora.errors import LoraError
from models.lora.facts import LoraFacts, facts_of
from models.lora.layers import Layers
from models.lora.reading import LoRA, check_lora, read_lora
from models.lora.recommended import CARD_SUFFIX

log = logging.getLogger(__name__)

SUFFIX = ".safetensors"
OWN_FOLDER = "loras"  # in the folder of a model
MAX_CACHED = 10_000  # results of header checks, one for each file and model


@dataclass(frozen=True)
class LoraFile:
    """A file at one time; a file that was replaced is another."""

    path: Path
    size: int
    changed_ns: int

    @property
    def name(self) -> str:
        return normal_form(self.path.name.removesuffix(SUFFIX))


class LoraRegistry:
    """LoRAs by name. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._checked: OrderedDict[tuple[LoraFile, int], str | None] = OrderedDict()
        self._facts: OrderedDict[tuple[LoraFile, LoraFile | None], LoraFacts] = OrderedDict()

    def files(self, model: Path | None = None) -> dict[str, LoraFile]:
        """Return the present files by name, sorted; with those in the folder of a `model`."""
        installed = _files_in(self._folder)
        if model is None:
            return installed
        return dict(sorted({**_files_in(model / OWN_FOLDER), **installed}.items()))

    def misfits(self, layers: Layers) -> dict[str, str | None]:
        """Return, by name, the reason a file does not fit these layers, or None if it fits.

        Only headers are read, once for each file and model.
        """
        files = self.files(layers.folder)
        return {name: self._misfit(file, layers) for name, file in files.items()}

    def fitting(self, layers: Layers) -> tuple[str, ...]:
        """Return the names of those that fit these layers."""
        return tuple(name for name, reason in self.misfits(layers).items() if reason is None)

    def facts(self, names: Collection[str], model: Path | None = None) -> dict[str, LoraFacts]:
        """Return what those of these files that are present say about their use, by name.

        Each header is read once. `model`: the folder of a model with LoRAs of its own.
        """
        files = self.files(model)
        return {name: self._facts_of(files[name]) for name in names if name in files}

    def _facts_of(self, file: LoraFile) -> LoraFacts:
        key = file, _present(file.path.with_suffix(CARD_SUFFIX))
        with self._lock:
            if key not in self._facts:
                self._facts[key] = facts_of(file.path, file.name)
                while len(self._facts) > MAX_CACHED:
                    self._facts.popitem(last=False)
            return self._facts[key]

    def get(self, name: str, layers: Layers) -> LoRA:
        """Return the LoRA `name`, read for these layers. Raises LoraError."""
        file = self.files(layers.folder).get(name)
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
            reason = error.reason
            log.info("not offered", extra={"lora": file.name, "reason": reason})
        except Exception as error:  # of any kind: the others are still offered
            reason = f"{type(error).__name__}: {error}"
            log.exception("not offered", extra={"lora": file.name})
        with self._lock:
            self._checked[key] = reason
            while len(self._checked) > MAX_CACHED:
                self._checked.popitem(last=False)
        return reason


def _files_in(folder: Path) -> dict[str, LoraFile]:
    """Return the files in a folder by name, sorted."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(SUFFIX)]
    except FileNotFoundError:
        return {}
    except OSError as error:
        log.warning("%s cannot be read: %s", folder, error.strerror)
        return {}
    files = ((name, _present(folder / name)) for name in names)
    return by_name((name.removesuffix(SUFFIX), file) for name, file in files if file is not None)


def _present(path: Path) -> LoraFile | None:
    """Return a file as it is now; None for a folder, or a link that leads nowhere."""
    try:
        stat = path.stat()
    except OSError:
        return None
    if not S_ISREG(stat.st_mode):
        return None
    return LoraFile(path, stat.st_size, stat.st_mtime_ns)
