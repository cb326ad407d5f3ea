"""Models from the Hugging Face hub, through its own client and cache.

HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE are that client's settings, and hold here. Only
the files that are needed are fetched: one rendering of each component.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from models.checkpoints.errors import CheckpointError, CheckpointMissing, Malformed
from models.checkpoints.parts import Shape

Download = Callable[[str], Path]
# Hears the bytes that are here and those there are; the latter grow until all files have begun.
Report = Callable[[int, int], None]

SAFE = (".safetensors",)
# In this order of preference; all but the first are for `darkroom models add` only.
CONVERTIBLE = (*SAFE, ".bin", ".pdparams")
_SINGLE = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")

# What PEFT's `save_pretrained` writes, a LoRA among others.
PEFT_CONFIG = "adapter_config.json"
PEFT_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")

_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model", "model_state")
_SMALL = re.compile(
    r"model_index\.json|(?:scheduler|feature_extractor)/[\w-]+\.json"
    r"|tokenizer(?:_2)?/[\w.-]+\.(?:json|txt|model)"
)
PARTS = (
    "unet",
    "vae",
    "vqvae",
    "text_encoder",
    "text_encoder_2",
    "bert",
    "class_embedder",
    "rescaler",
    "safety_checker",
)


def is_hub_id(text: str) -> bool:
    """Whether it reads as owner/name, and as no path."""
    return text.count("/") == 1 and not text.startswith((".", "/", "~"))


def fetch(
    repository: str,
    *,
    half: bool = False,
    suffixes: Collection[str] = SAFE,
    report: Report | None = None,
) -> Path:
    """The folder in the cache with the model of a hub id, fetched as far as it is not there.

    `half` prefers fp16 renderings; `report` hears how far it is, in other threads. Raises
    CheckpointMissing, and CheckpointError for a repository that has nothing to fetch.
    """
    chosen = partial(choose, half=half, suffixes=suffixes)
    return _fetch(repository, chosen, suffixes, report)


def fetch_small(repository: str) -> Path:
    """The folder in the cache with the small files of a model, or of a network that is a repository
    of its own; of the weights, what was there before.

    Raises CheckpointError.
    """
    files = list_files(repository)
    if files is None:
        return _cached(repository)
    if "model_index.json" not in files and "config.json" in files:
        return download(repository, ["config.json"])
    chosen = choose(files, half=False, suffixes=SAFE)
    return download(repository, [name for name in chosen if not name.endswith(SAFE)])


def read_remote_header(repository: str, name: str) -> dict[str, tuple[str, Shape]]:
    """What a safetensors file on the hub says that it holds: dtype and shape by key. Only its
    header is fetched. Raises CheckpointError."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import SafetensorsParsingError

    try:
        header = HfApi().parse_safetensors_file_metadata(repository, name)
    except SafetensorsParsingError as error:
        raise Malformed(f"{repository}/{name} is no sound safetensors file: {error}") from error
    except Exception as error:
        raise _in_words(repository, error) from error
    return {key: (told.dtype, tuple(told.shape)) for key, told in header.tensors.items()}


def fetch_part(
    repository: str,
    *,
    half: bool = False,
    suffixes: Collection[str] = SAFE,
    report: Report | None = None,
) -> Path:
    """The folder in the cache with a single component that is a repository of its own.

    Raises CheckpointMissing, and CheckpointError for a repository that has no weights.
    """

    def chosen(files: Collection[str]) -> list[str]:
        return [*rendering(files, half=half, suffixes=suffixes), *_configs(files)]

    return _fetch(repository, chosen, suffixes, report)


def _fetch(
    repository: str,
    chosen: Callable[[Collection[str]], list[str]],
    suffixes: Collection[str],
    report: Report | None,
) -> Path:
    """What is chosen of a repository's files, if any weights are among it."""
    files = list_files(repository)
    if files is None:
        return _cached(repository)
    names = chosen(files)
    if not any(name.endswith(tuple(suffixes)) for name in names):
        raise CheckpointError(_nothing(repository, files, suffixes))
    return download(repository, names, report)


def _nothing(repository: str, files: Collection[str], suffixes: Collection[str]) -> str:
    others = sorted(name for name in files if name.endswith((".bin", ".ckpt", ".pt", ".pdparams")))
    if others and ".bin" not in suffixes:
        return (
            f"{repository} holds no safetensors, only {', '.join(others[:3])}: "
            f"convert it once with `darkroom models add {repository}`"
        )
    return f"{repository} holds no model: there are {', '.join(sorted(files)[:5]) or 'no files'}"


def choose(files: Collection[str], *, half: bool, suffixes: Collection[str]) -> list[str]:
    """The files of a repository that make up its model: small ones, and weights once each."""
    chosen = [name for name in files if _SMALL.fullmatch(name)]
    for part in PARTS:
        inside = {name.removeprefix(f"{part}/") for name in files if name.startswith(f"{part}/")}
        if weights := rendering(inside, half=half, suffixes=suffixes):
            chosen += [f"{part}/{name}" for name in (*weights, *_configs(inside))]
    return sorted(chosen)


def _configs(inside: Collection[str]) -> list[str]:
    # Paddle's text encoders say theirs in the second.
    return [name for name in ("config.json", "model_config.json") if name in inside]


