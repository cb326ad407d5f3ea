"""Nodes that make prompts into conditioning, and apply ControlNets to it."""

from dataclasses import replace

from protocol.request.fields import MAX_CONTROLS, MAX_PROMPT_LENGTH
from service.dialects.comfyui.graph.node_class import (
    Here,
    NodeClass,
    Outputs,
    flag,
    link,
    number,
    text,
)
from service.dialects.comfyui.graph.values import (
    Batch,
    Clip,
    Conditioning,
    Control,
    ControlNet,
    Encoded,
    Image,
    ImageRef,
    Mask,
    Vae,
)


def _encode(here: Here, text: str, clip: Clip) -> Outputs:
    if len(text) > MAX_PROMPT_LENGTH:
        raise here.refuse("text", f"at most {MAX_PROMPT_LENGTH} characters")
    return (Conditioning(clip, (text,), here.origin("text")),)


def _combine(here: Here, conditioning_1: Conditioning, conditioning_2: Conditioning) -> Outputs:
    """Combine two that are the same; ComfyUI averages what the network predicts with each."""
    if conditioning_1 != conditioning_2:
        reason = "must be conditioning_1: two prompts are not averaged here; join them in one text"
        raise here.refuse("conditioning_2", reason)
    return (conditioning_1,)


def _concat(here: Here, conditioning_to: Conditioning, conditioning_from: Conditioning) -> Outputs:
    """Append rows of tokens: what BREAK does in our prompts."""
    if conditioning_to.clip != conditioning_from.clip:
        raise here.refuse("conditioning_from", "must come from the CLIP of conditioning_to")
    if conditioning_to.zeroed or conditioning_from.zeroed:
        raise here.refuse("conditioning_from", "a zeroed conditioning cannot be joined")
    texts = (*conditioning_to.texts, *conditioning_from.texts[:1])  # ComfyUI takes the first
    if not all(one.strip() for one in texts[1:]):
        raise here.refuse("conditioning_from", "an empty prompt adds no row of tokens here")
    if len(texts) * len(" BREAK ") + sum(map(len, texts)) > MAX_PROMPT_LENGTH:
        raise here.refuse("conditioning_from", f"at most {MAX_PROMPT_LENGTH} characters in all")
    return (replace(conditioning_to, texts=texts),)


def _zero_out(here: Here, conditioning: Conditioning) -> Outputs:
    return (replace(conditioning, zeroed=True),)


def _apply(
    here: Here, conditioning: Conditioning, control_net: ControlNet, image: Image, strength: float
) -> Outputs:
    """Apply a ControlNet from the prompt to both: ComfyUI lets the negative prompt follow."""
    control = _control(here, control_net, image, strength, 0.0, 1.0)
    return (_with(here, conditioning, replace(control, implied=True)),)


def _apply_advanced(
    here: Here,
    positive: Conditioning,
    negative: Conditioning,
    control_net: ControlNet,
    image: Image,
    strength: float,
    start_percent: float,
    end_percent: float,
    vae: Vae | None,
) -> Outputs:
    control = _control(here, control_net, image, strength, start_percent, end_percent)
    return _with(here, positive, control), _with(here, negative, control)


def _control(
    here: Here, net: ControlNet, image: Image, strength: float, start: float, end: float
) -> Control:
    if not isinstance(image.source, ImageRef) or image.upscaler or image.padding:
        reason = "must come from LoadImage, at most resized: nothing else is made in between here"
        raise here.refuse("image", reason)
    return Control(net, image, strength, start, end, here.origin("strength"))


def _with(here: Here, conditioning: Conditioning, control: Control) -> Conditioning:
    """Return a conditioning with one more ControlNet; at a strength of 0 ComfyUI adds none."""
    if control.strength == 0:
        return conditioning
    if len(conditioning.controls) == MAX_CONTROLS:
        raise here.refuse("control_net", f"at most {MAX_CONTROLS} ControlNets are applied")
    return replace(conditioning, controls=(*conditioning.controls, control))


def _inpaint_model(
    here: Here,
    positive: Conditioning,
    negative: Conditioning,
    vae: Vae,
    pixels: Image,
    mask: Mask,
    noise_mask: bool,
) -> Outputs:
    """Give image and mask to an inpainting model, whose card says that it takes them."""
    if not noise_mask:
        reason = "true only: what the mask does not mark is always kept"
        raise here.refuse("noise_mask", reason)
    latent = Encoded(pixels, vae, here.origin("pixels"), mask)
    return positive, negative, Batch(latent)


CONDITIONING = (
    NodeClass(
        "CLIPTextEncode",
        "conditioning",
        {"text": text(multiline=True, dynamicPrompts=True), "clip": link("CLIP")},
        ("CONDITIONING",),
        _encode,
        "CLIP Text Encode (Prompt)",
    ),
    NodeClass(
        "ConditioningCombine",
        "conditioning",
        {"conditioning_1": link("CONDITIONING"), "conditioning_2": link("CONDITIONING")},
        ("CONDITIONING",),
        _combine,
        "Conditioning (Combine)",
    ),
    NodeClass(
        "ConditioningConcat",
        "conditioning",
        {"conditioning_to": link("CONDITIONING"), "conditioning_from": link("CONDITIONING")},
        ("CONDITIONING",),
        _concat,
        "Conditioning (Concat)",
    ),
    NodeClass(
        "ConditioningZeroOut",
        "advanced/conditioning",
        {"conditioning": link("CONDITIONING")},
        ("CONDITIONING",),
        _zero_out,
        "ConditioningZeroOut",
    ),
    NodeClass(
        "ControlNetApply",
        "conditioning/controlnet",
        {
            "conditioning": link("CONDITIONING"),
            "control_net": link("CONTROL_NET"),
            "image": link("IMAGE"),
            "strength": number(1.0, 0.0, 10.0),
        },
        ("CONDITIONING",),
        _apply,
        "Apply ControlNet (OLD)",
    ),
    NodeClass(
        "ControlNetApplyAdvanced",
        "conditioning/controlnet",
        {
            "positive": link("CONDITIONING"),
            "negative": link("CONDITIONING"),
            "control_net": link("CONTROL_NET"),
            "image": link("IMAGE"),
            "strength": number(1.0, 0.0, 10.0),
            "start_percent": number(0.0, 0.0, 1.0, 0.001),
            "end_percent": number(1.0, 0.0, 1.0, 0.001),
            "vae": link("VAE", optional=True),
        },
        ("CONDITIONING", "CONDITIONING"),
        _apply_advanced,
        "Apply ControlNet",
        ("positive", "negative"),
    ),
    NodeClass(
        "InpaintModelConditioning",
        "conditioning/inpaint",
        {
            "positive": link("CONDITIONING"),
            "negative": link("CONDITIONING"),
            "vae": link("VAE"),
            "pixels": link("IMAGE"),
            "mask": link("MASK"),
            "noise_mask": flag(True, optional=True),
        },
        ("CONDITIONING", "CONDITIONING", "LATENT"),
        _inpaint_model,
        "InpaintModelConditioning",
        ("positive", "negative", "latent"),
    ),
)
