"""Converts a request to the sampling parameters and passes of the models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from models.denoising.sampling_params import SamplingParams
from models.loading.upscalers import Upscalers
from models.multi_pass import HiresFixPass, Pass, RefinerPass, UpscalePass
from models.pipeline import LatentDiffusion
from models.text.weighted_prompt import WeightedPrompt
from protocol.errors import JobFailed
from protocol.request.prompts import parse_prompt
from protocol.request.request import GenerationRequest
from protocol.request.samplers import DEFAULT_LATENT_MODE, LATENT_MODES
from worker.engine.inputs import inputs_of
from worker.engine.upscaling import method_of
from worker.interfaces import AdmittedJob


def sampling_params_of(job: AdmittedJob) -> SamplingParams:
    """Return the parameters of the first pass, the same for each image of the job."""
    request = job.request
    params = SamplingParams(
        prompt=_wording(request.prompt, request),
        negative_prompt=_wording(request.negative_prompt, request),
        clip_skip=request.clip_skip,
        width=request.width,
        height=request.height,
        steps=request.steps,
        sampler=request.sampler,
        schedule=request.schedule,
        eta=request.eta,
        guidance_scale=request.guidance_scale,
        guidance_rescale=request.guidance_rescale,
        guidance_interval=(request.guidance_start, request.guidance_end),
        strength=1.0 if request.strength is None else request.strength,
        noise_multiplier=1.0 if request.noise_multiplier is None else request.noise_multiplier,
        **inputs_of(job),
    )
    if request.image_guidance_scale is not None:
        params = replace(params, image_guidance_scale=request.image_guidance_scale)
    if request.noise_level is not None:
        params = replace(params, noise_level=request.noise_level)
    if request.refinement is not None:
        params = replace(params, denoising_end=request.refinement.start)
    if request.aesthetic_score is not None:
        params = replace(params, aesthetic_score=request.aesthetic_score)
    return params


def passes_of(
    request: GenerationRequest,
    params: SamplingParams,
    model: LatentDiffusion,
    others: Mapping[str, LatentDiffusion],
    upscalers: Upscalers | None = None,
) -> list[tuple[str, Pass]]:
    """Return the passes that follow the first, which `model` runs, with their models' names.

    Raises JobFailed if the refiner is not among the `others`, or the upscaler not in `upscalers`.
    """
    if refinement := request.refinement:
        if refinement.model not in others:
            raise JobFailed(f"this worker does not have the refiner {refinement.model}")
        return [(refinement.model, RefinerPass(others[refinement.model], params))]
    if larger := request.enlargement:
        second = replace(
            params,
            width=larger.width,
            height=larger.height,
            steps=larger.steps,
            strength=larger.strength,
        )
        mode = LATENT_MODES.get(larger.upscaler or "", DEFAULT_LATENT_MODE)
        again = HiresFixPass(model, second, mode.interpolation, mode.antialias)
        hires: list[tuple[str, Pass]] = [(request.model, again)]
        if larger.upscaler is None or larger.upscaler in LATENT_MODES:
            return hires
        sizes = (request.width, request.height), (larger.width, larger.height)
        upscaling = UpscalePass(model, method_of(larger.upscaler, upscalers), sizes)
        return [(request.model, upscaling), *hires]
    return []


def _wording(text: str, request: GenerationRequest) -> WeightedPrompt:
    return WeightedPrompt(parse_prompt(text, request.prompt_syntax).sections)
