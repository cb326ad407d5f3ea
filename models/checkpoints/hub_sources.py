"""Sources on the hub of what is added to the model store: models, components, adapters, files."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path, PurePosixPath

from models.checkpoints.errors import CheckpointError, CheckpointMissing
from models.checkpoints.files import PEFT_CONFIG, PEFT_WEIGHTS, SAFE
from models.checkpoints.hub import (
    COMPONENTS,
    CONVERTIBLE,
    TOKENIZER_FILES,
    DownloadProgress,
    download,
    fetch,
    fetch_component,
    list_files,
)

_SINGLE = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
_WEIGHTS = {*_SINGLE, *CONVERTIBLE}


def fetch_source(source: str, ema: bool | None = None) -> Path:
    """Fetch the source of `darkroom models add`: the folder of owner/name, or a file of it.

    Of a repository without components, its only file of weights is returned. ema: which weights of
    a model's UNet, see `models.checkpoints.hub.fetch`.

    Raises CheckpointError.
    """
    repository, file = "/".join(source.split("/")[:2]), "/".join(source.split("/")[2:])
    files = list_files(repository)
    if file:
        return download(repository, [file, *_neighbours(file, files or ())]) / file
    if files is None:
        return fetch(repository, suffixes=CONVERTIBLE, ema=ema)
    return _fetch_kind(repository, files, CONVERTIBLE, None, ema)


def fetch_safetensors(repository: str, report: DownloadProgress | None = None) -> Path:
    """Fetch owner/name as `fetch_source` does, if all of its weights are safetensors.

    Raises CheckpointError, for a part with pickles only before anything is fetched.
    """
    files = list_files(repository)
    if files is None:
        raise CheckpointMissing(f"{repository} cannot be fetched: the hub cannot be asked")
    if pickles := _only_pickles(files):
        raise CheckpointError(
            f"{repository} holds no safetensors of {', '.join(pickles[:3])}: convert it once with "
            f"`darkroom models add {repository}`"
        )
    return _fetch_kind(repository, files, SAFE, report)


def _only_pickles(files: Collection[str]) -> list[str]:
    """Return the weights of the folders that would be read, where they have no safetensors."""
    folders = COMPONENTS if "model_index.json" in files else (".",)
    weights = [path for path in map(PurePosixPath, files) if path.suffix in _WEIGHTS]
    read = [path for path in weights if str(path.parent) in folders]
    safe = {path.parent for path in read if path.suffix in SAFE}
    return sorted(str(path) for path in read if path.parent not in safe)


def _fetch_kind(
    repository: str,
    files: Collection[str],
    suffixes: Collection[str],
    report: DownloadProgress | None,
    ema: bool | None = None,
) -> Path:
    """Fetch a model, a component, an adapter of PEFT or a single file, by what is in `files`."""
    if "model_index.json" in files:
        return fetch(repository, suffixes=suffixes, report=report, ema=ema)
    if "config.json" in files:
        return fetch_component(repository, suffixes=suffixes, report=report)
    if PEFT_CONFIG in files:
        names = [PEFT_CONFIG, *(name for name in PEFT_WEIGHTS if name.endswith(tuple(suffixes)))]
        return download(repository, [name for name in names if name in files], report)
    endings = tuple(_SINGLE if suffixes is CONVERTIBLE else suffixes)
    single = sorted(name for name in files if name.endswith(endings))
    if len(single) != 1:
        which = "no weights" if not single else "several files, say which: " + ", ".join(
            f"{repository}/{name}" for name in single[:10]
        )  # fmt: skip
        raise CheckpointError(f"{repository} holds {which}")
    return download(repository, [*single, *_neighbours(single[0], files)], report) / single[0]


def _neighbours(file: str, files: Collection[str]) -> list[str]:
    """Return the files that a single file is read with: its configuration, or its other half.

    Tiny autoencoders are two files: the encoder to a decoder and the reverse.
    """
    swapped = {"encoder": "decoder", "decoder": "encoder"}
    names = [other.join(file.rsplit(half, 1)) for half, other in swapped.items()]
    names.append(str(PurePosixPath(file).with_suffix(".yaml")))
    return [name for name in names if name != file and name in files]


def fetch_tokenizer(repository: str) -> Path:
    """Fetch the word-piece vocabulary of a repository such as bert-base-uncased.

    Raises CheckpointMissing.
    """
    return download(repository, TOKENIZER_FILES)
