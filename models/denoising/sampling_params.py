"""One picture, complete: what the networks of a model are asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from models.networks.controlnet import ControlNet
from models.text.wording import Wording


@dataclass(frozen=True)
class ControlPicture:
    """What one ControlNet is shown: image (3, H, W) in [0, 1], scaled to the picture's size.

    weight: of what it says. between: the shares of the steps at which it is heard.
    """

    net: ControlNet
    image: Tensor
    weight: float = 1.0
    between: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Box:
    """Where something of a class is to be: left upper corner and extent, as shares of the sides."""

    class_id: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class SamplingParams:
    """What `LatentDiffusion.start` needs beside the model.

    image (3, H, W) in [-1, 1] is what img2img and inpainting start from, mask (1, H, W) is 1
    where the picture is repainted. width and height are those of the picture, in pixels.
    guided_between: the shares of the steps between which guidance is applied. guidance_rescale in
    [0, 1]: how far guidance is kept from raising contrast. eta in [0, 1]: how much fresh noise a
    step of "ddim" adds. until: the share of the noise schedule after which another model goes on,
    as SDXL's refiner does (Podell et al. 2023, section 2.5). aesthetic_score is what the refiner is
    told, about 1 to 10. clip_skip: how many layers are left out at the end of a CLIP text encoder,
    beyond those the model leaves out.

    For the paper's other tasks: class_id; boxes; small (3, h, w) in [-1, 1], the picture that is to
    be upscaled; labels (1, H, W), the number of a class for each pixel.
    """

    prompt: str | Wording = ""
    negative_prompt: str | Wording = ""
    width: int = 512
    height: int = 512
    steps: int = 30
    sampler: str = "dpmpp_2m"
    schedule: str = "trailing"
    eta: float = 0.0
    guidance_scale: float = 7.5
    guidance_rescale: float = 0.0
    guided_between: tuple[float, float] = (0.0, 1.0)
    seed: int = 0
    strength: float = 1.0
    image: Tensor | None = None
    mask: Tensor | None = None
    controls: tuple[ControlPicture, ...] = ()
    until: float = 1.0
    aesthetic_score: float = 6.0
    class_id: int = 0
    boxes: tuple[Box, ...] = ()
    small: Tensor | None = None
    labels: Tensor | None = None
    clip_skip: int = 0
