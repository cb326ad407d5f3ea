"""The request of a sampler: from text, an image, or an image with a mask or borders."""

from protocol.request.fields import SEED_LIMIT
from protocol.request.inpainting import MaskMode, ResizeMode
from protocol.request.request import Decoder
from protocol.request.tasks import Task
from service.dialects.comfyui.graph.draft import (
    Draft,
    FileUse,
    Size,
    refuse,
    strength_of,
    target_of,
)
from service.dialects.comfyui.graph.loaders import last_layer_skip
from service.dialects.comfyui.graph.offer import SAMPLERS, SCHEDULERS, Offer
from service.dialects.comfyui.graph.prompt_text import UnknownEmbedding, our_prompt
from service.dialects.comfyui.graph.second_pass import put_hires, put_refiner
from service.dialects.comfyui.graph.values import (
    Conditioning,
    Control,
    Decoded,
    Empty,
    Encoded,
    Enlarged,
    Image,
    ImageRef,
    Mask,
    Origin,
    Pass,
    Sampled,
    Vae,
    loras_of,
)

BREAK = " BREAK "


def sampled_draft(decoded: Decoded, offer: Offer) -> Draft:
    """Return the request that generates images. Raises `NodeRefused`."""
    sampled = decoded.latent
    first = sampled.passes[0]
    draft = Draft(offer, sampled.first_pass.node_id)
    if sampled.refiner is None and sampled.first_pass.last < sampled.first_pass.steps:
        origin = Origin(sampled.first_pass.node_id, "end_at_step")
        raise refuse(origin, f"at least {sampled.first_pass.steps}, or followed by a refiner")
    _put_model(draft, first)
    _put_prompts(draft, first)
    _put_sampling(draft, first)
    draft.put("n", decoded.count, decoded.origin or Origin(first.node_id, "latent_image"))
    _put_vae(draft, decoded.vae, sampled.passes)
    _put_start(draft, sampled)
    return draft


def _put_model(draft: Draft, first: Pass) -> None:
    draft.put("model", first.model.checkpoint, first.model.origin)
    pairs = loras_of(first.model, first.positive.clip)
    uses = []
    for i, (of_model, of_clip) in enumerate(pairs):
        lora = of_model or of_clip
        assert lora is not None
        weight, text_weight = (one.weight if one else 0.0 for one in (of_model, of_clip))
        uses.append({"name": lora.name, "weight": weight, "text_encoder_weight": text_weight})
        node_id = lora.origin.node_id
        draft.origins[f"loras.{i}.weight"] = Origin(node_id, "strength_model")
        draft.origins[f"loras.{i}.text_encoder_weight"] = Origin(node_id, "strength_clip")
        draft.put("loras", uses, lora.origin)


def _put_prompts(draft: Draft, first: Pass) -> None:
    for name, given in (("prompt", first.positive), ("negative_prompt", first.negative)):
        draft.put(name, _text(draft, given), given.origin)
    clip = first.positive.clip
    if skipped := last_layer_skip(draft.offer, clip):
        draft.put("clip_skip", skipped, clip.origin)


def _text(draft: Draft, given: Conditioning) -> str:
    """Return a prompt in our syntax. Only here, so that texts that are not used take no time."""
    if given.zeroed:
        return ""
    try:
        return BREAK.join(our_prompt(one, draft.offer.embeddings) for one in given.texts)
    except UnknownEmbedding as unknown:
        reason = f"there is no embedding {unknown.args[0][:100]}: see /embeddings"
        raise refuse(given.origin, reason) from None


def _put_sampling(draft: Draft, first: Pass) -> None:
    settings, node_id = first.settings, first.node_id
    for name, value, source in (
        ("steps", first.steps, "steps"),
        ("sampler", SAMPLERS[settings.sampler], "sampler_name"),
        ("schedule", SCHEDULERS[settings.schedule], "scheduler"),
        ("guidance_scale", settings.cfg, "cfg"),
        ("seed", settings.seed % SEED_LIMIT, first.seed_input),  # many programs choose 64 bits
    ):
        draft.put(name, value, Origin(node_id, source))


def _put_vae(draft: Draft, vae: Vae, passes: tuple[Pass, ...]) -> None:
    """Decode by the model's own first stage, or the tiny one."""
    if vae.checkpoint is None:
        draft.put("decoder", Decoder.TINY.value, Origin(passes[-1].node_id, "model"))
    elif vae.checkpoint not in {one.model.checkpoint for one in passes}:
        origin = Origin(passes[-1].node_id, "model")
        raise refuse(origin, f"decoded by its own VAE, not by that of {vae.checkpoint}")


def _put_start(draft: Draft, sampled: Sampled) -> None:
    match sampled.start:
        case Empty() as empty:
            _put_empty(draft, empty, sampled.first_pass)
            if sampled.refiner is not None:
                put_refiner(draft, sampled.first_pass, sampled.refiner)
        case Encoded(image=Image(source=ImageRef())) as encoded:
            _put_image(draft, encoded, sampled.first_pass)
        case Enlarged(latent=before) | Encoded(image=Image(source=Decoded(latent=before))):
            if not isinstance(before.start, Empty):
                origin = Origin(sampled.first_pass.node_id, "latent_image")
                raise refuse(origin, "a second pass after a first one from empty latents only")
            _put_empty(draft, before.start, before.first_pass)
            put_hires(draft, sampled, (before.start.width, before.start.height))


