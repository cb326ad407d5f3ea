"""The two files of a tiny autoencoder as first published (github.com/madebyollin/taesd, taesd.py).

Encoder and decoder are files and sequences of their own there, named by numbers alone. The decoder
begins with a bound for its latents: a place without parameters, which ours has not.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Literal

from models.checkpoints.parts import Part, Plan

Half = Literal["encoder", "decoder"]
HALVES: tuple[Half, ...] = ("encoder", "decoder")

_KEY = re.compile(r"(\d+)\.((?:conv\.\d+\.)?(?:weight|bias))")
_PLACES_BEFORE: Mapping[Half, int] = {"encoder": 0, "decoder": 1}


def half_of(keys: Collection[str]) -> Half | None:
    """Which half a file with these keys is; None if it is no such file."""
    matches = [_KEY.fullmatch(key) for key in keys]
    if not any(match and "conv" in match[2] for match in matches) or not all(matches):
        return None
    first = min(int(match[1]) for match in matches if match)
    return next((half for half, before in _PLACES_BEFORE.items() if before == first), None)


def tiny_plan(halves: Mapping[Half, Collection[str]]) -> Plan:
    """Where the parameters of our AutoencoderTiny come from, of keys that begin with their half."""
    plan: Plan = {}
    for half, keys in halves.items():
        for key in keys:
            place, _, rest = key.partition(".")
            plan[f"{half}.layers.{int(place) - _PLACES_BEFORE[half]}.{rest}"] = Part(
                f"{half}.{key}"
            )
    return plan
