"""Another first stage in place of a model's own, as `stabilityai/sdxl-vae` for any SDXL, or a tiny
one beside it, as `madebyollin/taesd` for Stable Diffusion 1.x; and where other networks are."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from models.checkpoint import CheckpointMissing
from models.executors.eager import eager_executors
from models.first_stages import load_alike
from models.formats.hub import Download, fetch_part
from models.formats.single_file import is_single_file, laid_out
from models.pipeline import LatentDiffusion


def first_stage_of(path_or_id: str, *, half: bool) -> Path:
    """The folder of a first stage given as such a folder, a whole model's, a single safetensors
    file of either, or a hub id.

    `half` prefers a hub's rendering in half precision. Raises CheckpointMissing.
    """
    return network_of(path_or_id, "vae", partial(fetch_part, half=half))


def network_of(path_or_id: str, part: str, download: Download) -> Path:
    """Likewise of the network that models have in their folder `part`; `download` brings a hub id's
    files."""
    folder = Path(path_or_id).expanduser()
    if is_single_file(folder):
        folder = laid_out(folder)
    if not folder.is_dir():
        if path_or_id.count("/") != 1 or path_or_id.startswith((".", "/", "~")):
            raise CheckpointMissing(
                f"the {part} {path_or_id!r} is neither a folder nor a hub id (owner/name)"
            )
        folder = download(path_or_id)
    return folder / part if (folder / part).is_dir() else folder


def with_first_stage(model: LatentDiffusion, folder: Path) -> LatentDiffusion:
    """The same model, not yet prepared by any executor, with the first stage of `folder`.

    Raises CheckpointError if its latents are of another shape.
    """
    stage = load_alike(folder, model.autoencoder, model.dtype, model.device)
    return replace(model, autoencoder=stage, executors=eager_executors(model.unet, stage))


def with_tiny(model: LatentDiffusion, folder: Path) -> LatentDiffusion:
    """The same model, with the tiny autoencoder of `folder` beside its own. Raises likewise."""
    return replace(model, tiny=load_alike(folder, model.autoencoder, model.dtype, model.device))
