"""The samplers: one pass over latents, a second pass over larger ones, or a refiner."""

import math

from protocol.request.fields import MAX_STEPS
from service.dialects.comfyui.graph.node_class import (
    Here,
    Listing,
    NodeClass,
    Outputs,
    choice,
    integer,
    link,
    listed,
    number,
)
from service.dialects.comfyui.graph.values import (
    Batch,
    Conditioning,
    Empty,
    Encoded,
    Model,
    Pass,
    Sampled,
    Settings,
)

LAST_STEP = 10_000  # ComfyUI's default for "to the end"
SEEDS = integer(0, 0, 2**64 - 1)


def _ksampler(
    here: Here,
    model: Model,
    seed: int,
    steps: int,
    cfg: float,
    sampler_name: str,
    scheduler: str,
    positive: Conditioning,
    negative: Conditioning,
    latent_image: Batch,
    denoise: float,
) -> Outputs:
    """Do `steps` steps, the last ones of a schedule that is longer by `denoise`."""
    if denoise <= 0:
        raise here.refuse("denoise", "above 0: there is nothing to do")
    total = math.floor(steps / denoise)
    if total > MAX_STEPS:
        reason = f"so that steps / denoise is at most {MAX_STEPS}, the steps of a whole schedule"
        raise here.refuse("denoise", reason)
    one = Pass(
        here.node_id,
        model,
        positive,
        negative,
        Settings(sampler_name, scheduler, cfg, seed),
        total,
        total - steps,
        total,
    )
    return (_sampled(here, one, latent_image),)


def _advanced(
    here: Here,
    model: Model,
    add_noise: str,
    noise_seed: int,
    steps: int,
    cfg: float,
    sampler_name: str,
    scheduler: str,
    positive: Conditioning,
    negative: Conditioning,
    latent_image: Batch,
    start_at_step: int,
    end_at_step: int,
    return_with_leftover_noise: str,
) -> Outputs:
    if start_at_step >= min(end_at_step, steps):
        raise here.refuse("start_at_step", "below end_at_step and steps: there is nothing to do")
    one = Pass(
        here.node_id,
        model,
        positive,
        negative,
        Settings(sampler_name, scheduler, cfg, noise_seed),
        steps,
        start_at_step,
        min(end_at_step, steps),
        adds_noise=add_noise == "enable",
        leaves_noise=return_with_leftover_noise == "enable",
        advanced=True,
    )
    return (_sampled(here, one, latent_image),)


def _sampled(here: Here, one: Pass, samples: Batch) -> Batch:
    """Return the latents after a pass. Raises `NodeRefused` for what is not one of our requests."""
    _check_conditioning(here, one)
    latent = samples.latent
    if isinstance(latent, Sampled):
        return Batch(_refined(here, one, latent), samples.count, samples.origin)
    if not one.adds_noise:
        raise here.refuse("add_noise", "enable, except for a refiner after another sampler")
    if one.last < one.steps and not one.leaves_noise:
        raise here.refuse("end_at_step", f"at least {one.steps}: a pass goes to the end here")
    if isinstance(latent, Empty) and one.first > 0:
        raise here.refuse(one.strength_input, f"{0 if one.advanced else 1}, without an image")
    _check_start(here, one, latent)
    return Batch(Sampled(latent, one), samples.count, samples.origin)


def _check_start(here: Here, one: Pass, latent: object) -> None:
    if isinstance(latent, Encoded) and latent.for_inpainting and one.first > 0:
        reason = "1 with VAEEncodeForInpaint; use SetLatentNoiseMask to keep part of the image"
        raise here.refuse(one.strength_input, reason)
    before = Sampled(latent, one).passes[:-1]  # type: ignore[arg-type]  # all latents but Sampled
    if not before:
        return
    if len(before) > 1 or before[0].leaves_noise:
        raise here.refuse("latent_image", "two passes at most")
    _check_same(here, before[0], one)


