"""Another first stage in place of a model's own, as `stabilityai/sdxl-vae` for any SDXL, or a tiny
one beside it, as `madebyollin/taesd` for Stable Diffusion 1.x; and where other networks are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from models.autoencoders.registry import load_compatible
from models.checkpoints.checkpoint import CheckpointMissing
from models.checkpoints.detect.single_file import is_single_file, laid_out
from models.checkpoints.hub import Download, is_hub_id
from models.executors.eager import eager_executors
from models.pipeline import LatentDiffusion


def network_of(path_or_id: str, part: str, download: Download) -> Path:
    """The folder with the config.json of a network given as a folder, a single file, a model, in
    whose folder `part` it is then, or a hub id, whose files `download` brings.

    Raises CheckpointMissing.
    """
    folder = Path(path_or_id).expanduser()
    if is_single_file(folder):
        folder = laid_out(folder)
    if not folder.is_dir():
        if not is_hub_id(path_or_id):
            raise CheckpointMissing(
                f"the {part} {path_or_id!r} is neither a folder nor a hub id (owner/name)"
            )
        folder = download(path_or_id)
    return folder / part if (folder / part).is_dir() else folder


def with_first_stage(model: LatentDiffusion, folder: Path) -> LatentDiffusion:
    """The same model, not yet prepared by any executor, with the first stage of `folder`.

    Raises CheckpointError if its latents are of another shape.
    """
    stage = load_compatible(folder, model.autoencoder, model.dtype, model.device)
    return replace(model, autoencoder=stage, executors=eager_executors(model.unet, stage))


def with_tiny(model: LatentDiffusion, folder: Path) -> LatentDiffusion:
    """The same model, with the tiny autoencoder of `folder` beside its own. Raises likewise."""
    return replace(
        model, tiny=load_compatible(folder, model.autoencoder, model.dtype, model.device)
    )
