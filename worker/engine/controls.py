"""Loads the ControlNets that a job names, and decodes their control images."""

from __future__ import annotations

import torch

from models.checkpoints.checkpoint import CheckpointError
from models.denoising.sampling_params import ControlImage
from models.loading.controlnets import ControlNets
from models.networks.controlnet import ControlNet
from models.pipeline import LatentDiffusion
from protocol.errors import JobFailed
from protocol.request.request import GenerationRequest
from worker.engine.pixels import control_tensor
from worker.interfaces import AdmittedJob


def controls_of(
    job: AdmittedJob, model: LatentDiffusion, nets: ControlNets
) -> tuple[ControlImage, ...]:
    """Return the job's controls. Raises JobFailed if a ControlNet cannot be loaded."""
    uses = zip(job.request.controls, nets_of(job.request, model, nets), job.controls, strict=True)
    return tuple(
        ControlImage(net, control_tensor(png), use.weight, (use.start, use.end))
        for use, net, png in uses
    )


def nets_of(
    request: GenerationRequest, model: LatentDiffusion, nets: ControlNets
) -> list[ControlNet]:
    """Return the ControlNets of a request, loading the missing ones. Raises JobFailed."""
    try:
        return [nets.get(use.model, model) for use in request.controls]
    except CheckpointError as error:
        raise JobFailed(str(error)) from error
    except torch.OutOfMemoryError as error:
        raise JobFailed("its ControlNets do not fit into this worker's memory") from error
