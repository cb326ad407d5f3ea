"""Location of a configured model: a folder, a file, a hub id, or an installed model."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from models.checkpoints.checkpoint import resolve
from models.checkpoints.files import os_errors_of, user_path
from models.checkpoints.hub import Download, fetch_configs
from models.checkpoints.names import normal_form
from models.loading.replacements import resolve_network
from worker.settings import WorkerSettings


def locate(source: str, installed: Path, base: Path = Path()) -> str:
    """Return `source` in a form that `models.loading.loader.load_model` accepts.

    A name without a slash is first searched in `installed`, the model store's folder of that kind.
    Relative paths start at `base`. A source that is no existing path is returned unchanged: it is
    a hub id.

    Raises CheckpointMissing for one that cannot be looked up.
    """
    with os_errors_of(source):
        if "/" not in source and (added := installed / normal_form(source)).is_dir():
            return str(added)
        path = base / user_path(source)
        return str(path) if path.exists() or source.startswith((".", "/", "~")) else source


def network_folder(
    source: str, part: Literal["vae", "unet"], settings: WorkerSettings, download: Download
) -> Path:
    """Return the folder of the network `source`, which the models config puts in place of a
    model's own.

    It is installed, or at a path relative to the models config, or on the hub, from which
    `download` fetches it.
    """
    base = settings.catalogue.resolve().parent if settings.catalogue else Path()
    return resolve_network(locate(source, settings.models_home / f"{part}s", base), part, download)


def without_weights(source: str) -> Path:
    """Return the folder of a model after fetching its small files only."""
    return resolve(source, fetch_configs)
