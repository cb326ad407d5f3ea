"""Outpainting in the engine: the first round of each image of a job, and the passes that follow."""

from __future__ import annotations

from dataclasses import replace

from models.denoising.denoiser import DenoisingState
from models.denoising.sampling_params import SamplingParams
from models.multi_pass import Pass
from models.outpainting import Canvas, Outpainting, Window
from models.pipeline import LatentDiffusion
from protocol.request.inpainting import PixelBox
from worker.engine.pixels import opaque_pixels
from worker.engine.slots import decoder_of
from worker.interfaces import AdmittedJob


def outpaintings_of(
    job: AdmittedJob, model: LatentDiffusion, params: SamplingParams
) -> list[tuple[DenoisingState, list[Pass]]]:
    """Return the state in which each image of a job begins, and its passes after that."""
    request, asked = job.request, job.request.outpainting
    assert job.image is not None
    assert asked is not None
    params = replace(params, width=asked.window_width, height=asked.window_height)
    windows = [_window(box) for box in asked.rounds]
    decode = decoder_of(model, request)
    shape, image = (asked.height, asked.width), opaque_pixels(job.image)
    outpaintings = [
        Outpainting(
            model,
            params,
            Canvas(image, _window(asked.image), shape, _window(asked.result), asked.blend),
            windows,
            decode,
        )
        for _ in range(request.n)
    ]
    first = outpaintings[0].round_params(windows[0])  # the same for all images
    seeds = [request.image_seed(index) for index in range(request.n)]
    states = model.start(first, seeds)
    return [
        (state, outpainting.passes(state.steps))
        for state, outpainting in zip(states, outpaintings, strict=True)
    ]


def _window(box: PixelBox) -> Window:
    left, top, right, bottom = box.corners
    return slice(top, bottom), slice(left, right)
