"""Generation parameters: the fields that a client may send, each within its own bounds."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import Field, ValidationError

from protocol.record import Bool, Record
from protocol.request import fields
from protocol.request.classes import AskedBoxes, ClassRef
from protocol.request.client_record import ClientRecord
from protocol.request.inpainting import (
    InpaintArea,
    MaskBlur,
    MaskedContent,
    MaskGrow,
    MaskMode,
    MaskPadding,
    MaskSource,
    ResizeMode,
)
from protocol.request.object_keys import AudioFormat, OutputFormat
from protocol.request.outpainting import Anchor, Border, EdgeBlend
from protocol.request.prompts import PromptSyntax
from protocol.request.request import Control, Decoder, Loras, Priority
from protocol.request.validation_errors import first_invalid_request

P = TypeVar("P", bound=Record)


class GenerationParams(ClientRecord):
    """The fields of a request. Those left out, or null, take a default, unless the task requires
    them."""

    prompt: fields.Prompt = Field(
        default="", description="What the image shows.", examples=["a slice of pizza"]
    )
    negative_prompt: fields.Prompt = Field(
        default="", description="What the image should not show."
    )
    prompt_syntax: PromptSyntax = Field(
        default=PromptSyntax.WEIGHTS,
        description="weights: (word:1.3), [less], BREAK and <lora:name:0.8> are read as syntax; "
        "plain: a prompt is text only.",
    )
    clip_skip: fields.ClipSkip = Field(
        default=0,
        description="Layers skipped at the end of the text encoder, in addition to those that the "
        "model skips.",
    )
    model: fields.Name | None = Field(
        default=None, description="A name from /v1/models; default: the model that is served."
    )
    width: fields.Side | None = Field(
        default=None,
        description="Pixels; a multiple of the model's size_multiple. If only one side is given, "
        "the other is in proportion: of the input image, else of the model's default size. Of "
        "outpaint: any size of the result, at least that of the image.",
    )
    height: fields.Side | None = Field(default=None, description="Pixels, as width.")
    steps: fields.Steps | None = Field(default=None, description="Denoising steps.")
    sampler: fields.Name | None = Field(default=None, description="A name from /v1/samplers.")
    schedule: fields.Name | None = Field(
        default=None, description="The spacing of timesteps; a name from /v1/samplers."
    )
    eta: fields.Share | None = Field(
        default=None, description="Fresh noise in each step of ddim, from none (0) to all (1)."
    )
    guidance_scale: fields.GuidanceScale | None = Field(
        default=None,
        description="Strength of classifier-free guidance; 1 or less turns it off.",
    )
    image_guidance_scale: fields.ImageGuidanceScale | None = Field(
        default=None,
        description="img2img by a model that edits images by instructions only: how closely the "
        "result follows the image. 1 turns this guidance off; a guidance_scale of 1 or less, too.",
    )
    guidance_rescale: fields.Share = Field(
        default=0.0,
        description="Rescaling of guidance against too much contrast, from none (0) to full (1).",
    )
    guidance_start: fields.Share = Field(
        default=0.0,
        description="Share of the steps before which there is no guidance: faster, approximate.",
    )
    guidance_end: fields.Share = Field(
        default=1.0,
        description="Share of the steps after which there is no guidance; such steps cost half.",
    )
    seed: fields.AskedSeed | None = Field(
        default=None,
        description="The same request and seed give the same image. Default, and -1: a random one.",
    )
    n: fields.ImageCount = Field(
        default=1, description="Number of images; image i is generated from seed + i."
    )
    strength: fields.Strength | None = Field(
        default=None,
        description="img2img, inpaint and outpaint only: how much of the image, or of what a "
        "border holds at the start, to change, above 0 up to 1.",
    )
    noise_multiplier: fields.NoiseMultiplier | None = Field(
        default=None,
        description="img2img, inpaint and outpaint only: factor of the initial noise; default 1. "
        "Less gives smoother images, more gives more detail.",
    )
    resize_mode: ResizeMode | None = Field(
        default=None,
        description="img2img and inpaint only: how the image is resized to width x height. stretch "
        "(default); crop: the centre is used; fill: its edges are continued.",
    )
    mask_blur: MaskBlur | None = Field(
        default=None,
        description="inpaint only: pixels (sigma) by which the edge of the mask is blurred; the "
        "generated area and the image are blended there. Default 0.",
    )
    mask_grow: MaskGrow | None = Field(
        default=None,
        description="inpaint only: pixels by which the marked area grows on each side; below 0 it "
        "shrinks. Before the blur. Default 0.",
    )
    mask_invert: Bool | None = Field(
        default=None,
        description="inpaint only: true inpaints what the mask does not mark. Default false.",
    )
    mask_source: MaskSource | None = Field(
        default=None,
        description="inpaint only: file (default), or alpha: the transparent pixels of the image "
        "are inpainted, and there is no mask.",
    )
    mask_mode: MaskMode | None = Field(
        default=None,
        description="inpaint only: hard (default): grey of 128 and above is marked; soft: grey is "
        "the strength of each pixel.",
    )
    inpaint_area: InpaintArea | None = Field(
        default=None,
        description="inpaint only: whole (default), or masked: only the area around the mask is "
        "generated, in width x height (default: the model's size), and pasted into the image.",
    )
    mask_padding: MaskPadding | None = Field(
        default=None,
        description="inpaint_area masked only: pixels of the image around the mask that are "
        "generated with it. Default 32.",
    )
    masked_content: MaskedContent | None = Field(
        default=None,
        description="inpaint and outpaint only: what the marked area holds at the start: original "
        "(default of inpaint), fill (colours of its surroundings, default of outpaint), noise or "
        "nothing. Matters below strength 1.",
    )
    left: Border | None = Field(
        default=None,
        description="outpaint only: pixels to add at the left of the image. The borders and the "
        "size of the result (width, height) exclude each other.",
    )
    right: Border | None = Field(default=None, description="outpaint only: as left.")
    top: Border | None = Field(default=None, description="outpaint only: as left.")
    bottom: Border | None = Field(default=None, description="outpaint only: as left.")
    anchor: Anchor | None = Field(
        default=None,
        description="outpaint with width or height only: the place of the image in the result. "
        "Default center.",
    )
    edge_blend: EdgeBlend | None = Field(
        default=None,
        description="outpaint only: pixels of the image at the edges with a border that are "
        "blended with it. Default: a sixteenth of the model's size, or less for small images.",
    )
    noise_level: fields.NoiseLevel | None = Field(
        default=None,
        description="upscale by a model that adds noise to the image first only: how much. More "
        "lets the model invent more.",
    )
    class_id: ClassRef | None = Field(
        default=None,
        description="class only: the class to show, a number below the model's classes.",
    )
    boxes: AskedBoxes | None = Field(
        default=None,
        description="layout only: objects in boxes, a list of {class, x, y, width, height}.",
    )
    decoder: Decoder = Field(
        default=Decoder.FULL,
        description="full, or tiny if it is among the model's decoders: faster, with less detail.",
    )
    loras: Loras = Field(
        default=(),
        description="LoRAs to apply: a list of {name, weight, text_encoder_weight, block_weights, "
        "start, end}, their names among the model's loras. In a prompt, <lora:name:0.8> does the "
        "same.",
    )
    controls: tuple[Control, ...] | None = Field(
        default=None,
        max_length=fields.MAX_CONTROLS,
        description="txt2img, img2img and inpaint only: control images for ControlNets, "
        "a list of {model, image, weight, start, end}.",
    )
    previews: Bool = Field(
        default=False,
        description="Whether a running job shows small previews of its images.",
    )
    refiner: fields.Name | None = Field(
        default=None,
        description="txt2img only: the model for the last steps; one of the model's refiners.",
    )
    refiner_start: fields.SwitchPoint | None = Field(
        default=None,
        description="Share of the noise schedule after which the refiner takes over; default 0.8.",
    )
    aesthetic_score: fields.AestheticScore | None = Field(
        default=None, description="The aesthetic score a refiner is conditioned on; default 6."
    )
    hires_scale: fields.HiresScale | None = Field(
        default=None,
        description="txt2img only: generate at width x height, scale up by this, generate again.",
    )
    hires_steps: fields.Steps | None = Field(
        default=None, description="Steps of the second pass of hires_scale; default: steps."
    )
    hires_strength: fields.Strength | None = Field(
        default=None,
        description="How much the second pass of hires_scale may change; default 0.7.",
    )
    hires_upscaler: fields.Name | None = Field(
        default=None,
        description="Scale up for the second pass of hires_scale by this, one of the model's "
        "upscalers, lanczos or nearest; or scale up the latents: latent, latent-antialiased, "
        "latent-bicubic, latent-nearest or latent-nearest-exact. Default: the latents, bicubic and "
        "antialiased.",
    )
    upscaler: fields.Name | None = Field(
        default=None,
        description="upscale: upscale by this instead of a latent diffusion model. img2img with "
        "tile_size: scale the image up by this before, default lanczos. One of the model's "
        "upscalers, or lanczos or nearest.",
    )
    upscaler_2: fields.Name | None = Field(
        default=None, description="A second upscaler, whose result is mixed with the first's."
    )
    upscaler_blend: fields.Share | None = Field(
        default=None, description="Share of upscaler_2 in the result; default 0.5."
    )
    scale: fields.Scale | None = Field(
        default=None,
        description="The image becomes so many times as wide and as high; default: the scale of "
        "the upscaler, without one 4, or 1 for img2img with tile_size.",
    )
    tile_size: fields.Side | None = Field(
        default=None,
        description="img2img only: generate in overlapping tiles of so many pixels, which are "
        "blended at every step, for images up to 8192 pixels wide and high.",
    )
    tile_overlap: fields.Overlap | None = Field(
        default=None,
        description="Pixels that a tile shares with the next, up to half of tile_size; default: a "
        "quarter.",
    )
    output_format: OutputFormat = Field(
        default=OutputFormat.PNG, description="The file format of the images."
    )
    quality: fields.Quality = Field(
        default=90, description="Of JPEG, WebP and AVIF files; PNG is lossless."
    )
    metadata: Bool = Field(
        default=True,
        description="Whether the files contain the recipe of their image. False: no text at all.",
    )
    audio_format: AudioFormat | None = Field(
        default=None,
        description="For models that generate sounds: the image as a wav, flac or mp3, too.",
    )
    audio_stereo: Bool = Field(
        default=False, description="Stereo sound: left from the green channel, right from the blue."
    )
    priority: Priority = Field(
        default=Priority.NORMAL, description="Priority in the queue: high, normal or low."
    )
    deadline_s: fields.Deadline | None = Field(
        default=None,
        description="Seconds after which the job is dropped if it has not finished.",
    )


class InputImage(Record):
    """An input image as the worker reads it: a PNG stored under `key`. Sizes in pixels."""

    key: fields.InputKey
    width: fields.Side
    height: fields.Side


def parse_params(kind: type[P], values: Mapping[str, object]) -> P:
    """Return `values`, as read from JSON, as parameters or another record of that kind.

    Raises `InvalidRequest` with the name of the first wrong field.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise first_invalid_request(error) from error
