"""Published key layouts of upscalers; our parameters have the names of Real-ESRGAN's files.

ESRGAN and most files people trade number their layers (github.com/xinntao/ESRGAN, 2018); BSRGAN and
RealSR have names of their own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Literal

from models.checkpoints.key_plan import KeyPlan, KeySource, Shape, below, prefixed
from models.checkpoints.keys.rules import Rule, apply, renamed

Network = Literal["RRDBNet", "SRVGGNetCompact"]

# Wrappers around all keys of a file, the outermost first.
_WRAPPERS = ("params_ema.", "params.", "module.", "netG.")

# A key of each layout that no other network has.
_NUMBERED = "model.1.sub.0.RDB1.conv1.0.weight"
_NAMED = "RRDB_trunk.0.RDB1.conv1.weight"
_CURRENT = "body.0.rdb1.conv1.weight"

_NAMED_RULES = (
    Rule(r"RRDB_trunk\.(\d+)\.RDB(\d)\.conv(\d)\.(\w+)", r"body.\1.rdb\2.conv\3.\4"),
    Rule(r"upconv(\d)\.(\w+)", r"conv_up\1.\2"),
    *renamed({"conv_first": "conv_first", "trunk_conv": "conv_body", "HRconv": "conv_hr"}, "", ""),
    *renamed({"conv_last": "conv_last"}, "", ""),
)
_COMPACT = re.compile(r"body\.(\d+)\.(?:weight|bias)")
_LAYER = re.compile(r"model\.(\d{1,3})\.(?:weight|bias)")
_BODY_END = re.compile(r"model\.1\.sub\.(\d{1,3})\.(?:weight|bias)")


def upscaler_network(shapes: Mapping[str, Shape]) -> Network | None:
    """Return the network of ours that a file with these tensors is for, None for any other file."""
    bare = below(_wrapper(shapes), shapes)
    if bare.keys() & {_NUMBERED, _NAMED, _CURRENT}:
        return "RRDBNet"
    compact = all(_COMPACT.fullmatch(key) for key in bare)
    first, slopes = bare.get("body.0.weight", ()), bare.get("body.1.weight", ())
    return "SRVGGNetCompact" if compact and len(first) == 4 and len(slopes) == 1 else None


def upscaler_plan(keys: Mapping[str, Shape]) -> KeyPlan:
    """Return the key plan of an upscaler's file. Keys without a rule keep their names."""
    wrapper = _wrapper(keys)
    bare = below(wrapper, keys)
    if _NUMBERED in bare:
        plan = apply(_numbered_rules(bare), bare)
    elif _NAMED in bare:
        plan = apply(_NAMED_RULES, bare)
    else:
        plan = {}
    known = {source.key for source in plan.values()}
    others = (key for key in bare if key not in known)
    # A key may have the name of a renamed one; then a comparison must report it, too.
    plan |= {f"{key} again" if key in plan else key: KeySource(key) for key in others}
    return prefixed(plan, wrapper)


def _wrapper(keys: Collection[str]) -> str:
    """Return the prefix that wraps every key, such as "params_ema."; "" if there is none."""
    wrapper = ""
    for prefix in _WRAPPERS:
        if keys and all(key.startswith(wrapper + prefix) for key in keys):
            wrapper += prefix
    return wrapper


def _numbered_rules(keys: Collection[str]) -> list[Rule]:
    """Return the rules of ESRGAN's own layout, whose last layers' numbers depend on the scale."""
    layers = [int(match[1]) for key in keys if (match := _LAYER.fullmatch(key))]
    ends = [int(match[1]) for key in keys if (match := _BODY_END.fullmatch(key))]
    last, end = max(layers, default=0), max(ends, default=0)
    doublings = max(0, last - 4) // 3
    modules = {"model.0": "conv_first", f"model.1.sub.{end}": "conv_body"}
    modules |= {f"model.{3 * i}": f"conv_up{i}" for i in range(1, doublings + 1)}
    modules |= {f"model.{last - 2}": "conv_hr", f"model.{last}": "conv_last"}
    block = r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.(\w+)"
    return [Rule(block, r"body.\1.rdb\2.conv\3.\4"), *renamed(modules, "", "")]
