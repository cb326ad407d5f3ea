"""Nodes that make latents, and change them between two passes."""

from dataclasses import replace

from protocol.request.fields import MAX_IMAGES
from service.dialects.comfyui.graph.node_class import (
    Here,
    NodeClass,
    Outputs,
    choice,
    integer,
    link,
    number,
)
from service.dialects.comfyui.graph.values import (
    Batch,
    Decoded,
    Empty,
    Encoded,
    Enlarged,
    Image,
    ImageRef,
    Mask,
    Resize,
    Sampled,
    Vae,
)

METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "bislerp")
CROPS = ("disabled", "center")
MAX_RESOLUTION = 16384
TILES = {
    "tile_size": integer(512, 64, 4096, 64),
    "overlap": integer(64, 0, 4096, 32, optional=True),
    "temporal_size": integer(64, 8, 4096, 4, optional=True),
    "temporal_overlap": integer(8, 4, 4096, 4, optional=True),
}


def _empty(here: Here, width: int, height: int, batch_size: int) -> Outputs:
    return (
        Batch(Empty(width, height, here.origin("width")), batch_size, here.origin("batch_size")),
    )


def _encode(here: Here, pixels: Image, vae: Vae, **_tiles: int) -> Outputs:
    """Encode an image; whether that is done in tiles is up to the worker."""
    if pixels.padding is not None:
        raise here.refuse("pixels", "borders are outpainted by VAEEncodeForInpaint here")
    count = pixels.source.count if isinstance(pixels.source, Decoded) else 1
    return (Batch(Encoded(pixels, vae, here.origin("pixels")), count),)


def _encode_for_inpainting(
    here: Here, pixels: Image, vae: Vae, mask: Mask, grow_mask_by: int
) -> Outputs:
    """Encode an image without what the mask marks, which ComfyUI grows by a square of this side."""
    if not isinstance(pixels.source, ImageRef) or pixels.upscaler:
        raise here.refuse("pixels", "must come from LoadImage")
    grown = replace(mask, origin=here.origin("grow_mask_by"))
    if pixels.padding is None:
        grown = replace(grown, grow=mask.grow + grow_mask_by // 2)
    encoded = Encoded(pixels, vae, here.origin("pixels"), grown, for_inpainting=True)
    return (Batch(encoded),)


def _set_mask(here: Here, samples: Batch, mask: Mask) -> Outputs:
    """Mark what is sampled."""
    latent = samples.latent
    if not isinstance(latent, Encoded) or isinstance(latent.image.source, Decoded):
        raise here.refuse("samples", "the latents of an image file: VAEEncode of LoadImage")
    if latent.mask is not None:
        raise here.refuse("mask", "latents have one mask here")
    return (replace(samples, latent=replace(latent, mask=mask)),)


def _repeat(here: Here, samples: Batch, amount: int) -> Outputs:
    if isinstance(samples.latent, Sampled | Enlarged):
        raise here.refuse("samples", "images are repeated before the first pass")
    if samples.count * amount > MAX_IMAGES:
        raise here.refuse("amount", f"at most {MAX_IMAGES} images in all")
    return (replace(samples, count=samples.count * amount, origin=here.origin("amount")),)


def _upscale(
    here: Here, samples: Batch, upscale_method: str, width: int, height: int, crop: str
) -> Outputs:
    if width == 0 or height == 0:
        raise here.refuse("width" if width == 0 else "height", "at least 1")
    resize = Resize(
        upscale_method, here.origin("width"), size=(width, height), crop=crop == "center"
    )
    return (_enlarged(here, samples, resize),)


def _upscale_by(here: Here, samples: Batch, upscale_method: str, scale_by: float) -> Outputs:
    resize = Resize(upscale_method, here.origin("scale_by"), factor=scale_by)
    return (_enlarged(here, samples, resize),)


def _enlarged(here: Here, samples: Batch, resize: Resize) -> Batch:
    if not isinstance(samples.latent, Sampled) or len(samples.latent.passes) > 1:
        raise here.refuse("samples", "the latents of a first KSampler")
    return replace(samples, latent=Enlarged(samples.latent, resize))


def _decode(here: Here, samples: Batch, vae: Vae, **_tiles: int) -> Outputs:
    """Decode what was sampled; whether that is done in tiles is up to the worker."""
    if not isinstance(samples.latent, Sampled):
        raise here.refuse("samples", "latents that a sampler made: there is nothing to do")
    return (Image(Decoded(samples.latent, samples.count, vae, samples.origin)),)


_UPSCALED = {"samples": link("LATENT"), "upscale_method": choice(*METHODS)}

LATENTS = (
    NodeClass(
        "EmptyLatentImage",
        "latent",
        {
            "width": integer(512, 16, MAX_RESOLUTION, 8),
            "height": integer(512, 16, MAX_RESOLUTION, 8),
            "batch_size": integer(1, 1, 4096),
        },
        ("LATENT",),
        _empty,
        "Empty Latent Image",
    ),
    NodeClass(
        "VAEEncode",
        "latent",
        {"pixels": link("IMAGE"), "vae": link("VAE")},
        ("LATENT",),
        _encode,
        "VAE Encode",
    ),
    NodeClass(
        "VAEEncodeTiled",
        "_for_testing",
        {"pixels": link("IMAGE"), "vae": link("VAE"), **TILES},
        ("LATENT",),
        _encode,
        "VAE Encode (Tiled)",
    ),
    NodeClass(
        "VAEEncodeForInpaint",
        "latent/inpaint",
        {
            "pixels": link("IMAGE"),
            "vae": link("VAE"),
            "mask": link("MASK"),
            "grow_mask_by": integer(6, 0, 64),
        },
        ("LATENT",),
        _encode_for_inpainting,
        "VAE Encode (for Inpainting)",
    ),
    NodeClass(
        "SetLatentNoiseMask",
        "latent/inpaint",
        {"samples": link("LATENT"), "mask": link("MASK")},
        ("LATENT",),
        _set_mask,
        "Set Latent Noise Mask",
    ),
    NodeClass(
        "RepeatLatentBatch",
        "latent/batch",
        {"samples": link("LATENT"), "amount": integer(1, 1, 64)},
        ("LATENT",),
        _repeat,
        "Repeat Latent Batch",
    ),
    NodeClass(
        "LatentUpscale",
        "latent",
        {
            **_UPSCALED,
            "width": integer(512, 0, MAX_RESOLUTION, 8),
            "height": integer(512, 0, MAX_RESOLUTION, 8),
            "crop": choice(*CROPS),
        },
        ("LATENT",),
        _upscale,
        "Upscale Latent",
    ),
    NodeClass(
        "LatentUpscaleBy",
        "latent",
        {**_UPSCALED, "scale_by": number(1.5, 0.01, 8.0)},
        ("LATENT",),
        _upscale_by,
        "Upscale Latent By",
    ),
    NodeClass(
        "VAEDecode",
        "latent",
        {"samples": link("LATENT"), "vae": link("VAE")},
        ("IMAGE",),
        _decode,
        "VAE Decode",
    ),
    NodeClass(
        "VAEDecodeTiled",
        "_for_testing",
        {"samples": link("LATENT"), "vae": link("VAE"), **TILES},
        ("IMAGE",),
        _decode,
        "VAE Decode (Tiled)",
    ),
)
