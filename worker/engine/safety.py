"""Checks finished images with the model's safety checker, and hides flagged ones if configured.

A hidden image is replaced by one with an explanation: a black image would look like a fault.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from models.networks.safety_checker import SafetyChecker, load_safety_checker, ships_safety_checker
from models.pipeline import LatentDiffusion
from protocol.queue.job import FinishReason
from worker.interfaces import RGB, Pixels

# The values that CLIP was trained with (Radford et al. 2021; `preprocessor_config.json`).
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

GREY, INK = 128, 240
LABEL = "hidden by the\nsafety checker"

Mode = Literal["flag", "blank", "off"]


def safety_of(model: LatentDiffusion, mode: Mode) -> Safety | None:
    """Load the safety checker that the model was published with; None without one, or if off.

    Raises CheckpointError if its files are missing or invalid.
    """
    if mode == "off" or not ships_safety_checker(model.folder):
        return None
    return Safety(load_safety_checker(model.folder, model.dtype, model.device), mode)


@dataclass(frozen=True)
class Safety:
    """A safety checker, and the mode that decides if flagged images are also hidden."""

    checker: SafetyChecker
    mode: Mode

    def screen(self, pixels: Pixels) -> tuple[Pixels, FinishReason]:
        """Check one image; return the pixels to show, and the reason. May run in any thread.

        On a GPU it runs in parallel with the batch.
        """
        image = clip_input(pixels, self.checker.config.image_size)
        with _own_stream(self.checker.visual_projection.weight.device):
            scores = self.checker.scores(image)
        if not scores.flagged:
            return pixels, FinishReason.SUCCESS
        shown = pixels if self.mode == "flag" else hidden(pixels)
        return shown, FinishReason.CONTENT_FILTERED


def _own_stream(device: torch.device) -> AbstractContextManager[object]:
    """Return a stream of its own on a GPU, so that the check does not wait for the batch."""
    if device.type != "cuda":
        return nullcontext()
    return torch.cuda.stream(torch.cuda.Stream(device))


def clip_input(pixels: Pixels, side: int) -> Tensor:
    """Convert an image (H, W, 3 or more channels) -> (3, side, side), as CLIPImageProcessor does.

    Scale the shorter side bicubically, crop the centre, normalise.
    """
    image = Image.fromarray(pixels[..., :RGB])
    shorter = min(image.size)
    scaled = tuple(side if n == shorter else int(side * n / shorter) for n in image.size)
    image = image.resize((scaled[0], scaled[1]), Image.Resampling.BICUBIC)
    left, top = (scaled[0] - side) // 2, (scaled[1] - side) // 2
    image = image.crop((left, top, left + side, top + side))
    values = np.asarray(image, dtype=np.float32) / 255
    normalised = (values - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(normalised).permute(2, 0, 1)


def hidden(pixels: Pixels) -> Pixels:
    """Return a grey image of the same size with an explanation, and nothing of the original."""
    height, width, channels = pixels.shape
    image = Image.new("RGB", (width, height), (GREY,) * 3)
    draw = ImageDraw.Draw(image)
    size = max(6, math.floor(min(width, height) / 9))
    draw.multiline_text(
        (width / 2, height / 2),
        LABEL,
        fill=(INK,) * 3,
        font=ImageFont.load_default(size),
        anchor="mm",
        align="center",
    )
    blank = np.zeros((height, width, channels), dtype=np.uint8)
    blank[..., :RGB] = np.asarray(image)
    return blank
