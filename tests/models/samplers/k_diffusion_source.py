"""k-diffusion's own samplers and levels, loaded without its requirements for training.

Its `utils` needs torchvision, of which the samplers use one function of two lines.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch


def _append_dims(x: torch.Tensor, target_dims: int) -> torch.Tensor:
    return x[(...,) + (None,) * (target_dims - x.ndim)]


def _load() -> tuple[ModuleType, ModuleType]:
    spec = importlib.util.find_spec("k_diffusion")
    assert spec is not None
    assert spec.origin is not None
    package = ModuleType("k_diffusion")
    package.__path__ = [str(Path(spec.origin).parent)]
    utils = ModuleType("k_diffusion.utils")
    utils.append_dims = _append_dims  # type: ignore[attr-defined]
    package.utils = utils  # type: ignore[attr-defined]
    sys.modules["k_diffusion"], sys.modules["k_diffusion.utils"] = package, utils
    return (
        importlib.import_module("k_diffusion.sampling"),
        importlib.import_module("k_diffusion.external"),
    )


sampling, external = _load()
