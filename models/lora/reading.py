"""Reading of LoRA files: the keys are resolved against a model's layers, then tensors are read.

Only safetensors files are opened. Every key must be understood: the error names each key that is
unknown, belongs to another kind of adapter or does not fit its layer, and nothing is merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from models.checkpoints.errors import CheckpointError
from models.checkpoints.keys.adapters import TensorRole
from models.checkpoints.names import checked_name
from models.checkpoints.weights import UNREADABLE
from models.conditioners.textual_inversion import Vectors, read_vectors, word_problems
from models.lora.changes import Change, Difference, Replacement
from models.lora.dora import MAGNITUDES, Decomposed
from models.lora.errors import LoraError
from models.lora.layers import Layers, Parameter
from models.lora.resolving import MatrixKeys, Resolved, VectorKey, resolve

MAX_BUNDLED = 32  # embeddings of a file


@dataclass(frozen=True)
class LoRA:
    """A file's changes by parameter, and its textual inversion embeddings by word.

    blocks: the blocks of the layers of the UNet (`Layers.blocks`).
    """

    name: str
    changes: Mapping[Parameter, Change]
    embeddings: Mapping[str, Vectors] = field(default_factory=dict)
    blocks: Mapping[str, int] = field(default_factory=dict)


def check_lora(file: Path, layers: Layers) -> None:
    """Check the header of `file`. Raises LoraError like `read_lora`, but not for all values."""
    with _opened(file) as tensors:
        _embeddings(file, tensors, resolve(file, tensors, layers), layers)


def read_lora(file: Path, layers: Layers) -> LoRA:
    """Return the changes that `file` makes to these layers. Raises LoraError."""
    with _opened(file) as tensors:
        keys = resolve(file, tensors, layers)
        changes: dict[Parameter, Change] = {
            (component, f"{path}.weight"): _matrix(tensors, of_layer)
            for (component, path), of_layer in keys.matrices.items()
        }
        changes |= {name: _vector(tensors, key) for name, key in keys.vectors.items()}
        words = _embeddings(file, tensors, keys, layers)
        return LoRA(file.stem, changes, words, layers.blocks)


def _opened(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except UNREADABLE as error:
        raise LoraError(f"cannot be read: {error}", file.stem) from error


def _matrix(tensors: Any, keys: MatrixKeys) -> Change:
    """Read the tensors of a change. Raises LoraError for values that are not finite."""
    read: dict[TensorRole, Tensor] = {
        role: _finite(tensors, key)
        for role, key in keys.keys.items()
        if role is not TensorRole.ALPHA
    }
    change = keys.kind.of(read, keys.scale)
    if keys.axis is None:
        return change
    [lengths] = (read[role] for role in MAGNITUDES if role in read)
    return Decomposed(change, lengths, of_columns=keys.axis == 1)


def _vector(tensors: Any, key: VectorKey) -> Change:
    tensor = _finite(tensors, key.key)
    return Replacement(tensor) if key.scale is None else Difference(tensor, key.scale)


def _finite(tensors: Any, key: str) -> Tensor:
    tensor: Tensor = tensors.get_tensor(key)
    if not tensor.isfinite().all():
        raise LoraError(f"holds numbers that are not finite: {key}")
    return tensor


def _embeddings(file: Path, tensors: Any, keys: Resolved, layers: Layers) -> dict[str, Vectors]:
    """Read the bundled embeddings. Raises LoraError for one that the model cannot use."""
    if not keys.embeddings:
        return {}
    if layers.conditioner is None:
        raise LoraError("does not fit: it holds embeddings, and the model has no CLIP", file.stem)
    if len(keys.embeddings) > MAX_BUNDLED:
        reason = f"does not fit: it holds {len(keys.embeddings)} embeddings, not {MAX_BUNDLED}"
        raise LoraError(reason, file.stem)
    found: dict[str, Vectors] = {}
    for word, parts in keys.embeddings.items():
        try:
            checked_name(word)
            found[word] = read_vectors(tensors, parts, layers.conditioner)
        except CheckpointError as error:
            raise LoraError(f"does not fit: its embedding {word}: {error}", file.stem) from error
    for word, problem in word_problems(found, layers.conditioner).items():
        raise LoraError(f"does not fit: its embedding {word}: {problem}", file.stem)
    return found
