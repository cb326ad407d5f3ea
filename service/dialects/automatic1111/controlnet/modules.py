"""The preprocessors ("modules") of ControlNet: those that need no network."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from protocol.errors import InvalidRequest
from service.images.input_images import InputImages
from service.images.preprocessing import Preprocess, binarized, inverted
from service.schemas.data_uri import decode_file

NONE, INVERT, THRESHOLD = "none", "invert", "threshold"
NOTHING = frozenset({"", NONE})
INVERT_LABEL = "invert (from white bg & black line)"  # how the extension shows it
MODULES = (NONE, INVERT, THRESHOLD)
ALIASES = {INVERT: INVERT_LABEL}
NAMES = {ours: ours for ours in MODULES} | {label: name for name, label in ALIASES.items()}
DEFAULT_THRESHOLD = 127  # also for -1
MAX_THRESHOLD = 255

# The first slider of the extension's modules is the resolution. Here the image keeps its own.
RESOLUTION = {"name": "Preprocessor Resolution", "value": 512, "min": 64, "max": 2048, "step": 8}
THRESHOLD_SLIDER = {
    "name": "Binarization Threshold",
    "value": DEFAULT_THRESHOLD,
    "min": 0,
    "max": MAX_THRESHOLD,
    "step": 1,
}
DETAILS: Mapping[str, list[dict[str, Any]]] = {
    NONE: [],
    INVERT: [],
    THRESHOLD: [RESOLUTION, THRESHOLD_SLIDER],
}


@dataclass(frozen=True)
class Module:
    """A preprocessor with its threshold, which only one of them reads."""

    name: str
    threshold: int = DEFAULT_THRESHOLD

    @classmethod
    def of(cls, field: str, name: str, threshold: float | None) -> "Module":
        """Return the preprocessor of a name, or of the extension's label of it.

        `field` is the client's name of the preprocessor. Raises `InvalidRequest`.
        """
        ours = NAMES.get(name.lower() or NONE)
        if ours is None:
            bound = f"one of {', '.join(MODULES)}: no other preprocessor is here"
            raise InvalidRequest(field, name, bound, "not-supported")
        if threshold is None or threshold < 0:
            return cls(ours)
        return cls(ours, min(int(threshold), MAX_THRESHOLD))

    @property
    def changes(self) -> bool:
        """True if it changes the image."""
        return self._change is not None

    def applied(self, field: str, file: object, images: InputImages) -> object:
        """Return the control image of a field, preprocessed. Raises `InvalidRequest`."""
        if (change := self._change) is None:
            return file
        opened = images.open(field, decode_file(field, file))
        return images.changed(opened, change).png

    @property
    def _change(self) -> Preprocess | None:
        if self.name == INVERT:
            return inverted
        return partial(binarized, threshold=self.threshold) if self.name == THRESHOLD else None
