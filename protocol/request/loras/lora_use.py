"""The LoRAs of a request: their weights by network and block, and when they are applied.

Blocks and the names of presets are those of the extension LoRA Block Weight for AUTOMATIC1111's
web interface (hako-mikan/sd-webui-lora-block-weight).
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema

from protocol.record import Float
from protocol.request import fields
from protocol.request.client_record import ClientRecord
from protocol.request.validation_errors import NAME, NUMBER

__all__ = ["BLOCK_LISTS", "LoraUse", "Loras", "lora_windows", "merged_sets"]

MOST_MERGED = 2  # merged models that one request may need

_DOWN, _UP = [f"IN{n:02}" for n in range(12)], [f"OUT{n:02}" for n in range(12)]
# The blocks of the lists that clients may give, by length; the other blocks have the weight 0.
BLOCK_LISTS: dict[int, tuple[str, ...]] = {
    12: ("BASE", "IN04", "IN05", "IN07", "IN08", "M00", *_UP[:6]),
    17: ("BASE", "IN01", "IN02", "IN04", "IN05", "IN07", "IN08", "M00", *_UP[3:]),
    20: ("BASE", *_DOWN[:9], "M00", *_UP[:9]),
    26: ("BASE", *_DOWN, "M00", *_UP),
}
PRESETS: dict[str, tuple[float, ...]] = {
    "NONE": (0.0,) * 17,
    "ALL": (1.0,) * 17,
    "INS": (1.0,) * 4 + (0.0,) * 13,
    "IND": (1.0,) + (0.0,) * 3 + (1.0,) * 3 + (0.0,) * 10,
    "INALL": (1.0,) * 7 + (0.0,) * 10,
    "MIDD": (1.0,) + (0.0,) * 3 + (1.0,) * 8 + (0.0,) * 5,
    "OUTD": (1.0,) + (0.0,) * 7 + (1.0,) * 4 + (0.0,) * 5,
    "OUTS": (1.0,) + (0.0,) * 11 + (1.0,) * 5,
    "OUTALL": (1.0,) + (0.0,) * 7 + (1.0,) * 9,
    "ALL0.5": (0.5,) * 17,
}
BLOCK_WEIGHTS_BOUND = f"a list of {', '.join(map(str, BLOCK_LISTS))} numbers"


def _kind(value: object) -> str:
    return NAME if isinstance(value, str) else NUMBER


def _numbers(value: tuple[float, ...] | str) -> tuple[float, ...]:
    """Return the list of a preset; a list is unchanged."""
    return PRESETS[value] if isinstance(value, str) else value


_Weight = Annotated[Float, Field(ge=-fields.MAX_LORA_WEIGHT, le=fields.MAX_LORA_WEIGHT)]
_BOUNDS = {"minimum": -fields.MAX_LORA_WEIGHT, "maximum": fields.MAX_LORA_WEIGHT}
_LISTS: list[dict[str, Any]] = [
    {
        "type": "array",
        "items": {"type": "number", **_BOUNDS},
        "minItems": length,
        "maxItems": length,
    }
    for length in BLOCK_LISTS
]
_List = Annotated[
    tuple[_Weight, ...], Field(min_length=min(BLOCK_LISTS), max_length=max(BLOCK_LISTS))
]
_Preset = Literal["NONE", "ALL", "INS", "IND", "INALL", "MIDD", "OUTD", "OUTS", "OUTALL", "ALL0.5"]
BlockWeights = Annotated[
    Annotated[_List, Tag(NUMBER)] | Annotated[_Preset, Tag(NAME)],
    Discriminator(_kind),
    AfterValidator(_numbers),
    WithJsonSchema({"anyOf": [{"type": "string", "enum": [*PRESETS]}, *_LISTS]}),
]


class LoraUse(ClientRecord):
    """A LoRA that the operator has added, and its weights: 1 is as it was trained.

    `start` and `end` bound its effect on the UNet; prompts are encoded with the whole LoRA.
    """

    name: fields.Name
    weight: _Weight = 1.0
    text_encoder_weight: _Weight | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="The weight in the text encoders; by default `weight`.",
    )
    block_weights: BlockWeights | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="Factors of the weight in each block of the UNet, the first for the text "
        "encoders: a preset of LoRA Block Weight, or a list of 12, 17, 20 or 26 numbers.",
    )
    start: fields.Share = Field(
        default=0.0,
        exclude_if=lambda value: value == 0,
        description="Share of the steps before which the UNet is unchanged.",
    )
    end: fields.Share = Field(
        default=1.0,
        exclude_if=lambda value: value == 1,
        description="Share of the steps after which the UNet is unchanged.",
    )

    @property
    def block_factors(self) -> tuple[float, ...] | None:
        """The block weights, which are always numbers after validation."""
        return None if self.block_weights is None else _numbers(self.block_weights)

    @property
    def has_effect(self) -> bool:
        return bool(self.weight or self.text_encoder_weight)


Loras = Annotated[tuple[LoraUse, ...], Field(max_length=fields.MAX_LORAS)]


def lora_windows(loras: Iterable[LoraUse]) -> tuple[tuple[float, tuple[LoraUse, ...]], ...]:
    """Return the LoRAs that act on the UNet from each share of the steps on, the first from 0."""
    acting = [use for use in loras if use.weight]
    cuts = {0.0, *(use.start for use in acting), *(use.end for use in acting)}
    windows: list[tuple[float, tuple[LoraUse, ...]]] = []
    for cut in sorted(cut for cut in cuts if cut < 1):
        active = tuple(use for use in acting if use.start <= cut < use.end)
        if not windows or windows[-1][1] != active:
            windows.append((cut, active))
    return tuple(windows)


def merged_sets(loras: Iterable[LoraUse]) -> int:
    """Return the number of different models that must be merged for these LoRAs."""
    return len({active for _, active in lora_windows(loras)} - {()})
