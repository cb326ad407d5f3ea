"""Families of checkpoints in the original layout, detected from the shapes of the UNet.

A UNet that is none of `data/families.toml` is refused: the error lists what was found and what is
known.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from models.checkpoints.detect.unsupported import refuse_unet
from models.checkpoints.errors import UnknownFamily
from models.checkpoints.key_plan import Shape, below

_TABLE = Path(__file__).parent / "data" / "families.toml"

UNET = "model.diffusion_model."
CONTROLNET = "control_model."

# The first convolution in the original names and in ours.
ORIGINAL_FIRST, _OUR_FIRST = "input_blocks.0.0.weight", "conv_in.weight"
_CONTEXT = "attn2.to_k.weight"


@dataclass(frozen=True)
class Signature:
    """Input channels, channels of the first convolution and context width: unique to a family."""

    in_channels: int
    width: int
    context: int

    def __str__(self) -> str:
        context = f"a context of width {self.context}" if self.context else "no context"
        return f"{self.in_channels} channels in, {self.width} channels wide, {context}"


@dataclass(frozen=True)
class Family:
    """A family of checkpoints: the facts that keys do not contain. See `data/families.toml`."""

    name: str
    title: str
    pipeline: str
    signature: Signature
    sample_size: int
    scaling_factor: float
    components: tuple[str, ...]
    scheduler: Mapping[str, Any] = field(repr=False)
    heads_at_each_level: int | None = None
    head_width: int | None = None
    force_upcast: bool = False
    tokenizer: str = "clip"
    # The first text encoder is open_clip's, of which the last layer but one is read.
    open_clip: bool = False
    # Of the noise that is added to an image before it is upscaled.
    image_scheduler: Mapping[str, Any] | None = field(default=None, repr=False)
    # The prediction type is not the same for all: see `training_facts`.
    sample_size_of_epsilon: int | None = None
    # Keys of a file that tell this family from others with the same signature.
    marks: tuple[str, ...] = ()
    latents_mean: tuple[float, ...] | None = None
    latents_std: tuple[float, ...] | None = None

    @property
    def is_ambiguous(self) -> bool:
        """Return True if its files have either prediction type, which no tensor tells."""
        return self.sample_size_of_epsilon is not None

    def heads(self, channels: int) -> int:
        """Return the number of attention heads for a number of channels."""
        if self.heads_at_each_level is not None:
            return self.heads_at_each_level
        assert self.head_width is not None
        return channels // self.head_width


@cache
def families() -> tuple[Family, ...]:
    """Return every family of `data/families.toml`."""
    table = tomllib.loads(_TABLE.read_text("utf-8"))
    schedules = {name: _scheduler(given) for name, given in table["schedules"].items()}
    return tuple(_family(name, entry, schedules) for name, entry in table["families"].items())


def _scheduler(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a scheduler's configuration: the settings that all with betas share, and its own."""
    if "sigma_data" in given:
        return dict(given)
    return {
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        **given,
    }


_LISTS = ("marks", "latents_mean", "latents_std")


def _family(name: str, entry: dict[str, Any], schedules: Mapping[str, dict[str, Any]]) -> Family:
    entry |= {key: tuple(entry[key]) for key in _LISTS if key in entry}
    signature = Signature(entry.pop("in_channels"), entry.pop("width"), entry.pop("context"))
    return Family(
        name=name,
        signature=signature,
        scheduler=schedules[entry.pop("schedule")],
        image_scheduler=schedules.get(entry.pop("image_schedule", "")),
        heads_at_each_level=entry.pop("heads", None),
        components=tuple(entry.pop("components")),
        **entry,
    )


def detect_family(shapes: Mapping[str, Shape]) -> Family:
    """Return the family of the UNet or ControlNet in a file, in the original names or ours.

    Raises UnknownFamily.
    """
    found = _signature(shapes)
    alike = [family for family in families() if family.signature == found]
    fitting = [family for family in alike if all(mark in shapes for mark in family.marks)]
    if fitting:
        return max(fitting, key=lambda family: len(family.marks))
    refuse_unet(found.in_channels, found.width, found.context)
    known = "; ".join(f"{family.title}: {family.signature}" for family in families())
    raise UnknownFamily(f"its UNet has {found}, and is none of these: {known}")


def network_prefix(shapes: Mapping[str, Shape]) -> str | None:
    """Return the prefix of the UNet or ControlNet in the original names; None for other names.

    A ControlNet that was saved with the model that it was trained on comes first.
    """
    hint = f"{CONTROLNET}input_hint_block."
    if any(key.startswith(hint) for key in shapes):
        return CONTROLNET
    for prefix in (UNET, CONTROLNET):
        if any(key.startswith(prefix) for key in shapes):
            return prefix
    return "" if ORIGINAL_FIRST in shapes else None


def _signature(shapes: Mapping[str, Shape]) -> Signature:
    prefix = network_prefix(shapes)
    unet = below(prefix or "", shapes)
    first = unet.get(_OUR_FIRST if prefix is None else ORIGINAL_FIRST)
    if first is None:
        raise UnknownFamily(
            f"no key {UNET}{ORIGINAL_FIRST} or {_OUR_FIRST}: not a checkpoint in the original "
            f"layout. It begins with {_first_keys(shapes)}"
        )
    if len(first) != 4:
        raise UnknownFamily(f"its first convolution has shape {first}")
    widths = [shape[1:2] for key, shape in unet.items() if key.endswith(_CONTEXT)]
    contexts = {width for sides in widths for width in sides}
    if len(contexts) > 1:
        raise UnknownFamily(f"its UNet reads contexts of several widths: {sorted(contexts)}")
    return Signature(first[1], first[0], contexts.pop() if contexts else 0)


def _first_keys(shapes: Mapping[str, Shape]) -> str:
    names = sorted(shapes)[:3]
    return ", ".join(names) + (" …" if len(shapes) > 3 else "") if names else "nothing"
