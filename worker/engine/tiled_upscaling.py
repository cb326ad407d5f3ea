"""Image to image in tiles: the upscaling of a job's image, and the pass that follows."""

from __future__ import annotations

from collections.abc import Sequence

from models.denoising.sampling_params import SamplingParams
from models.loading.upscalers import Upscalers
from models.networks.controlnet import ControlNet
from models.pipeline import LatentDiffusion
from models.tiled_upscaling import TiledControl, TiledPass
from models.upscalers.resampling import resized
from models.upscalers.upscaling import Upscaling
from protocol.request.request import ControlUse
from worker.engine.pixels import rgb_pixels
from worker.engine.upscaling import method_of
from worker.interfaces import AdmittedJob


def tile_upscaling_of(job: AdmittedJob, upscalers: Upscalers | None) -> Upscaling:
    """Return the upscaling of a job's image to the size of the result. Raises JobFailed."""
    request = job.request
    assert job.image is not None
    assert request.tiles is not None
    method = method_of(request.tiles.upscaler, upscalers)
    return Upscaling(rgb_pixels(job.image), (request.width, request.height), [method])


def tiled_pass_of(
    job: AdmittedJob, model: LatentDiffusion, params: SamplingParams, nets: Sequence[ControlNet]
) -> TiledPass:
    """Return the pass that generates the upscaled image again, in tiles."""
    request = job.request
    assert request.tiles is not None
    uses = zip(request.controls, nets, job.controls, strict=True)
    return TiledPass(
        model,
        params,
        request.image_seed(0),
        request.tiles.size,
        request.tiles.overlap,
        tuple(_control(job, use, net, png) for use, net, png in uses),
    )


def _control(job: AdmittedJob, use: ControlUse, net: ControlNet, png: bytes) -> TiledControl:
    """Return a control; one by the image that is upscaled follows the upscaled image."""
    request, interval = job.request, (use.start, use.end)
    if use.image_key == request.image_key:
        return TiledControl(net, None, use.weight, interval)
    pixels = resized(rgb_pixels(png), (request.width, request.height))
    return TiledControl(net, pixels, use.weight, interval)
