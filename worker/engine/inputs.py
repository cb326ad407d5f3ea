"""Converts a job's inputs other than text for the models: images, a class, boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from models.autoencoders.pixels import from_bytes
from models.denoising.fill import fill_masked
from models.denoising.sampling_params import Box
from models.upscalers.resampling import channels_first
from protocol.request.inpainting import MaskedContent, MaskMode
from protocol.request.tasks import Task
from worker.engine.pixels import (
    grey_pixels,
    grey_tensor,
    image_tensor,
    label_tensor,
    rgb_pixels,
)
from worker.interfaces import AdmittedJob

MARKED = 128  # and above, of 255

# The factor of the noise that replaces the marked part of the image.
MASKED_NOISE: dict[MaskedContent | None, float] = {
    MaskedContent.NOISE: 1.0,
    MaskedContent.NOTHING: 0.0,
}


def inputs_of(job: AdmittedJob) -> dict[str, Any]:
    """Return fields of the job's `models.denoising.sampling_params.SamplingParams`."""
    request, fields = job.request, dict[str, Any]()
    # In tiles it is upscaled first, and outpainting puts it on a canvas.
    if job.image is not None and request.tiles is None and request.outpainting is None:
        match request.task:
            case Task.UPSCALE:
                fields["low_res"] = image_tensor(job.image)
            case Task.SEMANTIC:
                fields["labels"] = label_tensor(job.image)
            case _:
                fields["image"] = image_tensor(job.image)
    if job.mask is not None:
        fields["mask"] = grey_tensor(job.mask)
        fields["soft_mask"] = request.mask_mode is MaskMode.SOFT
        if job.image is not None and request.masked_content is MaskedContent.FILL:
            fields["image"] = _filled(job.image, job.mask, soft=fields["soft_mask"])
    fields["masked_noise"] = MASKED_NOISE.get(request.masked_content)
    if job.depth_map is not None:
        fields["depth"] = grey_tensor(job.depth_map)
    if request.class_id is not None:
        fields["class_id"] = request.class_id
    if request.boxes is not None:
        fields["boxes"] = tuple(
            Box(box.class_id, box.x, box.y, box.width, box.height) for box in request.boxes
        )
    return fields


def _filled(image: bytes, mask: bytes, *, soft: bool) -> Tensor:
    """Return the image with its marked part filled; a soft mask fills by its levels."""
    levels = grey_pixels(mask)
    if not soft:
        levels = np.where(levels >= MARKED, 255, 0).astype(np.uint8)
    return from_bytes(channels_first(fill_masked(rgb_pixels(image), levels)))
