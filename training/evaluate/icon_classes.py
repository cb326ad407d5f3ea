"""Icons by class: which are for training the classifier, and which are held out."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.data import EmojiImages

#: Styles whose icons the classifier never sees in training.
HELD_OUT_STYLES = frozenset({"twemoji", "emojione"})
MIN_TRAINING_STYLES = 3


def class_names(art: EmojiImages) -> list[str]:
    """Return the names that at least three training styles and one that is held out have."""
    styles = defaultdict(set)
    for captions, style in zip(art.captions, art.styles, strict=True):
        styles[captions[0]].add(style)
    return sorted(
        name
        for name, found in styles.items()
        if len(found - HELD_OUT_STYLES) >= MIN_TRAINING_STYLES and found & HELD_OUT_STYLES
    )


@dataclass(frozen=True)
class IconClasses:
    """The class of every image, -1 for none, and indices of images: for training, and held out."""

    classes: npt.NDArray[np.int64]
    training: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.int64]

    @classmethod
    def of(cls, art: EmojiImages, names: list[str]) -> IconClasses:
        """Number the images by the place of their plain name in `names`."""
        index = {name: i for i, name in enumerate(names)}
        classes = np.array([index.get(captions[0], -1) for captions in art.captions])
        held_out = np.array([style in HELD_OUT_STYLES for style in art.styles])
        return cls(
            classes=classes,
            training=np.flatnonzero((classes >= 0) & ~held_out),
            held_out=np.flatnonzero((classes >= 0) & held_out),
        )
