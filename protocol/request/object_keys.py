"""Job ids and object keys. All are made here; none is taken from a client unchecked."""

import hashlib
import re
import uuid
from enum import StrEnum

JOB_ID = r"^[0-9a-f]{32}$"
INPUT_KEY = r"^inputs/[0-9a-f]{64}$"
RESULT_KEY = r"^results/[0-9a-f]{32}/[0-9]{1,4}\.(png|jpeg|webp|avif)$"
UPLOAD_KEY = r"^uploads/[0-9a-f]{32}$"
EXTRA_KEY = r"^results/[0-9a-f]{32}/[0-9]{1,4}\.(depth\.png|sound\.(wav|flac|mp3))$"


class OutputFormat(StrEnum):
    """The file formats of images; the value is also the file's extension."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"
    AVIF = "avif"

    @property
    def content_type(self) -> str:
        return f"image/{self.value}"


class Extra(StrEnum):
    """Extra outputs of an image, each in its own file; the value is part of its key and URL.

    depth: a grey PNG of 16 bits of the image's size, the nearer the brighter. sound: the sound of
    a spectrogram image, in the format of the request.
    """

    DEPTH = "depth"
    SOUND = "sound"


class AudioFormat(StrEnum):
    """The file formats of sound."""

    WAV = "wav"
    FLAC = "flac"
    MP3 = "mp3"


class ExtraFormat(StrEnum):
    """The file formats of extra outputs; the value is also the file's extension."""

    PNG = "png"
    WAV = "wav"
    FLAC = "flac"
    MP3 = "mp3"

    @property
    def content_type(self) -> str:
        match self:
            case ExtraFormat.PNG:
                return "image/png"
            case ExtraFormat.MP3:
                return "audio/mpeg"
            case _:
                return f"audio/{self.value}"


def new_job_id() -> str:
    """Return a new, unguessable job id: 32 hexadecimal digits."""
    return uuid.uuid4().hex


def is_job_id(text: str) -> bool:
    # fullmatch, because `$` would also accept a trailing newline.
    return re.fullmatch(JOB_ID.strip("^$"), text) is not None


def input_key(png: bytes) -> str:
    """Return the key of an input image: a digest, so that the same upload is stored once."""
    return f"inputs/{hashlib.sha256(png).hexdigest()}"


def result_key(job_id: str, index: int, output_format: OutputFormat) -> str:
    """Return the key of image `index` of a job; a job that runs twice writes the same keys."""
    return f"results/{job_id}/{index}.{output_format.value}"


def extra_key(job_id: str, index: int, kind: Extra, file_format: ExtraFormat) -> str:
    """Return the key of an extra output of image `index` of a job."""
    return f"results/{job_id}/{index}.{kind.value}.{file_format.value}"


def upload_key(file_id: str) -> str:
    """Return the key of a file that a client has uploaded."""
    return f"uploads/{file_id}"


def is_input(key: str) -> bool:
    """Return True for the key of an input image."""
    return re.fullmatch(INPUT_KEY.strip("^$"), key) is not None


def is_upload(key: str) -> bool:
    """Return True for the key of a file that a client has uploaded."""
    return re.fullmatch(UPLOAD_KEY.strip("^$"), key) is not None


def job_of(key: str) -> str:
    """Return the id of the job that a result's key belongs to."""
    _, job_id, _ = key.split("/")
    return job_id


def file_of(key: str) -> str:
    """Return the id of the file that an upload's key belongs to."""
    return key.removeprefix("uploads/")


def is_key(text: str) -> bool:
    """Return True for an object key of ours, which cannot lead out of the store's folder."""
    return any(
        re.fullmatch(pattern.strip("^$"), text) is not None
        for pattern in (INPUT_KEY, RESULT_KEY, EXTRA_KEY, UPLOAD_KEY)
    )
