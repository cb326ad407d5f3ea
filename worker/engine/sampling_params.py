"""What a job asks for, in the words of the models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from models.denoising.sampling_params import SamplingParams
from models.multi_pass import HiresFixPass, Pass, RefinerPass
from models.pipeline import LatentDiffusion
from models.text.weighted_prompt import WeightedPrompt
from protocol.errors import JobFailed
from protocol.request.prompts import parse
from protocol.request.request import GenerationRequest
from worker.engine.inputs import inputs_of
from worker.interfaces import AdmittedJob


def sampling_params_of(job: AdmittedJob) -> SamplingParams:
    """The first pass of each picture of the job."""
    request = job.request
    recipe = SamplingParams(
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
        **inputs_of(job),
    )
    if request.refinement is not None:
        recipe = replace(recipe, denoising_end=request.refinement.start)
    if request.aesthetic_score is not None:
        recipe = replace(recipe, aesthetic_score=request.aesthetic_score)
    return recipe


def passes_of(
    request: GenerationRequest,
    recipe: SamplingParams,
    model: LatentDiffusion,
    others: Mapping[str, LatentDiffusion],
) -> list[tuple[str, Pass]]:
    """What follows the first pass, by `model`; each with the name of its own.

    Raises JobFailed if the refiner is not among the `others`.
    """
    if refinement := request.refinement:
        if refinement.model not in others:
            raise JobFailed(f"this worker does not have the refiner {refinement.model}")
        return [(refinement.model, RefinerPass(others[refinement.model], recipe))]
    if larger := request.enlargement:
        second = replace(
            recipe,
            width=larger.width,
            height=larger.height,
            steps=larger.steps,
            strength=larger.strength,
        )
        return [(request.model, HiresFixPass(model, second))]
    return []


def _wording(text: str, request: GenerationRequest) -> WeightedPrompt:
    return WeightedPrompt(parse(text, request.prompt_syntax).sections)
