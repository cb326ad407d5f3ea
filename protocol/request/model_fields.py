"""Fields that only models of some kinds read."""

from protocol.errors import InvalidRequest
from protocol.request.generation_params import GenerationParams
from protocol.request.model_card import ModelCard
from protocol.request.tasks import Task


def checked_aesthetic_score(params: GenerationParams, card: ModelCard) -> float | None:
    """Return the aesthetic score. Raises `InvalidRequest` if no network reads it."""
    score = params.aesthetic_score
    if score is not None and params.refiner is None and not card.reads_aesthetic_score:
        bound = f"absent: {card.name} reads none"
        raise InvalidRequest("aesthetic_score", score, bound, "not-for-this-model")
    return score


def checked_image_guidance_scale(
    task: Task, params: GenerationParams, card: ModelCard
) -> float | None:
    """Return the image guidance scale of a model that edits images, None of any other.

    Raises `InvalidRequest` if it is given for another model.
    """
    scale = params.image_guidance_scale
    if scale is not None and card.default_image_guidance_scale is None:
        bound = f"absent: {card.name} does not edit images by instructions"
        raise InvalidRequest("image_guidance_scale", scale, bound, "not-for-this-model")
    if not task.takes("image_guidance_scale"):
        return None
    return card.default_image_guidance_scale if scale is None else scale


def check_depth_map(given: bool, task: Task, card: ModelCard) -> None:
    """Raise `InvalidRequest` if a model that reads a depth map gets none, or any other gets one."""
    if given and not card.reads_depth_map:
        bound = f"absent: {card.name} reads no depth map"
        raise InvalidRequest("depth_map", "given", bound, "not-for-this-model")
    if card.reads_depth_map and task.takes("depth_map") and not given:
        bound = f"given: {card.name} is conditioned on the depth of the image"
        raise InvalidRequest("depth_map", None, bound, "missing-field")


def checked_noise_level(task: Task, params: GenerationParams, card: ModelCard) -> int | None:
    """Return the noise level of a model that adds noise to the image it upscales, else None.

    Raises `InvalidRequest` if it is given for another model, or above the model's bound.
    """
    level = params.noise_level
    if level is not None and card.default_noise_level is None:
        bound = f"absent: {card.name} adds no noise to the image"
        raise InvalidRequest("noise_level", level, bound, "not-for-this-model")
    if level is not None and level > card.max_noise_level:
        bound = f"at most {card.max_noise_level}"
        raise InvalidRequest("noise_level", level, bound, "noise-level-too-large")
    if not task.takes("noise_level"):
        return None
    return card.default_noise_level if level is None else level
