"""Published models that are not supported, recognised so that their refusal names them.

See `data/unsupported.toml`, and "Models that are outside" in docs/models.md.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from models.checkpoints.errors import UnknownFamily

_TABLE = Path(__file__).parent / "data" / "unsupported.toml"
_PREFIX = re.compile(r"(?:model\.)?diffusion_model\.|transformer\.(?=\w+_blocks\.|x_embedder)")
_TRANSFORMER_CLASS = re.compile(r"\w*Transformer\w*Model")


@dataclass(frozen=True)
class _Model:
    """A published model. See `data/unsupported.toml`."""

    name: str
    keys: tuple[str, ...] = ()
    pipelines: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    unets: tuple[tuple[int, ...], ...] = ()
    has_unet: bool = False

    def refusal(self, subject: str) -> UnknownFamily:
        """Return the error whose one sentence names the model."""
        if self.has_unet:
            return UnknownFamily(f"{subject} is {self.name}, which is not supported")
        return UnknownFamily(_transformer(subject, f"{self.name}, a transformer model"))


@cache
def _models() -> tuple[_Model, ...]:
    entries = tomllib.loads(_TABLE.read_text("utf-8"))["models"]
    return tuple(
        _Model(**{key: _tuples(value) for key, value in entry.items()}) for entry in entries
    )


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def refuse_keys(keys: Collection[str]) -> None:
    """Raise UnknownFamily for the keys of an unsupported model, naming it."""
    bare = [_PREFIX.sub("", key, count=1) for key in keys]
    for model in _models():
        if model.keys and all(any(key.startswith(part) for key in bare) for part in model.keys):
            raise model.refusal("it")
    if any(key.startswith("transformer_blocks.0.") for key in bare):
        raise UnknownFamily(_transformer("it", "a transformer model"))


def refuse_unet(in_channels: int, width: int, context: int) -> None:
    """Raise UnknownFamily for the UNet of an unsupported model, naming it."""
    for model in _models():
        if (in_channels, width, context) in model.unets:
            raise model.refusal("it")


def refuse_pipeline(name: str, networks: Collection[str] = ()) -> None:
    """Raise UnknownFamily for the pipeline class of an unsupported model, naming it.

    networks: the names of the components. A pipeline with a transformer in place of a UNet is
    refused too where its class is not known.
    """
    for model in _models():
        if model.pipelines and name.startswith(model.pipelines):
            raise model.refusal(name)
    if "transformer" in networks and "unet" not in networks:
        raise UnknownFamily(_transformer(name, "a transformer model"))


def refuse_network(name: str) -> None:
    """Raise UnknownFamily for the class of a diffusion transformer's config.json."""
    for model in _models():
        if model.networks and name.startswith(model.networks):
            raise model.refusal(name)
    if _TRANSFORMER_CLASS.fullmatch(name):
        raise UnknownFamily(_transformer(name, "a transformer model"))


def _transformer(subject: str, model: str) -> str:
    return f"{subject} is {model}, and only latent diffusion models with a UNet are supported"
