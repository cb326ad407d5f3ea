"""Hashes of the single files that models are read from, for AUTOMATIC1111's clients.

Large files take seconds to read, so a thread hashes them while the worker serves; until then a
model has no hash.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from models.checkpoints.detect.single_file import is_single_file
from models.checkpoints.file_hash import keep_hash, kept_hash, sha256_of
from models.checkpoints.files import user_path
from worker.model_info.model_description import ModelDescription

logger = logging.getLogger(__name__)


class CheckpointHashes:
    """The hashes by the folder of a model.

    `of` and `compute` are called by one thread at a time.
    """

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}
        self._wanted: dict[Path, Path] = {}  # the file of a folder
        self._thread: threading.Thread | None = None

    def of(self, model: ModelDescription) -> str:
        """Return the hash of a model's file; "" while it is not known, for a folder, and for a
        model whose UNet is another's."""
        folder = model.skeleton.folder
        if model.config.unet is not None:
            return ""
        if folder not in self._known:
            file = user_path(model.source)
            if (kept := kept_hash(folder)) is not None:
                self._known[folder] = kept
            elif is_single_file(file):
                self._wanted[folder] = file
        return self._known.get(folder, "")

    def compute(self) -> None:
        """Hash the files that are wanted, in a thread, unless it is at work already."""
        if self._thread is not None and self._thread.is_alive():
            return
        wanted, self._wanted = self._wanted, {}
        wanted = {folder: file for folder, file in wanted.items() if folder not in self._known}
        if wanted:
            self._thread = threading.Thread(
                target=self._hash_all, args=(wanted,), name="checkpoint hashes", daemon=True
            )
            self._thread.start()

    def wait(self) -> None:
        """Wait until the files are hashed."""
        if self._thread is not None:
            self._thread.join()

    def _hash_all(self, files: dict[Path, Path]) -> None:
        for folder, file in files.items():
            try:
                digest = sha256_of(file)
            except OSError as error:
                logger.warning("cannot be hashed", extra={"file": file.name, "error": str(error)})
                digest = ""  # it is not tried again
            else:
                keep_hash(folder, digest)
            self._known[folder] = digest
