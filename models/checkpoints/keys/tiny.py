"""The two files of a tiny autoencoder as first published (github.com/madebyollin/taesd, taesd.py).

Encoder and decoder are separate files, each a sequence with numbers as names. The decoder begins
with a bound for its latents: a layer without parameters, which ours does not have.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Literal

from models.checkpoints.key_plan import KeyPlan, KeySource

Half = Literal["encoder", "decoder"]
HALVES: tuple[Half, ...] = ("encoder", "decoder")

_KEY = re.compile(r"([0-9]{1,3})\.((?:conv\.\d+\.)?(?:weight|bias))")
_LAYERS_BEFORE: Mapping[Half, int] = {"encoder": 0, "decoder": 1}


def half_of(keys: Collection[str]) -> Half | None:
    """Return the half that a file with these keys is; None for any other file."""
    matches = [_KEY.fullmatch(key) for key in keys]
    if not any(match and "conv" in match[2] for match in matches) or not all(matches):
        return None
    first = min(int(match[1]) for match in matches if match)
    return next((half for half, before in _LAYERS_BEFORE.items() if before == first), None)


def tiny_plan(halves: Mapping[Half, Collection[str]]) -> KeyPlan:
    """Return the plan of our AutoencoderTiny, for keys that begin with the name of their half."""
    plan: KeyPlan = {}
    for half, keys in halves.items():
        for key in keys:
            index, _, rest = key.partition(".")
            plan[f"{half}.layers.{int(index) - _LAYERS_BEFORE[half]}.{rest}"] = KeySource(
                f"{half}.{key}"
            )
    return plan
