"""spandrel, imported where torchvision may be absent: not every build of torch has one to match.

Two of its networks, which no test uses, import three names of torchvision.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType

STUBS = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")


def _import() -> ModuleType:
    if find_spec("torchvision") is not None:
        import spandrel

        return spandrel
    for name in STUBS:
        sys.modules[name] = ModuleType(name)
    for name in ("InterpolationMode", "rotate", "normalize"):
        setattr(sys.modules[STUBS[-1]], name, None)
    try:
        import spandrel
    finally:
        for name in STUBS:  # other packages must not take them for the real one
            del sys.modules[name]
    return spandrel


spandrel = _import()
