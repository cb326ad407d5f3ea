"""Networks that replace a model's own, or are added to it.

A first stage such as `stabilityai/sdxl-vae` replaces that of any SDXL; a tiny autoencoder such as
`madebyollin/taesd` is added to Stable Diffusion 1.x.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from models.autoencoders.registry import load_compatible
from models.checkpoints.checkpoint import CheckpointMissing
from models.checkpoints.detect.single_file import is_single_file, single_file_folder
from models.checkpoints.files import os_errors_of, user_path
from models.checkpoints.hub import Download, is_hub_id
from models.pipeline import LatentDiffusion


def resolve_network(path_or_id: str, component: str, download: Download) -> Path:
    """Return the folder with the config.json of a network.

    path_or_id: a folder, a single file, a model's folder with the folder `component` in it, or a
    hub id. download: fetches the files of a hub id.

    Raises CheckpointMissing.
    """
    with os_errors_of(path_or_id):
        folder = user_path(path_or_id)
        if is_single_file(folder):
            folder = single_file_folder(folder)
        present = folder.is_dir()
    if not present:
        if not is_hub_id(path_or_id):
            raise CheckpointMissing(
                f"the {component} {path_or_id!r} is neither a folder nor a hub id (owner/name)"
            )
        folder = download(path_or_id)
    return folder / component if (folder / component).is_dir() else folder


def with_tiny(model: LatentDiffusion, folder: Path) -> LatentDiffusion:
    """Return the model with the tiny autoencoder of `folder` in addition to its own.

    Raises CheckpointError if its latents have another shape.
    """
    return replace(
        model, tiny=load_compatible(folder, model.autoencoder.config, model.dtype, model.device)
    )
