"""All figures of an evaluation, from pixels alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.data import EmojiImages
from training.evaluate.classifier import SIDE, Classifier
from training.evaluate.generation import resized
from training.evaluate.icon_classes import IconClasses
from training.evaluate.metrics import frechet_distance, gradient_energy, top_shares
from training.evaluate.names import HALVES, Name

SIDES = (SIDE, 2 * SIDE)


def figures(
    classifier: Classifier,
    art: EmojiImages,
    names: list[Name],
    pixels: npt.NDArray[np.uint8],
    logits: Tensor,
) -> dict[str, Any]:
    """Compare pixels (N · seeds, S, S, 3), in the order of `names`, with the held-out icons.

    logits: of the classifier, for the images with a side of 64. The same figures of the held-out
    icons and of the other styles' icons show what a perfect model would have.
    """
    seeds = len(pixels) // len(names)
    index = {name: i for i, name in enumerate(classifier.names)}
    classes = torch.tensor([index[name.label] for name in names]).repeat_interleave(seeds)
    halves = {half: _rows(names, half, seeds) for half in HALVES}
    wanted = {index[name.label] for name in names}
    found = IconClasses.of(art, classifier.names)
    held_out, others = (_of(found, part, wanted) for part in (found.held_out, found.training))
    icon_classes = torch.from_numpy(found.classes[held_out])
    _, icon_logits = classifier.judge(resized(art.pixels[held_out], SIDE))
    return {
        "top1_top5": {
            half: _rounded(top_shares(logits[rows], classes[rows])) for half, rows in halves.items()
        },
        "top1_top5_of_icons": _rounded(top_shares(icon_logits, icon_classes)),
        "images": _compared(classifier, art.pixels[held_out], pixels),
        "other_icons": _compared(classifier, art.pixels[held_out], art.pixels[others]),
    }


def _compared(
    classifier: Classifier, icons: npt.NDArray[np.uint8], images: npt.NDArray[np.uint8]
) -> dict[str, Any]:
    """Return Fréchet distance and relative gradient energy of images, at each side."""
    result = {}
    for side in SIDES:
        real, ours = resized(icons, side), resized(images, side)
        features = [classifier.judge(pixels)[0] for pixels in (real, ours)]
        result[str(side)] = {
            "frechet_distance": round(frechet_distance(*features), 3),
            "gradient_energy_ratio": round(gradient_energy(ours) / gradient_energy(real), 3),
        }
    return result


def _of(found: IconClasses, part: npt.NDArray[np.int64], wanted: set[int]) -> npt.NDArray[np.int64]:
    return part[np.isin(found.classes[part], sorted(wanted))]


def _rows(names: list[Name], half: str, seeds: int) -> Tensor:
    return torch.tensor([name.half == half for name in names]).repeat_interleave(seeds)


def _rounded(shares: list[float]) -> list[float]:
    return [round(share, 4) for share in shares]
