"""The values that flow along the links of a graph: descriptions, never pixels or weights.

None nests deeper than a second pass over an image, so comparing them takes bounded time.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple


class Origin(NamedTuple):
    """The input of a node from which a field of our request comes."""

    node_id: str
    input: str


@dataclass(frozen=True)
class Lora:
    """A LoRA and its weight for one network: the UNet, or the text encoder."""

    name: str
    weight: float
    origin: Origin = field(compare=False)


@dataclass(frozen=True)
class Model:
    """A MODEL: a checkpoint with LoRAs."""

    checkpoint: str
    origin: Origin = field(compare=False)
    loras: tuple[Lora, ...] = ()


@dataclass(frozen=True)
class Clip:
    """A CLIP: the text encoder of a checkpoint with LoRAs; `last_layer` counts from the end, -1."""

    checkpoint: str
    loras: tuple[Lora, ...] = ()
    last_layer: int | None = None
    origin: Origin | None = field(default=None, compare=False)


def loras_of(model: Model, clip: Clip) -> list[tuple[Lora | None, Lora | None]]:
    """Return the LoRA of each node for the UNet and for the text encoder; None: it has none."""
    of_model, of_clip = (
        {lora.origin.node_id: lora for lora in loras} for loras in (model.loras, clip.loras)
    )
    return [(of_model.get(node), of_clip.get(node)) for node in of_model | of_clip]


@dataclass(frozen=True)
class Vae:
    """A VAE: the first stage of a checkpoint, or the tiny one, which has no checkpoint."""

    checkpoint: str | None


@dataclass(frozen=True)
class ControlNet:
    name: str
    origin: Origin = field(compare=False)


@dataclass(frozen=True)
class UpscaleModel:
    name: str
    origin: Origin = field(compare=False)


@dataclass(frozen=True)
class ImageRef:
    """A stored file of the client: `folder` is input, output or temp."""

    folder: str
    name: str
    origin: Origin = field(compare=False)


@dataclass(frozen=True)
class Resize:
    """A resize of an image: to a size, or by a factor; `method` has ComfyUI's name."""

    method: str
    origin: Origin = field(compare=False)
    size: tuple[int, int] | None = None
    factor: float | None = None
    crop: bool = False


@dataclass(frozen=True)
class Padding:
    """The borders that are added to an image, in pixels."""

    left: int
    top: int
    right: int
    bottom: int
    feathering: int
    origin: Origin = field(compare=False)


@dataclass(frozen=True)
class Image:
    """An IMAGE: a file or a decoded pass, upscaled by a network, then resized or padded."""

    source: "ImageRef | Decoded"
    upscaler: UpscaleModel | None = None
    resize: Resize | None = None
    padding: Padding | None = None

    @property
    def plain(self) -> bool:
        """Return True if nothing was done to the source."""
        return (self.upscaler, self.resize, self.padding) == (None, None, None)


@dataclass(frozen=True)
class Mask:
    """A MASK: a channel of a file, or the borders of a padded image.

    It is grown by `grow` pixels on each side after it was inverted. Alpha marks what is
    transparent.
    """

    source: "ImageRef | Image"
    channel: str = "alpha"
    invert: bool = False
    grow: int = 0
    origin: Origin | None = field(default=None, compare=False)

    def inverted(self) -> "Mask":
        """Return the opposite: the inverse of a grown mask is the inverse, shrunk."""
        return replace(self, invert=not self.invert, grow=-self.grow)


@dataclass(frozen=True)
class Control:
    """A ControlNet that is applied, for prompt and negative prompt unless `whole` is False."""

    net: ControlNet
    image: Image
    strength: float
    start: float
    end: float
    origin: Origin = field(compare=False)
    implied: bool = False  # by ComfyUI, for the negative prompt, too


@dataclass(frozen=True)
class Conditioning:
    """A CONDITIONING: texts in ComfyUI's syntax, each in a row of tokens of its own.

    `zeroed`: without meaning, for a negative prompt that is not used.
    """

    clip: Clip
    texts: tuple[str, ...]
    origin: Origin = field(compare=False)
    controls: tuple[Control, ...] = ()
    zeroed: bool = False


@dataclass(frozen=True)
class Empty:
    """The LATENT of no image."""

    width: int
    height: int
    origin: Origin = field(compare=False)


@dataclass(frozen=True)
class Encoded:
    """The LATENT of an image. `for_inpainting`: what the mask marks was made grey before."""

    image: Image
    vae: Vae
    origin: Origin = field(compare=False)
    mask: Mask | None = None
    for_inpainting: bool = False


@dataclass(frozen=True)
class Enlarged:
    """A LATENT that a pass made, scaled up as latents."""

    latent: "Sampled"
    resize: Resize


@dataclass(frozen=True)
class Settings:
    """The inputs of a sampler that its passes must share."""

    sampler: str
    schedule: str
    cfg: float
    seed: int


@dataclass(frozen=True)
class Pass:
    """One run of a sampler: of `steps` steps it does those from `first` up to `last`."""

    node_id: str
    model: Model
    positive: Conditioning
    negative: Conditioning
    settings: Settings
    steps: int
    first: int
    last: int
    adds_noise: bool = True
    leaves_noise: bool = False
    advanced: bool = False

    @property
    def strength_input(self) -> str:
        return "start_at_step" if self.advanced else "denoise"

    @property
    def seed_input(self) -> str:
        return "noise_seed" if self.advanced else "seed"


@dataclass(frozen=True)
class Batch:
    """A LATENT: what it is, and how many."""

    latent: "Empty | Encoded | Enlarged | Sampled"
    count: int = 1
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Sampled:
    """The LATENT that a pass makes of another, or a refiner after it."""

    start: "Empty | Encoded | Enlarged"
    first_pass: Pass
    refiner: Pass | None = None

    @property
    def passes(self) -> tuple[Pass, ...]:
        """Return all passes, the first one first."""
        match self.start:
            case Enlarged(latent=latent) | Encoded(image=Image(source=Decoded(latent=latent))):
                before = latent.passes
            case _:
                before = ()
        return (*before, self.first_pass, *((self.refiner,) if self.refiner else ()))


@dataclass(frozen=True)
class Decoded:
    """The images of a LATENT that was sampled."""

    latent: Sampled
    count: int
    vae: Vae
    origin: Origin | None = field(default=None, compare=False)  # of the count
