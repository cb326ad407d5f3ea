"""Models from the Hugging Face hub, through its own client and cache.

The client's settings HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE apply here. Only the needed
files are fetched: one variant of each component's weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from models.checkpoints.detect.unsupported import refuse_pipeline
from models.checkpoints.errors import CheckpointError, CheckpointMissing, Malformed
from models.checkpoints.files import SAFE, component_files, read_json
from models.checkpoints.key_plan import Shape

Download = Callable[[str], Path]
# Called with the bytes present and the total; the total grows until all files have begun.
DownloadProgress = Callable[[int, int], None]

# In order of preference; all but the first are for `darkroom models add` only.
CONVERTIBLE = (*SAFE, ".bin", ".pdparams")

_SMALL = re.compile(
    r"model_index\.json|(?:scheduler|low_res_scheduler|feature_extractor)/[\w-]+\.json"
    r"|tokenizer(?:_2)?/[\w.-]+\.(?:json|txt|model)"
)
# Of a word-piece tokenizer; each holds a part of it, or all of it in another form.
TOKENIZER_FILES = (
    "tokenizer_config.json",
    "vocab.txt",
    "tokenizer.json",
    "added_tokens.json",
    "special_tokens_map.json",
)
COMPONENTS = (
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
    """Return True for text of the form owner/name that is not a path."""
    return text.count("/") == 1 and not text.startswith((".", "/", "~"))


def fetch(
    repository: str,
    *,
    half: bool = False,
    suffixes: Collection[str] = SAFE,
    report: DownloadProgress | None = None,
    ema: bool | None = None,
) -> Path:
    """Fetch the missing files of a hub model and return its folder in the cache.

    half: prefer fp16 variants. ema False: prefer the UNet's weights of the last training step.
    report: called from other threads with the bytes present and the total.

    Raises CheckpointMissing, and CheckpointError for a repository without weights.
    """
    return _fetch(repository, partial(model_files, ema=ema), half, suffixes, report)


def _refuse_transformer(repository: str, files: Collection[str]) -> None:
    """Raise UnknownFamily for a diffusion transformer, before anything large is fetched."""
    if "model_index.json" not in files or not any(n.startswith("transformer/") for n in files):
        return
    index = read_json(download(repository, ["model_index.json"]) / "model_index.json")
    refuse_pipeline(str(index.get("_class_name")), index)


def fetch_configs(repository: str) -> Path:
    """Fetch the small files of a model or of a single network, and return the folder in the cache.

    No weights are fetched; those of an earlier call stay in the folder.

    Raises CheckpointError.
    """
    files = list_files(repository)
    if files is None:
        return _cached(repository)
    if "model_index.json" not in files and "config.json" in files:
        return download(repository, ["config.json"])
    chosen = model_files(files, half=False, suffixes=SAFE)
    return download(repository, [name for name in chosen if not name.endswith(SAFE)])


def read_remote_header(repository: str, name: str) -> dict[str, tuple[str, Shape]]:
    """Return the dtype and shape of each tensor in a safetensors file on the hub, by key.

    Only the header is fetched.

    Raises CheckpointError.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import SafetensorsParsingError

    try:
        header = HfApi().parse_safetensors_file_metadata(repository, name)
    except SafetensorsParsingError as error:
        message = f"{repository}/{name} is not a valid safetensors file: {error}"
        raise Malformed(message) from error
    except Exception as error:
        raise _translated(repository, error) from error
    return {key: (entry.dtype, tuple(entry.shape)) for key, entry in header.tensors.items()}


def fetch_component(
    repository: str,
    *,
    half: bool = False,
    suffixes: Collection[str] = SAFE,
    report: DownloadProgress | None = None,
) -> Path:
    """Fetch a component that is a repository of its own, and return its folder in the cache.

    Raises CheckpointMissing, and CheckpointError for a repository without weights.
    """
    return _fetch(repository, _network_files, half, suffixes, report)


def _fetch(
    repository: str,
    choose: Callable[..., list[str]],
    half: bool,
    suffixes: Collection[str],
    report: DownloadProgress | None,
) -> Path:
    """Fetch the chosen files of a repository. Raises CheckpointError if there are no weights."""
    files = list_files(repository)
    if files is None:
        return _cached(repository)
    _refuse_transformer(repository, files)
    names = choose(files, half=half, suffixes=suffixes)
    if not any(name.endswith(tuple(suffixes)) for name in names):
        raise CheckpointError(_no_weights(repository, files, suffixes))
    return download(repository, names, report)


def _no_weights(repository: str, files: Collection[str], suffixes: Collection[str]) -> str:
    others = sorted(name for name in files if name.endswith((".bin", ".ckpt", ".pt", ".pdparams")))
    if others and ".bin" not in suffixes:
        return (
            f"{repository} holds no safetensors, only {', '.join(others[:3])}: "
            f"convert it once with `darkroom models add {repository}`"
        )
    return f"{repository} holds no model: there are {', '.join(sorted(files)[:5]) or 'no files'}"


