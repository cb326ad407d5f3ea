"""The request bodies of AUTOMATIC1111's API: the fields that are read, in its own types.

Every field may be left out or null, and numbers may be text. A field without a default here takes
that of the model. All other fields are ignored: clients send their own, passwords among them.
"""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protocol.errors import InvalidRequest
from protocol.request.fields import MAX_PROMPT_LENGTH, MAX_SIDE
from protocol.request.validation_errors import first_invalid_request
from service.dialects.lenient import coerced
from service.schemas.body_parser import Fields, text_fields
from service.schemas.examples import IMAGE

B = TypeVar("B", bound="WebuiBody")

MAX_BATCH = 16  # images of extra-batch-images
DENOISING_STRENGTH = 0.75  # of img2img and of hires fix


class WebuiBody(BaseModel):
    """A request body of this API."""

    model_config = ConfigDict(
        extra="ignore", allow_inf_nan=False, protected_namespaces=(), use_enum_values=True
    )


def parse_body(kind: type[B], fields: Fields) -> B:
    """Return the fields of a body that `kind` has. Raises `InvalidRequest` for the first wrong."""
    texts = text_fields(kind)
    for name in kind.model_fields.keys() & fields.keys():
        _check_unicode(name, fields[name])
    given = {name: value for name, value in fields.items() if value != "" or name in texts}
    try:
        return kind.model_validate(coerced(given, kind))
    except ValidationError as error:
        raise first_invalid_request(error) from error


def _check_unicode(field: str, value: object) -> None:
    """Raise `InvalidRequest` for half of a character, which JSON can hold and no answer can."""
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            bound = "a string of whole Unicode characters"
            raise InvalidRequest(field, value, bound, "text-not-unicode") from error


class Generation(WebuiBody):
    """The fields that txt2img and img2img share."""

    prompt: str = Field(default="", max_length=MAX_PROMPT_LENGTH, examples=["a slice of pizza"])
    negative_prompt: str = Field(default="", max_length=MAX_PROMPT_LENGTH)
    styles: list[Any] = Field(default=[], description="Ignored: there are no styles here.")
    seed: int = Field(default=-1, description="-1: a random one. Image i has seed + i.")
    subseed: int = -1
    subseed_strength: float = Field(default=0.0, description="0 only.")
    seed_resize_from_h: int = Field(default=-1, description="0 or less, or the height.")
    seed_resize_from_w: int = Field(default=-1, description="0 or less, or the width.")
    sampler_name: str = Field(default="", description="A name or alias of /sdapi/v1/samplers.")
    sampler_index: str = Field(default="", description="The sampler if sampler_name is absent.")
    scheduler: str = Field(default="", description="A name or label of /sdapi/v1/schedulers.")
    batch_size: int = 1
    n_iter: int = Field(default=1, description="In all, batch_size x n_iter images.")
    steps: int | None = None
    cfg_scale: float | None = None
    width: int | None = None
    height: int | None = None
    restore_faces: bool = Field(default=False, description="False only.")
    tiling: bool = Field(default=False, description="False only.")
    eta: float | None = Field(default=None, description="For DDIM; with other samplers 1 or null.")
    s_min_uncond: float | None = Field(default=None, description="0 or null only.")
    s_churn: float | None = Field(default=None, description="0 or null, where a sampler reads it.")
    s_tmax: float | None = None
    s_tmin: float | None = None
    s_noise: float | None = Field(default=None, description="1 or null, where a sampler reads it.")
    denoising_strength: float | None = Field(
        default=None, description="0.75 by default; txt2img has it with enable_hr only."
    )
    refiner_checkpoint: str = Field(default="", description="One of the model's refiners.")
    refiner_switch_at: float | None = None
    disable_extra_networks: bool = Field(
        default=False, description="Take the LoRAs out of the prompt and apply none."
    )
    override_settings: dict[str, Any] = Field(
        default={}, description="Options for this request only; see /sdapi/v1/options."
    )
    clip_skip: int | None = Field(
        default=None, description="As CLIP_stop_at_last_layers of override_settings."
    )
    model: str = Field(default="", description="As sd_model_checkpoint of override_settings.")
    script_name: str = Field(default="", description="Empty only: there are no such scripts.")
    script_args: list[Any] = []
    alwayson_scripts: dict[str, Any] = Field(
        default={}, description="ControlNet; other scripts only if they are switched off."
    )
    send_images: bool = True
    save_images: bool = Field(default=False, description="Ignored: nothing is saved as a file.")
    force_task_id: str = Field(
        default="", max_length=200, description="The id of the task for /internal/progress."
    )
    infotext: str = Field(
        default="", description="Parameters in a text, for fields that are not given."
    )