def _check_same(here: Here, first: Pass, second: Pass) -> None:
    """Check that two passes differ in what our second pass may differ in: steps and strength."""
    same = {
        "model": first.model == second.model,
        "positive": first.positive == second.positive,
        "negative": first.negative == second.negative,
        "sampler_name": first.settings.sampler == second.settings.sampler,
        "scheduler": first.settings.schedule == second.settings.schedule,
        "cfg": first.settings.cfg == second.settings.cfg,
        second.seed_input: first.settings.seed == second.settings.seed,
    }
    for name, is_same in same.items():
        if not is_same:
            raise here.refuse(name, f"that of node {first.node_id}: both passes share it here")


def _refined(here: Here, one: Pass, latent: Sampled) -> Sampled:
    """Return the latents of a base model and its refiner, which goes on where the base stopped."""
    base = latent.first_pass
    if latent.refiner or len(latent.passes) > 1 or not isinstance(latent.start, Empty):
        raise here.refuse("latent_image", "empty latents, one pass, and one refiner")
    if one.adds_noise or not base.leaves_noise:
        reason = "latents are scaled up or decoded before a second pass with noise"
        raise here.refuse("latent_image", reason)
    if (one.steps, one.first) != (base.steps, base.last):
        raise here.refuse(
            "start_at_step", f"{base.last} of {base.steps} steps, where {base.node_id} stops"
        )
    if one.last < one.steps or one.leaves_noise:
        raise here.refuse("end_at_step", f"at least {one.steps}: a refiner goes to the end here")
    for name, first, second in (
        ("sampler_name", base.settings.sampler, one.settings.sampler),
        ("scheduler", base.settings.schedule, one.settings.schedule),
        ("cfg", base.settings.cfg, one.settings.cfg),
        ("positive", base.positive.texts, one.positive.texts),
        ("negative", base.negative.texts, one.negative.texts),
    ):
        if first != second:
            raise here.refuse(name, f"that of node {base.node_id}: a refiner shares it here")
    if one.model.checkpoint == base.model.checkpoint:
        raise here.refuse("model", f"another model than that of node {base.node_id}")
    return Sampled(latent.start, base, one)


def _check_conditioning(here: Here, one: Pass) -> None:
    """Check that the conditioning is of the model, and that both prompts have its ControlNets."""
    for name, given in (("positive", one.positive), ("negative", one.negative)):
        if given.clip.checkpoint != one.model.checkpoint:
            raise here.refuse(name, "must come from the CLIP of the model's checkpoint")
    if one.positive.clip.loras != one.negative.clip.loras:
        raise here.refuse("negative", "must come from a CLIP with the LoRAs of positive")
    if one.positive.clip.last_layer != one.negative.clip.last_layer:
        raise here.refuse("negative", "must come from the CLIP layer of positive")
    if one.positive.zeroed or (one.negative.zeroed and one.settings.cfg > 1):
        name = "positive" if one.positive.zeroed else "negative"
        reason = "not zeroed out, except for a negative prompt where cfg is 1"
        raise here.refuse(name, reason)
    both = tuple(control for control in one.positive.controls if not control.implied)
    if both != one.negative.controls:
        raise here.refuse("negative", "with the ControlNets of positive")


_COMMON = {
    "steps": integer(20, 1, 10_000),
    "cfg": number(8.0, 0.0, 100.0, 0.1),
    "sampler_name": listed(Listing.SAMPLERS),
    "scheduler": listed(Listing.SCHEDULERS),
    "positive": link("CONDITIONING"),
    "negative": link("CONDITIONING"),
    "latent_image": link("LATENT"),
}

SAMPLERS = (
    NodeClass(
        "KSampler",
        "sampling",
        {
            "model": link("MODEL"),
            "seed": SEEDS,
            **_COMMON,
            "denoise": number(1.0, 0.0, 1.0),
        },
        ("LATENT",),
        _ksampler,
        "KSampler",
    ),
    NodeClass(
        "KSamplerAdvanced",
        "sampling",
        {
            "model": link("MODEL"),
            "add_noise": choice("enable", "disable"),
            "noise_seed": SEEDS,
            **_COMMON,
            "start_at_step": integer(0, 0, LAST_STEP),
            "end_at_step": integer(LAST_STEP, 0, LAST_STEP),
            "return_with_leftover_noise": choice("disable", "enable"),
        },
        ("LATENT",),
        _advanced,
        "KSampler (Advanced)",
    ),
)
