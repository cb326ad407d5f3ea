"""The description of a node class: its inputs and outputs, and what it makes of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from service.dialects.comfyui.graph.errors import Fault, not_possible
from service.dialects.comfyui.graph.offer import Offer
from service.dialects.comfyui.graph.values import Origin

Outputs = tuple[object, ...]
Resolve = Callable[..., Outputs]

INT, FLOAT, STRING, BOOLEAN, COMBO = "INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"
VALUES = frozenset({INT, FLOAT, STRING, BOOLEAN, COMBO})  # all other types come by a link


class Listing(StrEnum):
    """A list of names that depends on the models, or on the client's files."""

    CHECKPOINTS = "checkpoints"
    LORAS = "loras"
    VAES = "vae"
    CONTROLNETS = "controlnet"
    UPSCALERS = "upscale_models"
    SAMPLERS = "samplers"
    SCHEDULERS = "schedulers"
    IMAGES = "images"
    PARTS = "parts"  # of models, of which there are none


@dataclass(frozen=True)
class Input:
    """An input: a link to an output of type `type`, or a value.

    `options` are the choices of a COMBO. `details` are ComfyUI's further keys for its user
    interface. A value that is `unused` changes nothing here.
    """

    type: str
    default: int | float | str | bool | None = None
    min: float | None = None
    max: float | None = None
    step: float | None = None
    options: tuple[str, ...] | Listing = ()
    optional: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_value(self) -> bool:
        return self.type in VALUES


class NodeRefused(Exception):
    """A node that asks for what is not possible."""

    def __init__(self, fault: Fault, node_id: str | None = None) -> None:
        super().__init__(fault.message)
        self.fault = fault
        self.node_id = node_id  # another node's than the one that found it


@dataclass(frozen=True)
class Here:
    """The node that is resolved, and what there is to choose from."""

    node_id: str
    offer: Offer

    def origin(self, name: str) -> Origin:
        """Return where the value of an input comes from."""
        return Origin(self.node_id, name)

    def refuse(self, name: str, reason: str) -> NodeRefused:
        """Return the refusal of an input of this node."""
        return NodeRefused(not_possible(name, reason))


@dataclass(frozen=True)
class NodeClass:
    """A node class of ComfyUI that is resolved here.

    `resolve` takes `Here` and the inputs by name, and returns the outputs; it raises `NodeRefused`.
    """

    name: str
    category: str
    inputs: Mapping[str, Input]
    outputs: tuple[str, ...]
    resolve: Resolve
    display_name: str = ""
    output_names: tuple[str, ...] = ()
    is_output: bool = False

    @property
    def required(self) -> dict[str, Input]:
        return {name: one for name, one in self.inputs.items() if not one.optional}

    @property
    def optional(self) -> dict[str, Input]:
        return {name: one for name, one in self.inputs.items() if one.optional}


def link(type_: str, *, optional: bool = False) -> Input:
    """Return an input that comes by a link."""
    return Input(type_, optional=optional)


def integer(default: int, low: int, high: int, step: int = 1, *, optional: bool = False) -> Input:
    return Input(INT, default, low, high, step, optional=optional)


def number(
    default: float, low: float, high: float, step: float = 0.01, *, optional: bool = False
) -> Input:
    return Input(FLOAT, default, low, high, step, optional=optional)


def choice(*options: str) -> Input:
    return Input(COMBO, options[0], options=options)


def listed(listing: Listing, **details: Any) -> Input:
    return Input(COMBO, options=listing, details=details)


def text(default: str = "", **details: Any) -> Input:
    return Input(STRING, default, details=details)


def flag(default: bool, *, optional: bool = False) -> Input:
    return Input(BOOLEAN, default, optional=optional)