class TextToImage(Generation):
    """The body of txt2img."""

    enable_hr: bool = Field(
        default=False, description="Hires fix; without it the fields of hires fix are ignored."
    )
    hr_scale: float = 2.0
    hr_upscaler: str = Field(
        default="",
        description="Latent (default), or another of latent-upscale-modes or of upscalers.",
    )
    hr_second_pass_steps: int = 0
    hr_resize_x: int = 0
    hr_resize_y: int = 0
    hr_checkpoint_name: str = Field(default="", description="The same checkpoint only.")
    hr_sampler_name: str = Field(default="", description="The same sampler only.")
    hr_scheduler: str = Field(default="", description="The same scheduler only.")
    hr_prompt: str = Field(default="", description="The same prompt only.")
    hr_negative_prompt: str = Field(default="", description="The same negative prompt only.")
    firstphase_width: int = 0
    firstphase_height: int = 0
    firstpass_image: str = Field(default="", description="Empty only.")


class ImageToImage(Generation):
    """The body of img2img; with a mask it inpaints."""

    init_images: list[str] = Field(
        default=[],
        description="Images in base64 or as data URIs; several are a batch in place of batch_size.",
        examples=[[IMAGE]],
    )
    resize_mode: int = Field(default=0, ge=0, le=3, description="0 stretch, 1 crop, 2 fill.")
    image_cfg_scale: float | None = Field(
        default=None, description="Ignored by models that do not edit images by instructions."
    )
    mask: str = Field(default="", description="White is inpainted.")
    latent_mask: str = Field(default="", description="The same as mask only.")
    mask_blur: int | None = None
    mask_blur_x: int = 4
    mask_blur_y: int = Field(default=4, description="The same as mask_blur_x only.")
    mask_round: bool = True
    inpainting_fill: int = Field(
        default=0, ge=0, le=3, description="0 fill, 1 original, 2 latent noise, 3 latent nothing."
    )
    inpaint_full_res: bool = Field(default=True, description="Inpaint only the masked area.")
    inpaint_full_res_padding: int = 0
    inpainting_mask_invert: int = Field(default=0, ge=0, le=1)
    initial_noise_multiplier: float | None = None
    include_init_images: bool = False


class TaskProgress(WebuiBody):
    """The body of /internal/progress."""

    id_task: str = ""
    id_live_preview: int = -1
    live_preview: bool = True


class PngInfo(WebuiBody):
    """The body of png-info."""

    image: str = Field(default="", description="In base64 or as data URI.", examples=[IMAGE])


class Detection(WebuiBody):
    """The body of /controlnet/detect."""

    controlnet_module: str = Field(default="none", description="One of /controlnet/module_list.")
    controlnet_input_images: list[str] = Field(default=[], max_length=MAX_BATCH)
    controlnet_threshold_a: float | None = Field(
        default=None, description="Of the module threshold: 0 to 255; -1 is 127."
    )
    controlnet_images: list[str] = Field(default=[], max_length=MAX_BATCH)


class Extras(WebuiBody):
    """The fields that extra-single-image and extra-batch-images share."""

    resize_mode: int = Field(
        default=0, ge=0, le=1, description="0: by upscaling_resize; 1: to upscaling_resize_w x _h."
    )
    show_extras_results: bool = True
    gfpgan_visibility: float = Field(default=0.0, description="0 only.")
    codeformer_visibility: float = Field(default=0.0, description="0 only.")
    codeformer_weight: float = 0.0
    upscaling_resize: float = 2.0
    upscaling_resize_w: int = Field(default=512, ge=1, le=MAX_SIDE)
    upscaling_resize_h: int = Field(default=512, ge=1, le=MAX_SIDE)
    upscaling_crop: bool = True
    upscaler_1: str = Field(default="None", description="One of /sdapi/v1/upscalers.")
    upscaler_2: str = "None"
    extras_upscaler_2_visibility: float = 0.0
    upscale_first: bool = False


class ExtraImage(Extras):
    """The body of extra-single-image."""

    image: str = Field(default="", description="In base64 or as data URI.", examples=[IMAGE])


class NamedImage(WebuiBody):
    """An image of extra-batch-images."""

    data: str
    name: str = ""


class ExtraImages(Extras):
    """The body of extra-batch-images."""

    imageList: list[NamedImage] = Field(default=[], max_length=MAX_BATCH)