def _put_empty(draft: Draft, empty: Empty, one: Pass) -> None:
    node_id = empty.origin.node_id
    draft.put("width", empty.width, Origin(node_id, "width"))
    draft.put("height", empty.height, Origin(node_id, "height"))
    _put_controls(draft, one.positive.controls, (empty.width, empty.height))


def _put_image(draft: Draft, encoded: Encoded, one: Pass) -> None:
    """Start from a file."""
    image, ref = encoded.image, encoded.image.source
    assert isinstance(ref, ImageRef)
    if image.upscaler is not None:
        raise refuse(image.upscaler.origin, "an image is upscaled in a prompt of its own")
    draft.task = Task.IMG2IMG if encoded.mask is None else Task.INPAINT
    strength = strength_of(one.steps, one.last - one.first)
    draft.put("strength", strength, Origin(one.node_id, one.strength_input))
    draft.put_file("image", FileUse(ref))
    _put_vae(draft, encoded.vae, (one,))
    own = draft.size_of(ref)
    target = own
    if image.padding is not None:
        _put_borders(draft, encoded)
    elif (found := target_of(image, own)) is not None:
        target, resize = found
        mode = ResizeMode.CROP if resize.crop or resize.factor else ResizeMode.STRETCH
        draft.put("width", target[0], resize.origin)
        draft.put("height", target[1], Origin(resize.origin.node_id, resize.origin.input))
        draft.put("resize_mode", mode.value, resize.origin)
        if resize.crop and encoded.mask and own[0] * target[1] != own[1] * target[0]:
            raise refuse(resize.origin, "in the aspect of the image, for its mask is not cropped")
    if encoded.mask is not None and image.padding is None:
        _put_mask(draft, encoded.mask, encoded.for_inpainting)
    _put_controls(draft, one.positive.controls, target)


def _put_mask(draft: Draft, mask: Mask, for_inpainting: bool) -> None:
    """Inpaint what the mask marks; ComfyUI rounds it only where it makes the image grey."""
    if not isinstance(mask.source, ImageRef):
        raise refuse(_origin(mask, draft), "the mask of an image file")
    draft.put_file("mask", FileUse(mask.source, mask.channel))
    if mask.invert:
        draft.put("mask_invert", True, mask.origin)
    if mask.grow:
        draft.put("mask_grow", mask.grow, mask.origin)
    if not for_inpainting:
        draft.put("mask_mode", MaskMode.SOFT.value, mask.origin)


def _put_borders(draft: Draft, encoded: Encoded) -> None:
    """Outpaint an image; its mask must be that of its borders."""
    padding, mask = encoded.image.padding, encoded.mask
    assert padding is not None
    if mask is None or mask.source != encoded.image:
        raise refuse(padding.origin, "followed by VAEEncodeForInpaint with its own mask")
    draft.task = Task.OUTPAINT
    for name in ("left", "top", "right", "bottom"):
        if size := getattr(padding, name):
            draft.put(name, size, Origin(padding.origin.node_id, name))
    draft.put("edge_blend", padding.feathering, Origin(padding.origin.node_id, "feathering"))


def _put_controls(draft: Draft, controls: tuple[Control, ...], size: Size) -> None:
    """Apply ControlNets, with their images cropped to the generated aspect as ComfyUI does."""
    if not controls:
        return
    draft.put(
        "controls",
        [
            {
                "model": one.net.name,
                "weight": one.strength,
                "start": one.start,
                "end": one.end,
                "resize_mode": _control_mode(draft, one, size).value,
            }
            for one in controls
        ],
        controls[0].origin,
    )
    for i, one in enumerate(controls):
        assert isinstance(one.image.source, ImageRef)
        draft.put_file(f"controls.{i}.image", FileUse(one.image.source))
        draft.origins[f"controls.{i}.model"] = one.net.origin
        draft.origins[f"controls.{i}.weight"] = one.origin
        draft.origins[f"controls.{i}.start"] = Origin(one.origin.node_id, "start_percent")
        draft.origins[f"controls.{i}.end"] = Origin(one.origin.node_id, "end_percent")


def _control_mode(draft: Draft, control: Control, size: Size) -> ResizeMode:
    assert isinstance(control.image.source, ImageRef)
    found = target_of(control.image, draft.size_of(control.image.source))
    if found is None:
        return ResizeMode.CROP
    target, resize = found
    if target != size:
        raise refuse(resize.origin, f"{size[0]}x{size[1]}, the size that is generated")
    return ResizeMode.CROP if resize.crop else ResizeMode.STRETCH


def _origin(mask: Mask, draft: Draft) -> Origin:
    return mask.origin or Origin(draft.node_id, "latent_image")
