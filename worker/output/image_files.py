"""Encodes images as files. A PNG contains the parameters it was generated from."""

import io
import json

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from protocol.request.object_keys import OutputFormat
from protocol.request.request import GenerationRequest
from worker.interfaces import Pixels
from worker.output.exif import spectrogram_exif

# zlib's fastest: about a sixth larger than its default in half the time, and with the
# client waiting, time counts for more than bytes.
PNG_COMPRESSION = 1
PREVIEW_QUALITY = 75
WEBP_EFFORT = 2  # of 0..6; beyond this, encoding costs more than the bytes it saves


def encode(pixels: Pixels, request: GenerationRequest, seed: int) -> bytes:
    """Encode `pixels` (H, W, 3) in the format and quality that `request` asks for."""
    image = Image.fromarray(pixels)
    exif = _exif(request)
    file = io.BytesIO()
    match request.output_format:
        case OutputFormat.PNG:
            text = _png_text(request, seed)
            image.save(file, "PNG", compress_level=PNG_COMPRESSION, pnginfo=text, **exif)
        case OutputFormat.JPEG:
            image.save(file, "JPEG", quality=request.quality, **exif)
        case OutputFormat.WEBP:
            image.save(file, "WEBP", quality=request.quality, method=WEBP_EFFORT, **exif)
    return file.getvalue()


def _exif(request: GenerationRequest) -> dict[str, Image.Exif]:
    """Return the Exif tags of a spectrogram; other images have none, not even empty ones."""
    if request.audio_format is None:
        return {}
    return {"exif": spectrogram_exif(request.height, request.audio_stereo)}


def encode_preview(pixels: Pixels) -> bytes:
    """Encode a preview (H, W, 3) as a JPEG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=PREVIEW_QUALITY)
    return file.getvalue()


def parameter_texts(request: GenerationRequest, seed: int) -> dict[str, str]:
    """Return the parameters of the image generated from `seed`, one by one and all as JSON."""
    texts = {}
    if request.task.takes("prompt"):
        texts = {"Prompt": request.prompt, "Negative prompt": request.negative_prompt}
    texts |= {
        "Seed": str(seed),
        "Steps": str(request.steps),
        "Sampler": request.sampler,
        "Schedule": request.schedule,
        "Guidance scale": f"{request.guidance_scale:g}",
        "Size": f"{request.width}x{request.height}",
        "Model": request.model,
    }
    if request.strength is not None:
        texts["Strength"] = f"{request.strength:g}"
    if request.class_id is not None:
        texts["Class"] = str(request.class_id)
    # The request of this one image: with its own seed, and without previews.
    alone = request.model_copy(update={"seed": seed, "n": 1, "previews": False})
    texts["darkroom"] = json.dumps(alone.model_dump(mode="json"))
    return texts


def _png_text(request: GenerationRequest, seed: int) -> PngInfo:
    """Return the parameters as tEXt where Latin-1 suffices, else as iTXt (UTF-8)."""
    info = PngInfo()
    for key, text in parameter_texts(request, seed).items():
        info.add_text(key, _printable(text))
    return info


def _printable(text: str) -> str:
    """Remove what the PNG standard forbids: zero bytes, and surrogates, which are not text."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
