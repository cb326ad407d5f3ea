"""Nodes that name models and files of the operator, and the prompt's text encoder."""

from dataclasses import replace

from protocol.request.fields import MAX_LORAS
from service.dialects.comfyui.graph.node_class import (
    Here,
    Listing,
    NodeClass,
    Outputs,
    integer,
    link,
    listed,
    number,
)
from service.dialects.comfyui.graph.offer import TINY_VAE, Offer
from service.dialects.comfyui.graph.values import (
    Clip,
    ControlNet,
    Lora,
    Model,
    UpscaleModel,
    Vae,
)

WITH_PENULTIMATE = "sdxl"  # the family whose text encoders stop before their last layer


def _checkpoint(here: Here, ckpt_name: str) -> Outputs:
    origin = here.origin("ckpt_name")
    return Model(ckpt_name, origin), Clip(ckpt_name), Vae(ckpt_name)


def _vae(here: Here, vae_name: str) -> Outputs:
    return (Vae(None if vae_name == TINY_VAE else vae_name),)


def _lora(
    here: Here,
    model: Model,
    clip: Clip,
    lora_name: str,
    strength_model: float,
    strength_clip: float,
) -> Outputs:
    """Add a LoRA to the UNet and to the text encoder."""
    return (
        replace(model, loras=_added(here, model.loras, lora_name, strength_model)),
        replace(clip, loras=_added(here, clip.loras, lora_name, strength_clip)),
    )


def _lora_of_model(here: Here, model: Model, lora_name: str, strength_model: float) -> Outputs:
    """Add a LoRA to the UNet alone."""
    return (replace(model, loras=_added(here, model.loras, lora_name, strength_model)),)


def _added(here: Here, loras: tuple[Lora, ...], name: str, weight: float) -> tuple[Lora, ...]:
    """Return `loras` and one more; at a weight of 0 ComfyUI adds nothing."""
    if weight == 0:
        return loras
    if len(loras) == MAX_LORAS:
        raise here.refuse("lora_name", f"at most {MAX_LORAS} LoRAs are applied to a model")
    return (*loras, Lora(name, weight, here.origin("lora_name")))


def _last_layer(here: Here, clip: Clip, stop_at_clip_layer: int) -> Outputs:
    origin = here.origin("stop_at_clip_layer")
    card = here.offer.cards[clip.checkpoint]
    if card.family == WITH_PENULTIMATE and stop_at_clip_layer == -1:
        reason = f"at most -2: the text encoders of {card.name} stop there"
        raise here.refuse("stop_at_clip_layer", reason)
    return (replace(clip, last_layer=stop_at_clip_layer, origin=origin),)


def last_layer_skip(offer: Offer, clip: Clip) -> int:
    """Return the layers that are skipped in addition to those that the model skips."""
    if clip.last_layer is None:
        return 0
    own = 2 if offer.cards[clip.checkpoint].family == WITH_PENULTIMATE else 1
    return -clip.last_layer - own


def _controlnet(here: Here, control_net_name: str) -> Outputs:
    return (ControlNet(control_net_name, here.origin("control_net_name")),)


def _upscaler(here: Here, model_name: str) -> Outputs:
    return (UpscaleModel(model_name, here.origin("model_name")),)


def _none(here: Here, **names: str) -> Outputs:
    """Refuse a part of a model by itself; its list of names is empty, so this is not reached."""
    raise here.refuse(next(iter(names)), "models here are whole checkpoints")


LOADERS = (
    NodeClass(
        "CheckpointLoaderSimple",
        "loaders",
        {"ckpt_name": listed(Listing.CHECKPOINTS)},
        ("MODEL", "CLIP", "VAE"),
        _checkpoint,
        "Load Checkpoint",
    ),
    NodeClass(
        "VAELoader", "loaders", {"vae_name": listed(Listing.VAES)}, ("VAE",), _vae, "Load VAE"
    ),
    NodeClass(
        "LoraLoader",
        "loaders",
        {
            "model": link("MODEL"),
            "clip": link("CLIP"),
            "lora_name": listed(Listing.LORAS),
            "strength_model": number(1.0, -100.0, 100.0),
            "strength_clip": number(1.0, -100.0, 100.0),
        },
        ("MODEL", "CLIP"),
        _lora,
        "Load LoRA",
    ),
    NodeClass(
        "LoraLoaderModelOnly",
        "loaders",
        {
            "model": link("MODEL"),
            "lora_name": listed(Listing.LORAS),
            "strength_model": number(1.0, -100.0, 100.0),
        },
        ("MODEL",),
        _lora_of_model,
        "LoraLoaderModelOnly",
    ),
    NodeClass(
        "CLIPSetLastLayer",
        "conditioning",
        {"clip": link("CLIP"), "stop_at_clip_layer": integer(-1, -24, -1)},
        ("CLIP",),
        _last_layer,
        "CLIP Set Last Layer",
    ),
    NodeClass(
        "ControlNetLoader",
        "loaders",
        {"control_net_name": listed(Listing.CONTROLNETS)},
        ("CONTROL_NET",),
        _controlnet,
        "Load ControlNet Model",
    ),
    NodeClass(
        "UpscaleModelLoader",
        "loaders",
        {"model_name": listed(Listing.UPSCALERS)},
        ("UPSCALE_MODEL",),
        _upscaler,
        "Load Upscale Model",
    ),
    NodeClass(
        "UNETLoader",
        "advanced/loaders",
        {"unet_name": listed(Listing.PARTS), "weight_dtype": listed(Listing.PARTS)},
        ("MODEL",),
        _none,
        "Load Diffusion Model",
    ),
    NodeClass(
        "CLIPLoader",
        "advanced/loaders",
        {"clip_name": listed(Listing.PARTS), "type": listed(Listing.PARTS)},
        ("CLIP",),
        _none,
        "Load CLIP",
    ),
    NodeClass(
        "DualCLIPLoader",
        "advanced/loaders",
        {
            "clip_name1": listed(Listing.PARTS),
            "clip_name2": listed(Listing.PARTS),
            "type": listed(Listing.PARTS),
        },
        ("CLIP",),
        _none,
        "DualCLIPLoader",
    ),
)
