"""The names of a UNet's layers in the original code.

Rombach et al. and Podell et al. number all blocks going down and all going up (`input_blocks`,
`middle_block`, `output_blocks` of `openaimodel.py`). LoRAs trained with that code use these names.
"""

from __future__ import annotations

import re

from models.networks.config import UNetConfig

_OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_IN_A_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_SIDE_BLOCKS = 12  # down, and as many up, in Stable Diffusion 1.x
# The blocks that may have weights of their own; the first are the text encoders.
BLOCKS = (
    "BASE",
    *(f"IN{n:02}" for n in range(_SIDE_BLOCKS)),
    "M00",
    *(f"OUT{n:02}" for n in range(_SIDE_BLOCKS)),
)
_BLOCK = re.compile(r"(input|middle|output)_blocks?\.(\d+)\..+")
_IN_A_BLOCK = re.compile(r"(?:(down|up)_blocks\.(\d+)|mid_block)\.([a-z]+)\.(\d+)\.(.+)")


def original_name(path: str, config: UNetConfig) -> str | None:
    """Return the original name of the layer at `path`, a module path of `UNet`.

    None for layers that the original code does not have.
    """
    if path in _OUTSIDE:
        return _OUTSIDE[path]
    match = _IN_A_BLOCK.fullmatch(path)
    if match is None:
        return None
    direction, level, kind, index, rest = match.groups()
    rest = _IN_A_RESNET[rest] if kind == "resnets" else rest
    if direction is None:
        return f"middle_block.{2 * int(index) if kind == 'resnets' else 1}.{rest}"
    layers = config.layers if direction == "down" else config.layers[::-1]
    each = layers[int(level)] + 1  # going down, the last is the downsampler
    first, place = sum(layers[: int(level)]) + int(level), int(index)
    match direction, kind:
        case "down", "downsamplers":
            return f"input_blocks.{first + each}.0.op"
        case "down", _:
            return f"input_blocks.{first + place + 1}.{kind == 'attentions':d}.{rest}"
        case _, "upsamplers":
            attends = "Attn" in config.up_block_types[int(level)]
            return f"output_blocks.{first + each - 1}.{attends + 1}.conv"
        case _:
            return f"output_blocks.{first + place}.{kind == 'attentions':d}.{rest}"


def block_of(original: str) -> int | None:
    """Return the place in `BLOCKS` of a layer by its original name; None outside of them."""
    match = _BLOCK.fullmatch(original)
    if match is None:
        return None
    side, number = match[1], int(match[2])
    name = "M00" if side == "middle" else f"{'IN' if side == 'input' else 'OUT'}{number:02}"
    return BLOCKS.index(name) if name in BLOCKS else None
