"""Where a model that an operator names is: a folder, a file, a hub id, or what was added before."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from models.checkpoint import resolve
from models.formats.hub import Download, fetch_part, fetch_small
from models.replacing import network_of
from protocol.declarations import Declared
from worker.settings import WorkerSettings


def locate(source: str, added: Path, base: Path = Path()) -> str:
    """`source` as `models.loading.load_model` takes it.

    A name without a slash is first looked for in `added`, the folder of what was added of that
    kind; paths are taken from `base`. Whatever is no path that exists is left as it is: a hub id.
    """
    if "/" not in source and (added / source).is_dir():
        return str(added / source)
    path = base / Path(source).expanduser()
    return str(path) if path.exists() or source.startswith((".", "/", "~")) else source


def first_stage_folder(source: str, settings: WorkerSettings, *, half: bool) -> Path:
    """Where the first stage `source` of a declaration is: among the VAEs that were added, at a path
    taken from the catalogue's folder, or fetched from the hub."""
    place = locate(source, settings.models_home / "vaes", _base(settings))
    return network_of(place, "vae", partial(fetch_part, half=half))


def unet_folder(declared: Declared, settings: WorkerSettings, download: Download) -> Path | None:
    """Likewise of the UNet that a declaration puts in place of the model's own, if it does."""
    if declared.unet is None:
        return None
    place = locate(declared.unet, settings.models_home / "unets", _base(settings))
    return network_of(place, "unet", download)


def _base(settings: WorkerSettings) -> Path:
    return settings.catalogue.resolve().parent if settings.catalogue else Path()


def without_weights(source: str) -> Path:
    """The folder of a model with its small files; weights are there only if they were before."""
    return resolve(source, fetch_small)
