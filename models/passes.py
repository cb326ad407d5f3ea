"""Second passes over a picture that has been drawn already, in whole or in part.

`refine`: another model takes the last steps (Podell et al. 2023, section 2.5). `enlarge`: the
picture is scaled up as latents, and redrawn in part at the size that the model could not have
composed at once.
"""

from __future__ import annotations

import torch.nn.functional as F

from models.denoising import Trajectory
from models.pipeline import LatentDiffusion
from models.recipe import Recipe
from models.samplers.parts import compile_rest


def refine(refiner: LatentDiffusion, recipe: Recipe, before: Trajectory) -> Trajectory:
    """What `before`, which ended at `recipe.until` of the noise schedule, goes on as.

    The latents are taken as they are. Fresh noise is drawn where it was drawn before. Raises
    ValueError if no step of the recipe is left.
    """
    table = compile_rest(
        recipe.sampler, recipe.schedule, recipe.steps, refiner.noise_schedule, recipe.until
    )
    guided = recipe.guidance_scale > 1
    return Trajectory(
        table,
        before.x,
        before.noise,
        refiner.conditioner.positive(recipe),
        refiner.conditioner.negative(recipe) if guided else None,
        recipe.guidance_scale,
        guided_between=recipe.guided_between,
    )


def enlarge(model: LatentDiffusion, recipe: Recipe, before: Trajectory) -> Trajectory:
    """The finished latents of `before` as the start of `recipe`: its size, steps and strength."""
    shape = model.latent_shape(recipe.width, recipe.height)
    larger = F.interpolate(before.x[None], size=shape[1:], mode="bicubic", antialias=True)[0]
    return model.begin(recipe, before.noise.resized(shape), larger)
