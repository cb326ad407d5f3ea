"""A second pass as a field of our request: hires fix, or a refiner."""

from collections.abc import Mapping

from service.dialects.comfyui.graph.draft import (
    Draft,
    Size,
    refuse,
    scale_of,
    strength_of,
    upscaler_scale,
)
from service.dialects.comfyui.graph.values import (
    Decoded,
    Encoded,
    Enlarged,
    Image,
    Origin,
    Pass,
    Sampled,
)

# ComfyUI's ways to scale up latents and pixels -> ours.
LATENT_METHODS: Mapping[str, str] = {
    "bilinear": "latent",
    "bicubic": "latent-bicubic",
    "nearest-exact": "latent-nearest-exact",
}
PIXEL_METHODS: Mapping[str, str] = {"lanczos": "lanczos", "nearest-exact": "nearest"}
UNIT = 8
# With these, the share of steps is the share of the noise schedule.
EVEN_SCHEDULES = ("normal", "simple", "sgm_uniform", "ddim_uniform")


def put_hires(draft: Draft, sampled: Sampled, first_size: Size) -> None:
    """Add the second pass over what the first one made, scaled up."""
    one = sampled.first_pass
    match sampled.start:
        case Enlarged(resize=resize):
            _check_method(resize.method, LATENT_METHODS, resize.origin)
            draft.put("hires_upscaler", LATENT_METHODS[resize.method], resize.origin)
            scale, origin = scale_of(resize, first_size, UNIT), resize.origin
        case Encoded(image=image, vae=vae):
            assert isinstance(image.source, Decoded)
            if {vae.checkpoint, image.source.vae.checkpoint} != {one.model.checkpoint}:
                raise refuse(Origin(one.node_id, "model"), "encoded and decoded by its own VAE")
            scale, origin = _put_pixel_upscaler(draft, image, first_size, one)
        case _:
            raise AssertionError("a second pass starts from a first one")
    draft.put("hires_scale", scale, origin)
    draft.put("hires_steps", one.steps, Origin(one.node_id, "steps"))
    strength = strength_of(one.steps, one.last - one.first)
    draft.put("hires_strength", strength, Origin(one.node_id, one.strength_input))


def _put_pixel_upscaler(
    draft: Draft, image: Image, first_size: Size, one: Pass
) -> tuple[float, Origin]:
    """Add what scales up pixels; return the scale, and where it comes from."""
    resize, upscaler = image.resize, image.upscaler
    if upscaler is not None:
        draft.put("hires_upscaler", upscaler.name, upscaler.origin)
        own = float(upscaler_scale(draft.offer, upscaler.name))
        if resize is None:
            return own, upscaler.origin
        scale = scale_of(resize, first_size, UNIT)
        return (scale if resize.factor is None else own * scale), resize.origin
    if resize is None:
        origin = Origin(one.node_id, "latent_image")
        raise refuse(origin, "scaled up after the first pass: two passes of a size are not done")
    _check_method(resize.method, PIXEL_METHODS, resize.origin)
    draft.put("hires_upscaler", PIXEL_METHODS[resize.method], resize.origin)
    return scale_of(resize, first_size, UNIT), resize.origin


def put_refiner(draft: Draft, base: Pass, refiner: Pass) -> None:
    """Let the refiner take over where the base model stops."""
    if base.settings.schedule not in EVEN_SCHEDULES:
        bound = f"one of {', '.join(EVEN_SCHEDULES)}, for a refiner"
        raise refuse(Origin(base.node_id, "scheduler"), bound)
    draft.put("refiner", refiner.model.checkpoint, refiner.model.origin)
    start = base.last / base.steps
    draft.put("refiner_start", start, Origin(refiner.node_id, "start_at_step"))


def _check_method(method: str, known: Mapping[str, str], origin: Origin) -> None:
    if method not in known:
        bound = f"upscale_method must be one of {', '.join(known)}"
        raise refuse(origin, bound)
