"""Refuses by name the parts of AUTOMATIC1111's API that are not possible here.

A field that is switched off, or has no effect, is accepted.
"""

from protocol.errors import InvalidRequest
from service.dialects.automatic1111.requests import Generation, ImageToImage, TextToImage

SAME_CHECKPOINT = ("", "none", "use same checkpoint")
SAME_SAMPLER = ("", "none", "use same sampler")
SAME_SCHEDULER = ("", "none", "use same scheduler", "automatic")


def check_supported(body: Generation) -> None:
    """Raise `InvalidRequest` for the first field that would change the image and is not done."""
    _refuse_if(body.restore_faces, "restore_faces", True, "false: there is no face restorer here")
    _refuse_if(body.tiling, "tiling", True, "false: images that tile are not made here")
    strength = body.subseed_strength
    _refuse_if(strength != 0, "subseed_strength", strength, "0: there are no variation seeds here")
    for field, side in (("seed_resize_from_w", body.width), ("seed_resize_from_h", body.height)):
        value = getattr(body, field)
        _refuse_if(value > 0 and value != side, field, value, "0 or less, or the image's own side")
    if isinstance(body, TextToImage) and body.enable_hr:
        _check_hires(body)
    if isinstance(body, ImageToImage) and body.init_images:
        _check_image(body)


def _check_hires(body: TextToImage) -> None:
    """Check that the second pass of hires fix differs from the first in size and strength only."""
    checkpoint = body.hr_checkpoint_name
    _refuse_if(
        checkpoint.lower() not in SAME_CHECKPOINT,
        "hr_checkpoint_name",
        checkpoint,
        "left out: both passes have the same checkpoint",
    )
    for field, first, same in (
        ("hr_sampler_name", body.sampler_name or body.sampler_index, SAME_SAMPLER),
        ("hr_scheduler", body.scheduler, SAME_SCHEDULER),
    ):
        name = getattr(body, field)
        is_same = name.lower() in (*same, first.lower())
        _refuse_if(not is_same, field, name, "left out, or that of the first pass")
    for field, first in (("hr_prompt", body.prompt), ("hr_negative_prompt", body.negative_prompt)):
        is_same = getattr(body, field) in ("", first)
        _refuse_if(not is_same, field, "another", "left out, or that of the first pass")
    _refuse_if(bool(body.firstpass_image), "firstpass_image", "given", "left out")


def _check_image(body: ImageToImage) -> None:
    masked_only = bool(body.mask) and body.inpaint_full_res
    _refuse_if(
        body.resize_mode == 3 and not masked_only,
        "resize_mode",
        3,
        "0, 1 or 2: an image is not scaled up by its latents here",
    )
    _refuse_if(
        body.latent_mask not in ("", body.mask), "latent_mask", "given", "left out, or the mask"
    )


def _refuse_if(refused: bool, field: str, value: object, bound: str) -> None:
    if refused:
        raise InvalidRequest(field, value, bound, "not-supported")
