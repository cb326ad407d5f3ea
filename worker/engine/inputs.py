"""Converts a job's inputs other than text for the models: images, a class, boxes."""

from __future__ import annotations

from typing import Any

from models.denoising.sampling_params import Box
from protocol.request.tasks import Task
from worker.engine.pixels import image_tensor, label_tensor, mask_tensor
from worker.interfaces import AdmittedJob


def inputs_of(job: AdmittedJob) -> dict[str, Any]:
    """Return fields of the job's `models.denoising.sampling_params.SamplingParams`."""
    request, fields = job.request, dict[str, Any]()
    if job.image is not None:
        match request.task:
            case Task.UPSCALE:
                fields["low_res"] = image_tensor(job.image)
            case Task.SEMANTIC:
                fields["labels"] = label_tensor(job.image)
            case _:
                fields["image"] = image_tensor(job.image)
    if job.mask is not None:
        fields["mask"] = mask_tensor(job.mask)
    if request.class_id is not None:
        fields["class_id"] = request.class_id
    if request.boxes is not None:
        fields["boxes"] = tuple(
            Box(box.class_id, box.x, box.y, box.width, box.height) for box in request.boxes
        )
    return fields
