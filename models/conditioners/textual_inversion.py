"""Textual inversion embeddings (Gal et al. 2022): vectors that a text encoder reads like words.

An embedding is a file that an operator adds, and has the file's name: `<name>.safetensors` holds
one vector or several in a row, in one of the published forms

    {"emb_params": (N, D)}                 AUTOMATIC1111's web interface
    {"<any token>": (D,) or (N, D)}        diffusers
    {"clip_l": (N, D), "clip_g": (N, E)}   SDXL: for either text encoder, or for the refiner's one
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.checkpoints.checkpoint import CheckpointError
from models.conditioners import Conditioner
from models.conditioners.clip import ClipConditioner, TextStage
from models.conditioners.embedding_cache import EmbeddingCache
from models.networks.sharing import with_weights

logger = logging.getLogger(__name__)

MAX_VECTORS = 75  # of an embedding: a row of tokens has room for no more

_EMBEDDING = "text_model.embeddings.token_embedding.weight"
Vectors = tuple[Tensor, ...]  # (N, width) for each text encoder


def with_embeddings(conditioner: Conditioner, folder: Path) -> Conditioner:
    """Return the conditioner with every embedding of `folder` that fits its text encoders.

    Others are skipped, with the reason in the log. `folder` may be absent.
    """
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if not files or not isinstance(conditioner, ClipConditioner):
        return conditioner
    embeddings: dict[str, Vectors] = {}
    for file in files:
        try:
            embeddings[file.stem] = read_embedding(file, conditioner)
        except CheckpointError as error:
            _log_skipped(file.stem, str(error))
    embeddings = _without_conflicts(embeddings, conditioner.stages)
    if not embeddings:
        return conditioner
    stages = tuple(_extended(stage, i, embeddings) for i, stage in enumerate(conditioner.stages))
    return replace(
        conditioner,
        stages=stages,
        embedding_names=tuple(embeddings),
        embeddings=EmbeddingCache(),
    )


def read_embedding(file: Path, conditioner: ClipConditioner) -> Vectors:
    """Return the vectors of `file` for each text encoder.

    Raises CheckpointError if they do not fit.
    """
    try:
        with safe_open(file, framework="pt") as tensors:
            names = tensors.keys()
            shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in names}
            keys = _keys(file, shapes, conditioner)
            for key, stage in zip(keys, conditioner.stages, strict=True):
                _check(file, key, shapes[key], stage.encoder.config.hidden_size)
            vectors = tuple(torch.atleast_2d(tensors.get_tensor(key)) for key in keys)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file.name} is no safetensors file: {error}") from error
    if len({len(each) for each in vectors}) > 1:
        raise CheckpointError(f"{file.name} has more vectors for one text encoder than the other")
    for each in vectors:
        if not each.is_floating_point() or not each.isfinite().all():
            raise CheckpointError(f"{file.name} contains values that are no finite numbers")
    return vectors


def _keys(
    file: Path, shapes: Mapping[str, tuple[int, ...]], conditioner: ClipConditioner
) -> list[str]:
    """Return the tensor's key for each text encoder."""
    of_sdxl = shapes.keys() == {"clip_l", "clip_g"}
    if of_sdxl != conditioner.sdxl:
        is_for, has = ("SDXL", "is not") if of_sdxl else ("one text encoder", "is SDXL")
        raise CheckpointError(f"{file.name} is for {is_for}, and this model {has}")
    if of_sdxl:
        return ["clip_l", "clip_g"][-len(conditioner.stages) :]
    if "emb_params" in shapes:
        return ["emb_params"]
    if len(shapes) != 1:
        raise CheckpointError(f"{file.name} holds {len(shapes)} tensors, and none is emb_params")
    return list(shapes)


def _check(file: Path, key: str, shape: tuple[int, ...], width: int) -> None:
    if len(shape) not in (1, 2) or shape[-1] != width:
        raise CheckpointError(f"{file.name}: {key} is {shape}, but must be (N, {width})")
    if len(shape) == 2 and not 1 <= shape[0] <= MAX_VECTORS:
        bound = f"at least 1 and at most {MAX_VECTORS}"
        raise CheckpointError(f"{file.name}: {key} holds {shape[0]} vectors, not {bound}")


def _without_conflicts(
    embeddings: Mapping[str, Vectors], stages: Sequence[TextStage]
) -> dict[str, Vectors]:
    counts = {name: len(vectors[0]) for name, vectors in embeddings.items()}
    conflicts: dict[str, str] = {}
    for stage in stages:
        conflicts |= stage.tokenizer.conflicts(counts)
    for name, token in conflicts.items():
        _log_skipped(name, f"the model already has {token!r}: give it another name")
    return {name: vectors for name, vectors in embeddings.items() if name not in conflicts}


def _extended(stage: TextStage, index: int, embeddings: Mapping[str, Vectors]) -> TextStage:
    """Return the stage with its own rows of `embeddings`, in their order."""
    vectors = [each[index] for each in embeddings.values()]
    known = stage.encoder.get_parameter(_EMBEDDING)
    more = torch.cat(vectors).to(known.device, known.dtype)
    return TextStage(
        stage.tokenizer.with_tokens({name: len(each[index]) for name, each in embeddings.items()}),
        with_weights(stage.encoder, {_EMBEDDING: torch.cat([known, more])}),
    )


def _log_skipped(name: str, reason: str) -> None:
    logger.warning("embedding skipped", extra={"embedding": name, "reason": reason})
