"""Which kind of checkpoint a single file in the original spelling is, told by its header alone.

Nothing is guessed: a file whose UNet is none of `data/families.toml` is refused, saying what was
found and what is known.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from models.checkpoints.errors import UnknownFamily
from models.checkpoints.parts import Shape, below

_TABLE = Path(__file__).parent / "data" / "families.toml"

UNET = "model.diffusion_model."
CONTROLNET = "control_model."

_CONTEXT = "attn2.to_k.weight"

# What people bring that is of another family, by the width of its context.
_STRANGERS = {1024: "Stable Diffusion 2"}


@dataclass(frozen=True)
class Signature:
    """What tells families apart: channels in, channels of the first convolution, context width."""

    in_channels: int
    width: int
    context: int

    def __str__(self) -> str:
        context = f"a context of width {self.context}" if self.context else "no context"
        return f"{self.in_channels} channels in, {self.width} channels wide, {context}"


@dataclass(frozen=True)
class Family:
    """A kind of checkpoint: what its keys do not tell. See `data/families.toml`."""

    name: str
    title: str
    pipeline: str
    signature: Signature
    sample_size: int
    scaling_factor: float
    parts: tuple[str, ...]
    scheduler: Mapping[str, Any] = field(repr=False)
    heads_at_each_level: int | None = None
    head_width: int | None = None
    force_upcast: bool = False
    tokenizer: str = "clip"

    def heads(self, channels: int) -> int:
        """Attention heads where there are so many channels."""
        if self.heads_at_each_level is not None:
            return self.heads_at_each_level
        assert self.head_width is not None
        return channels // self.head_width


@cache
def families() -> tuple[Family, ...]:
    """Every family this code knows."""
    table = tomllib.loads(_TABLE.read_text("utf-8"))
    schedules = {name: _scheduler(given) for name, given in table["schedules"].items()}
    return tuple(_family(name, entry, schedules) for name, entry in table["families"].items())


def _scheduler(given: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that all of them share is said here: 1000 steps, betas linear in their roots."""
    return {
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        **given,
    }


def _family(name: str, entry: dict[str, Any], schedules: Mapping[str, dict[str, Any]]) -> Family:
    signature = Signature(entry.pop("in_channels"), entry.pop("width"), entry.pop("context"))
    return Family(
        name=name,
        signature=signature,
        scheduler=schedules[entry.pop("schedule")],
        heads_at_each_level=entry.pop("heads", None),
        parts=tuple(entry.pop("parts")),
        **entry,
    )


def detect(shapes: Mapping[str, Shape], known: Iterable[Family] | None = None) -> Family:
    """The family of a single file with these tensors; `known` are those to choose from.

    Raises UnknownFamily.
    """
    known = families() if known is None else tuple(known)
    unet = below(UNET, shapes)
    if "input_blocks.0.0.weight" not in unet:
        raise UnknownFamily(
            f"no key {UNET}input_blocks.0.0.weight: not a checkpoint in the original layout. "
            f"It begins with {_first(shapes)}"
        )
    return _family_with(_signature(unet), known)


def _family_with(found: Signature, known: tuple[Family, ...]) -> Family:
    for family in known:
        if family.signature == found:
            return family
    stranger = _STRANGERS.get(found.context)
    also = f" (that is {stranger})" if stranger else ""
    listed = "; ".join(f"{family.title}: {family.signature}" for family in known)
    raise UnknownFamily(f"its UNet has {found}{also}, and is none of these: {listed}")


def family_of_controlnet(shapes: Mapping[str, Shape]) -> Family:
    """The family of the UNet that a ControlNet in the original layout steers.

    Raises UnknownFamily.
    """
    return detect({UNET + key: shape for key, shape in below(CONTROLNET, shapes).items()})


def family_of_network(shapes: Mapping[str, Shape]) -> Family:
    """The family of a UNet or ControlNet whose parameters have our names.

    Raises UnknownFamily.
    """
    original = {"input_blocks.0.0.weight": shapes.get("conv_in.weight", ())}
    attention = {key: shape for key, shape in shapes.items() if key.endswith(_CONTEXT)}
    return _family_with(_signature(original | attention), families())


def _signature(unet: Mapping[str, Shape]) -> Signature:
    first = unet["input_blocks.0.0.weight"]
    if len(first) != 4:
        raise UnknownFamily(f"its first convolution has shape {first}")
    width, in_channels = first[:2]
    contexts = {shape[1] for key, shape in unet.items() if key.endswith(_CONTEXT)}
    if len(contexts) > 1:
        raise UnknownFamily(f"its UNet reads contexts of several widths: {sorted(contexts)}")
    return Signature(in_channels, width, contexts.pop() if contexts else 0)


def _first(shapes: Mapping[str, Shape]) -> str:
    names = sorted(shapes)[:3]
    return ", ".join(names) + (" …" if len(shapes) > 3 else "") if names else "nothing"
