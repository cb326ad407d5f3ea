"""Nodes that load, resize, upscale and save images."""

import re
from dataclasses import replace

from protocol.request.fields import MAX_SIDE
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
    text,
)
from service.dialects.comfyui.graph.values import (
    Image,
    ImageRef,
    Mask,
    Padding,
    Resize,
    UpscaleModel,
)

FOLDERS = ("input", "output", "temp")
ANNOTATED = re.compile(r"(.*?) ?\[(input|output|temp)\]", re.DOTALL)  # a name with its folder
METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "lanczos")
CROPS = ("disabled", "center")
MAX_RESOLUTION = 16384
MAX_PREFIX = 100  # characters
PREFIX = re.compile(r"[\w \-.()%,+=@#]+(/[\w \-.()%,+=@#]+)*")
UPLOADS = {"image_upload": True}


def file_of(name: str) -> tuple[str, str]:
    """Return folder and name of a file as nodes name it: "a.png", "sub/a.png", "a.png [output]"."""
    found = ANNOTATED.fullmatch(name)
    return (found[2], found[1]) if found else ("input", name)


def loaded(here: Here, name: str) -> ImageRef:
    """Return a file of the client. Raises `NodeRefused` if there is none."""
    folder, plain = file_of(name)
    if (folder, plain) not in here.offer.files:
        raise here.refuse("image", f"Invalid image file: {name[:200]}")
    return ImageRef(folder, plain, here.origin("image"))


def _load(here: Here, image: str) -> Outputs:
    file = loaded(here, image)
    return Image(file), Mask(file, "alpha", origin=here.origin("image"))


def _scale(
    here: Here, image: Image, upscale_method: str, width: int, height: int, crop: str
) -> Outputs:
    """Resize an image to a size; a side of 0 keeps the aspect, which only a file's size tells."""
    if width == 0 or height == 0:
        raise here.refuse("width" if width == 0 else "height", "at least 1")
    origin = here.origin("width")
    resize = Resize(upscale_method, origin, size=(width, height), crop=crop == "center")
    return (_resized(here, image, resize),)


def _scale_by(here: Here, image: Image, upscale_method: str, scale_by: float) -> Outputs:
    resize = Resize(upscale_method, here.origin("scale_by"), factor=scale_by)
    return (_resized(here, image, resize),)


def _resized(here: Here, image: Image, resize: Resize) -> Image:
    if image.resize or image.padding:
        raise here.refuse("image", "an image is resized once here")
    return replace(image, resize=resize)


def _upscale(here: Here, upscale_model: UpscaleModel, image: Image) -> Outputs:
    if not image.plain:
        raise here.refuse("image", "an upscaler reads an image that nothing was done to here")
    return (replace(image, upscaler=upscale_model),)


def _pad(
    here: Here, image: Image, left: int, top: int, right: int, bottom: int, feathering: int
) -> Outputs:
    """Add borders, which are outpainted: the mask marks them."""
    if not image.plain or not isinstance(image.source, ImageRef):
        raise here.refuse("image", "must come from LoadImage: nothing is made in between here")
    origin = here.origin("left")
    padded = replace(image, padding=Padding(left, top, right, bottom, feathering, origin))
    return padded, Mask(padded, origin=origin)


def _save(here: Here, images: Image, filename_prefix: str) -> Outputs:
    """Save images. A prefix with slashes is a folder; nothing in it reaches a file system."""
    prefix = filename_prefix
    if len(prefix) > MAX_PREFIX or not PREFIX.fullmatch(prefix) or ".." in prefix:
        reason = f"up to {MAX_PREFIX} letters, digits and -_.()%,+=@#, with / between folders"
        raise here.refuse("filename_prefix", reason)
    return images, prefix


def _preview(here: Here, images: Image) -> Outputs:
    return (images,)


IMAGES = (
    NodeClass(
        "LoadImage",
        "image",
        {"image": listed(Listing.IMAGES, **UPLOADS)},
        ("IMAGE", "MASK"),
        _load,
        "Load Image",
    ),
    NodeClass(
        "ImageScale",
        "image/upscaling",
        {
            "image": link("IMAGE"),
            "upscale_method": choice(*METHODS),
            "width": integer(512, 0, MAX_RESOLUTION),
            "height": integer(512, 0, MAX_RESOLUTION),
            "crop": choice(*CROPS),
        },
        ("IMAGE",),
        _scale,
        "Upscale Image",
    ),
    NodeClass(
        "ImageScaleBy",
        "image/upscaling",
        {
            "image": link("IMAGE"),
            "upscale_method": choice(*METHODS),
            "scale_by": number(1.0, 0.01, 8.0),
        },
        ("IMAGE",),
        _scale_by,
        "Upscale Image By",
    ),
    NodeClass(
        "ImageUpscaleWithModel",
        "image/upscaling",
        {"upscale_model": link("UPSCALE_MODEL"), "image": link("IMAGE")},
        ("IMAGE",),
        _upscale,
        "Upscale Image (using Model)",
    ),
    NodeClass(
        "ImagePadForOutpaint",
        "image",
        {
            "image": link("IMAGE"),
            "left": integer(0, 0, MAX_SIDE, 8),
            "top": integer(0, 0, MAX_SIDE, 8),
            "right": integer(0, 0, MAX_SIDE, 8),
            "bottom": integer(0, 0, MAX_SIDE, 8),
            "feathering": integer(40, 0, MAX_SIDE),
        },
        ("IMAGE", "MASK"),
        _pad,
        "Pad Image for Outpainting",
    ),
    NodeClass(
        "SaveImage",
        "image",
        {"images": link("IMAGE"), "filename_prefix": text("ComfyUI")},
        (),
        _save,
        "Save Image",
        is_output=True,
    ),
    NodeClass(
        "PreviewImage",
        "image",
        {"images": link("IMAGE")},
        (),
        _preview,
        "Preview Image",
        is_output=True,
    ),
    NodeClass(
        "SaveImageWebsocket",
        "api/image",
        {"images": link("IMAGE")},
        (),
        _preview,
        "SaveImageWebsocket",
        is_output=True,
    ),
)
