"""Where a model that an operator names is: a folder, a file, a hub id, or what was added before."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from models.checkpoints.checkpoint import resolve
from models.checkpoints.hub import Download, fetch_configs
from models.loading.replacements import resolve_network
from worker.settings import WorkerSettings


def locate(source: str, added: Path, base: Path = Path()) -> str:
    """`source` as `models.loading.loader.load_model` takes it.

    A name without a slash is first looked for in `added`, the folder of what was added of that
    kind; paths are taken from `base`. Whatever is no path that exists is left as it is: a hub id.
    """
    if "/" not in source and (added / source).is_dir():
        return str(added / source)
    path = base / Path(source).expanduser()
    return str(path) if path.exists() or source.startswith((".", "/", "~")) else source


def network_folder(
    source: str, part: Literal["vae", "unet"], settings: WorkerSettings, download: Download
) -> Path:
    """Where the network `source` is, which a declaration puts in place of a model's own.

    Among those that were added, at a path taken from the catalogue's folder, or on the hub, from
    where `download` brings it.
    """
    base = settings.catalogue.resolve().parent if settings.catalogue else Path()
    return resolve_network(locate(source, settings.models_home / f"{part}s", base), part, download)


def without_weights(source: str) -> Path:
    """The folder of a model with its small files; weights are there only if they were before."""
    return resolve(source, fetch_configs)
