"""The layers of a model that a LoRA may change, by every name in files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from torch import nn

from models.checkpoints.key_plan import Shape
from models.conditioners import Conditioner
from models.conditioners.clip import ClipConditioner
from models.lora.names import UNET, spellings
from models.lora.original_names import block_of, original_name
from models.networks.config import UNetConfig

Layer = tuple[str, str]  # component and module path, by the names of our networks
Parameter = tuple[str, str]  # component and parameter name, likewise

# A weight of published text encoders that only some pipelines use. The others have no such layer,
# and a change of it changes no image.
_PROJECTION = "text_projection"


@dataclass(frozen=True)
class Layers:
    """The layers of a model.

    shapes: of their matrices and kernels. named: layers by their names in files; None for a name of
    two layers. vectors: the sizes of biases and of the weights of norms. unused: names of layers
    that other programs have and this model does not use. blocks: the blocks of a UNet's layers,
    as places in `original_names.BLOCKS`. conditioner: it reads the words of bundled embeddings.
    folder: of the model, which may come with LoRAs of its own.
    """

    shapes: Mapping[Layer, Shape]
    named: Mapping[str, Layer | None]
    vectors: Mapping[Parameter, Shape] = field(default_factory=dict)
    unused: frozenset[str] = frozenset()
    blocks: Mapping[str, int] = field(default_factory=dict)
    conditioner: ClipConditioner | None = None
    folder: Path | None = None

    @cached_property
    def digest(self) -> int:
        """A hash of names and shapes: a LoRA fits all models with equal digests, or none."""
        return hash(frozenset([*self.shapes.items(), *self.vectors.items()]))

    @classmethod
    def of(
        cls,
        networks: Mapping[str, nn.Module],
        unet: UNetConfig,
        conditioner: Conditioner | None = None,
        folder: Path | None = None,
    ) -> Layers:
        """Return the layers of `networks`, by component (see `names`); the meta device suffices."""
        shapes: dict[Layer, Shape] = {}
        vectors: dict[Parameter, Shape] = {}
        named: dict[str, Layer | None] = {}
        unused: set[str] = set()
        blocks: dict[str, int] = {}
        for component, network in networks.items():
            for path, module in network.named_modules():
                matrix = _matrix(module)
                own = dict(_vectors(module))
                if matrix is None and not own:
                    continue
                if matrix is not None:
                    shapes[component, path] = matrix
                vectors |= {(component, f"{path}.{name}"): shape for name, shape in own.items()}
                original = original_name(path, unet) if component == UNET else None
                if original is not None and (block := block_of(original)) is not None:
                    blocks[path] = block
                for name in set(spellings(component, path, original)):
                    named[name] = None if name in named else (component, path)
            if component != UNET and (component, _PROJECTION) not in shapes:
                unused.update(spellings(component, _PROJECTION, None))
        reads = conditioner if isinstance(conditioner, ClipConditioner) else None
        absent = frozenset(unused - named.keys())
        return cls(shapes, named, vectors, absent, blocks, reads, folder)


def _matrix(module: nn.Module) -> Shape | None:
    """Return the shape of a layer's matrix or kernel, None for other modules."""
    if isinstance(module, nn.Embedding):
        # Not of the weight: textual inversion embeddings are more rows of it.
        return module.num_embeddings, module.embedding_dim
    return tuple(module.weight.shape) if isinstance(module, nn.Linear | nn.Conv2d) else None


def _vectors(module: nn.Module) -> Iterator[tuple[str, Shape]]:
    """Yield the names and sizes of a module's own vectors: its bias, and the weight of a norm."""
    for name in ("weight", "bias"):
        parameter = module._parameters.get(name)
        if parameter is not None and parameter.ndim == 1:
            yield name, tuple(parameter.shape)
