"""Words learned by textual inversion (Gal et al. 2022): vectors that a text encoder reads as words.

A word is a file of an operator's, and goes by its name: `<name>.safetensors` holds one vector or
several in a row, in one of the published forms

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
from models.networks.sharing import twin

logger = logging.getLogger(__name__)

MOST_VECTORS = 75  # of a word: more than a row of tokens holds is no word

_EMBEDDING = "text_model.embeddings.token_embedding.weight"
Vectors = tuple[Tensor, ...]  # (N, width) for each text encoder


def with_learned_words(conditioner: Conditioner, folder: Path) -> Conditioner:
    """The conditioner with every word of `folder` that fits its text encoders.

    What does not fit is left out, with a line in the log that says why. `folder` may be absent.
    """
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if not files or not isinstance(conditioner, ClipConditioner):
        return conditioner
    words: dict[str, Vectors] = {}
    for file in files:
        try:
            words[file.stem] = read_word(file, conditioner)
        except CheckpointError as error:
            _left_out(file.stem, str(error))
    words = _without_clashes(words, conditioner.stages)
    if not words:
        return conditioner
    stages = tuple(_learned(stage, i, words) for i, stage in enumerate(conditioner.stages))
    return replace(conditioner, stages=stages, words=tuple(words), embeddings=EmbeddingCache())


def read_word(file: Path, conditioner: ClipConditioner) -> Vectors:
    """The vectors of `file` for each text encoder. Raises CheckpointError if they do not fit."""
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
            raise CheckpointError(f"{file.name} holds what is no finite number")
    return vectors


def _keys(
    file: Path, shapes: Mapping[str, tuple[int, ...]], conditioner: ClipConditioner
) -> list[str]:
    """Which tensor is for which text encoder."""
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
    if len(shape) == 2 and not 1 <= shape[0] <= MOST_VECTORS:
        bound = f"at least 1 and at most {MOST_VECTORS}"
        raise CheckpointError(f"{file.name}: {key} holds {shape[0]} vectors, not {bound}")


def _without_clashes(
    words: Mapping[str, Vectors], stages: Sequence[TextStage]
) -> dict[str, Vectors]:
    counts = {word: len(vectors[0]) for word, vectors in words.items()}
    clashes: dict[str, str] = {}
    for stage in stages:
        clashes |= stage.tokenizer.clashes(counts)
    for word, token in clashes.items():
        _left_out(word, f"the model knows {token!r} already: give it another name")
    return {word: vectors for word, vectors in words.items() if word not in clashes}


def _learned(stage: TextStage, index: int, words: Mapping[str, Vectors]) -> TextStage:
    """The stage with its own rows of `words`, in their order."""
    vectors = [each[index] for each in words.values()]
    known = stage.encoder.get_parameter(_EMBEDDING)
    more = torch.cat(vectors).to(known.device, known.dtype)
    return TextStage(
        stage.tokenizer.with_words({word: len(each[index]) for word, each in words.items()}),
        twin(stage.encoder, {_EMBEDDING: torch.cat([known, more])}),
    )


def _left_out(word: str, reason: str) -> None:
    logger.warning("an embedding is left out", extra={"embedding": word, "reason": reason})