def model_files(
    files: Collection[str], *, half: bool, suffixes: Collection[str], ema: bool | None = None
) -> list[str]:
    """Return the files of a repository that a model needs: small ones, and weights once each.

    ema: which weights of the UNet, see `component_files`.
    """
    chosen = [name for name in files if _SMALL.fullmatch(name)]
    for component in COMPONENTS:
        prefix = f"{component}/"
        inside = {name.removeprefix(prefix) for name in files if name.startswith(prefix)}
        which = ema if component == "unet" else None
        found = _network_files(inside, half=half, suffixes=suffixes, ema=which)
        chosen += [prefix + name for name in found]
    return sorted(chosen)


def _network_files(
    inside: Collection[str], *, half: bool, suffixes: Iterable[str], ema: bool | None = None
) -> list[str]:
    """Return the weights and the configuration of a network; none without weights."""
    weights = component_files(inside, half=half, suffixes=suffixes, ema=ema)
    # Paddle's text encoders have the second.
    configs = [name for name in ("config.json", "model_config.json") if name in inside]
    return [*weights, *configs] if weights else []


def cache_folder() -> Path:
    """Return the folder that files are fetched into."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def list_files(repository: str) -> list[str] | None:
    """Return the names of a repository's files; None if the hub is offline or not reachable.

    Raises CheckpointMissing.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        return [file.rfilename for file in HfApi().model_info(repository).siblings or ()]
    except OfflineModeIsEnabled:
        return None
    except Exception as error:
        if _is_unreachable(error):
            return None
        raise _translated(repository, error) from error


def download(
    repository: str, names: Collection[str], report: DownloadProgress | None = None
) -> Path:
    """Fetch the files `names`, resume partial ones, and return the snapshot folder.

    Raises CheckpointMissing.
    """
    from huggingface_hub import snapshot_download

    bars = _bars(report)
    try:
        return Path(snapshot_download(repository, allow_patterns=_literal(names), tqdm_class=bars))
    except Exception as error:
        raise _translated(repository, error) from error


def _bars(report: DownloadProgress | None) -> Any:
    """Return the class of the client's progress bars, which calls `report` too.

    The bars are shown on terminals only.
    """
    from huggingface_hub.utils.tqdm import tqdm

    class Bars(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            # Another bar counts the bytes from the network, which may be fewer.
            self._reports = options.get("name") == "huggingface_hub.snapshot_download"
            self._done = 0
            self._update_lock = Lock()  # files are fetched in several threads
            options.setdefault("disable", None)  # where there is no terminal
            super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            with self._update_lock:
                self._done += int(n or 0)
                if report is not None and self._reports:
                    report(self._done, int(self.total or 0))
            shown: bool | None = super().update(n)
            return shown

    return Bars


def _literal(names: Collection[str]) -> list[str]:
    """Return each name as a pattern that matches this name only."""
    return [re.sub(r"([*?[])", r"[\1]", name) for name in names]


def _cached(repository: str) -> Path:
    """Return the snapshot of a model that was fetched before. Raises CheckpointMissing."""
    from huggingface_hub import try_to_load_from_cache

    for name in ("model_index.json", "config.json"):
        path = try_to_load_from_cache(repository, name)
        if isinstance(path, str):
            return Path(path).parent
    raise CheckpointMissing(f"{repository} is not in the cache, and the hub cannot be asked")


def _is_unreachable(error: Exception) -> bool:
    """Return True if there was no connection.

    The hub's client uses different HTTP clients in different versions: their errors are compared
    by name.
    """
    return isinstance(error, ConnectionError | TimeoutError) or any(
        kind.__name__ == "TransportError" for kind in type(error).__mro__
    )


def _translated(repository: str, error: Exception) -> CheckpointError:
    """Return an error of the hub's client as one that an operator can act on.

    Any other error is raised unchanged.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
    )

    def missing(reason: str) -> CheckpointMissing:
        return CheckpointMissing(f"cannot fetch {repository!r} from the hub: {reason}")

    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, GatedRepoError):
        return missing("its owner asks for consent: accept it on its page, and set HF_TOKEN")
    if isinstance(error, RepositoryNotFoundError):
        return missing("there is no such repository, or it is private and HF_TOKEN may not see it")
    if status == 401:
        return missing("the token in HF_TOKEN is not accepted")
    if isinstance(error, HFValidationError):
        return missing("that is no hub id")
    if isinstance(error, OSError) or _is_unreachable(error):
        return missing(str(error).splitlines()[0] if str(error) else type(error).__name__)
    raise error
