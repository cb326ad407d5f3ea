"""Textual inversion embeddings (Gal et al. 2022): vectors that a text encoder reads like words.

An embedding is a file that an operator adds, and has the file's name: `<name>.safetensors` holds
one vector or several in a row, (D,) or (N, D), by one of the keys in
`models.checkpoints.keys.embeddings`. Prompts use its name, not the placeholder in the file.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from models.checkpoints.checkpoint import CheckpointError
from models.checkpoints.keys.embeddings import SDXL, vector_keys
from models.checkpoints.names import by_name
from models.checkpoints.weights import UNREADABLE
from models.conditioners import Conditioner
from models.conditioners.clip import ClipConditioner, TextStage
from models.conditioners.embedding_cache import EmbeddingCache
from models.networks.sharing import with_weights

logger = logging.getLogger(__name__)

SUFFIX = ".safetensors"
MAX_VECTORS = 75  # of an embedding: a row of tokens has room for no more
MAX_LISTED = 4  # keys in a message

_SYNTAX = re.compile(r"[()\[\]]|\bBREAK\b")
_EMBEDDING = "text_model.embeddings.token_embedding.weight"
Vectors = tuple[Tensor, ...]  # (N, width) for each text encoder


def with_embeddings(conditioner: Conditioner, folder: Path) -> Conditioner:
    """Return the conditioner with every embedding of `folder` that fits its text encoders.

    Others are skipped, with the reason in the log. `folder` may be absent.
    """
    files = by_name((file.stem, file) for file in folder.glob(f"*{SUFFIX}"))
    if not files or not isinstance(conditioner, ClipConditioner):
        return conditioner
    extended, problems = _with_files(conditioner, files)
    for name, problem in problems.items():
        logger.warning("embedding skipped", extra={"embedding": name, "reason": problem})
    return extended


def embedding_problem(file: Path, name: str, conditioner: Conditioner) -> str | None:
    """Return the reason that prompts cannot use the embedding in `file` by this name, None if they
    can. The conditioner may have other embeddings."""
    if not isinstance(conditioner, ClipConditioner):
        return "the model has no CLIP text encoder"
    _, problems = _with_files(conditioner, {name: file})
    return problems.get(name)


def _with_files(
    conditioner: ClipConditioner, files: Mapping[str, Path]
) -> tuple[ClipConditioner, dict[str, str]]:
    """Return the conditioner with the embeddings that can be used, and the problem of each other.

    files: by name.
    """
    found: dict[str, Vectors] = {}
    problems: dict[str, str] = {}
    for name, file in files.items():
        try:
            found[name] = read_embedding(file, conditioner)
        except CheckpointError as error:
            problems[name] = str(error)
        except Exception as error:  # of any kind: the model is served without it
            problems[name] = f"{type(error).__name__}: {error}"
    extended, others = with_vectors(conditioner, found)
    return extended, problems | others


def with_vectors(
    conditioner: ClipConditioner, found: Mapping[str, Vectors]
) -> tuple[ClipConditioner, dict[str, str]]:
    """Return the conditioner with the words that can be added, and the problem of each other."""
    problems = word_problems(found, conditioner)
    while usable := {name: vectors for name, vectors in found.items() if name not in problems}:
        stages = tuple(_extended(stage, i, usable) for i, stage in enumerate(conditioner.stages))
        unread = [n for n in usable if not all(stage.tokenizer.reads(n) for stage in stages)]
        if not unread:
            names = (*conditioner.embedding_names, *usable)
            extended = replace(
                conditioner, stages=stages, embedding_names=names, embeddings=EmbeddingCache()
            )
            return extended, problems
        problems |= dict.fromkeys(unread, "its name is no word of a text: give it another name")
    return conditioner, problems


def word_problems(
    embeddings: Mapping[str, Vectors], conditioner: ClipConditioner
) -> dict[str, str]:
    """Return the problem of each word that is syntax, or that a tokenizer or another word takes."""
    problems = {
        name: "prompts read ( ) [ ] and BREAK as syntax: give it another name"
        for name in embeddings
        if _SYNTAX.search(name)
    }
    counts = {n: len(vectors[0]) for n, vectors in embeddings.items() if n not in problems}
    for stage in conditioner.stages:
        for name, token in stage.tokenizer.conflicts(counts).items():
            problems[name] = f"the model already has {token!r}: give it another name"
    return problems


def read_embedding(file: Path, conditioner: ClipConditioner) -> Vectors:
    """Return the vectors of `file` for each text encoder.

    Raises CheckpointError if they do not fit.
    """
    try:
        with safe_open(file, framework="pt") as tensors:
            keys = tensors.keys()
            return read_vectors(tensors, {key: key for key in keys}, conditioner)
    except UNREADABLE as error:
        raise CheckpointError(f"it is no safetensors file: {error}") from error


def read_vectors(tensors: Any, parts: Mapping[str, str], conditioner: ClipConditioner) -> Vectors:
    """Return the vectors of an embedding in an open file for each text encoder.

    parts: the keys of its tensors in the file, by their keys in a file of its own. Raises
    CheckpointError if they do not fit.
    """
    shapes = {part: tuple(tensors.get_slice(key).get_shape()) for part, key in parts.items()}
    keys = _keys(shapes, conditioner)
    for key, stage in zip(keys, conditioner.stages, strict=True):
        _check(key, shapes[key], stage.encoder.config.hidden_size)
    vectors = tuple(torch.atleast_2d(tensors.get_tensor(parts[key])) for key in keys)
    if len({len(each) for each in vectors}) > 1:
        raise CheckpointError("it has more vectors for one text encoder than the other")
    for each in vectors:
        if not each.is_floating_point() or not each.isfinite().all():
            raise CheckpointError("it contains values that are no finite numbers")
    return vectors


def _keys(shapes: Mapping[str, tuple[int, ...]], conditioner: ClipConditioner) -> list[str]:
    """Return the tensor's key for each text encoder."""
    of_sdxl = shapes.keys() == set(SDXL)
    if of_sdxl != conditioner.sdxl:
        is_for, has = ("SDXL", "is not") if of_sdxl else ("one text encoder", "is SDXL")
        raise CheckpointError(f"it is for {is_for}, and this model {has}")
    if of_sdxl:
        return list(SDXL[-len(conditioner.stages) :])
    keys = vector_keys(shapes)
    if len(keys) != 1:
        named = ", ".join(keys[:MAX_LISTED])
        raise CheckpointError(f"it holds {len(keys)} tensors, not one embedding: {named}")
    return keys


def _check(key: str, shape: tuple[int, ...], width: int) -> None:
    if len(shape) not in (1, 2) or shape[-1] != width:
        raise CheckpointError(f"{key} is {shape}, but must be (N, {width})")
    if len(shape) == 2 and not 1 <= shape[0] <= MAX_VECTORS:
        bound = f"at least 1 and at most {MAX_VECTORS}"
        raise CheckpointError(f"{key} holds {shape[0]} vectors, not {bound}")


def _extended(stage: TextStage, index: int, embeddings: Mapping[str, Vectors]) -> TextStage:
    """Return the stage with its own rows of `embeddings`, in their order."""
    vectors = [each[index] for each in embeddings.values()]
    known = stage.encoder.get_parameter(_EMBEDDING)
    more = torch.cat(vectors).to(known.device, known.dtype)
    counts = {name: len(each[index]) for name, each in embeddings.items()}
    return TextStage(
        stage.tokenizer.with_tokens(counts, rows=len(known)),
        with_weights(stage.encoder, {_EMBEDDING: torch.cat([known, more])}),
    )