def rendering(inside: Collection[str], *, half: bool, suffixes: Iterable[str]) -> list[str]:
    """The files of one rendering of a component: a single one, or an index and its shards."""
    for suffix in suffixes:
        for variant in (".fp16", "") if half else ("", ".fp16"):
            for stem in _STEMS:
                single = f"{stem}{variant}{suffix}"
                if single in inside:
                    return [single]
                index = f"{stem}{suffix}.index{variant}.json"
                if index in inside:
                    shard = re.compile(_shard(stem, variant, suffix))
                    return [index, *sorted(name for name in inside if shard.fullmatch(name))]
    return []


def _shard(stem: str, variant: str, suffix: str) -> str:
    number, variant, suffix = r"-\d+-of-\d+", re.escape(variant), re.escape(suffix)
    return rf"{stem}(?:{variant}{number}|{number}{variant}){suffix}"


def list_files(repository: str) -> list[str] | None:
    """The names of a repository's files, or None where the hub is not to be asked or not there."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        return [file.rfilename for file in HfApi().model_info(repository).siblings or ()]
    except OfflineModeIsEnabled:
        return None
    except Exception as error:
        if _is_unreachable(error):
            return None
        raise _in_words(repository, error) from error


def download(repository: str, names: Collection[str], report: Report | None = None) -> Path:
    """The snapshot folder with at least the files `names`; what is partly there is resumed."""
    from huggingface_hub import snapshot_download

    bars = _bars(report)
    try:
        return Path(snapshot_download(repository, allow_patterns=_literal(names), tqdm_class=bars))
    except Exception as error:
        raise _in_words(repository, error) from error


def _bars(report: Report | None) -> Any:
    """The bars of the hub's client, for terminals only; `report` hears of the bytes as well."""
    from huggingface_hub.utils.tqdm import tqdm

    class Bars(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            # Those that came over the net are another bar's, and may be fewer.
            self._told = options.get("name") == "huggingface_hub.snapshot_download"
            self._here = 0
            self._telling = Lock()  # files are fetched in several threads
            options.setdefault("disable", None)  # where there is no terminal
            super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            with self._telling:
                self._here += int(n or 0)
                if report is not None and self._told:
                    report(self._here, int(self.total or 0))
            shown: bool | None = super().update(n)
            return shown

    return Bars


def _literal(names: Collection[str]) -> list[str]:
    """Names as patterns that match themselves only."""
    return [re.sub(r"([*?[])", r"[\1]", name) for name in names]


def fetch_source(said: str) -> Path:
    """What `darkroom models add` is to read: the folder of owner/name, or a file of it.

    A repository that is no folder of components but holds one file of weights is that file.

    Raises CheckpointError.
    """
    repository, file = "/".join(said.split("/")[:2]), "/".join(said.split("/")[2:])
    files = list_files(repository)
    if file:
        return download(repository, [file, *_other_halves(file, files or ())]) / file
    if files is None or "model_index.json" in files:
        return fetch(repository, suffixes=CONVERTIBLE)
    if "config.json" in files:
        return fetch_part(repository, suffixes=CONVERTIBLE)
    if PEFT_CONFIG in files:
        return download(
            repository, [name for name in (PEFT_CONFIG, *PEFT_WEIGHTS) if name in files]
        )
    single = sorted(name for name in files if name.endswith(_SINGLE))
    if len(single) != 1:
        which = "no weights" if not single else "several files, say which: " + ", ".join(
            f"{repository}/{name}" for name in single[:10]
        )  # fmt: skip
        raise CheckpointError(f"{repository} holds {which}")
    return download(repository, single) / single[0]


def _other_halves(file: str, files: Collection[str]) -> list[str]:
    """The encoder to a decoder, and the other way round: tiny autoencoders come in two files."""
    swapped = {"encoder": "decoder", "decoder": "encoder"}
    names = (other.join(file.rsplit(half, 1)) for half, other in swapped.items())
    return [name for name in names if name != file and name in files]


def fetch_tokenizer(repository: str) -> Path:
    """The folder with the vocabulary of word pieces in a repository such as bert-base-uncased."""
    return download(repository, ["vocab.txt", "tokenizer_config.json"])


def _cached(repository: str) -> Path:
    """The snapshot of a model that was fetched before."""
    from huggingface_hub import try_to_load_from_cache

    for name in ("model_index.json", "config.json"):
        path = try_to_load_from_cache(repository, name)
        if isinstance(path, str):
            return Path(path).parent
    raise CheckpointMissing(f"{repository} is not in the cache, and the hub cannot be asked")


def _is_unreachable(error: Exception) -> bool:
    """Whether nobody answered. Which HTTP client says so differs between versions of the hub's."""
    return isinstance(error, ConnectionError | TimeoutError) or any(
        kind.__name__ == "TransportError" for kind in type(error).__mro__
    )


def _in_words(repository: str, error: Exception) -> CheckpointError:
    """What the hub's client says, as something an operator can act on.

    Whatever is not about the hub is raised as it is.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
    )

    def said(what: str) -> CheckpointMissing:
        return CheckpointMissing(f"cannot fetch {repository!r} from the hub: {what}")

    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, GatedRepoError):
        return said("its owner asks for consent: accept it on its page, and set HF_TOKEN")
    if isinstance(error, RepositoryNotFoundError):
        return said("there is no such repository, or it is private and HF_TOKEN may not see it")
    if status == 401:
        return said("the token in HF_TOKEN is not accepted")
    if isinstance(error, HFValidationError):
        return said("that is no hub id")
    if isinstance(error, OSError) or _is_unreachable(error):
        return said(str(error).splitlines()[0] if str(error) else type(error).__name__)
    raise error
