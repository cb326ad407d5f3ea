"""Key lists of published single files, read in place (see `tests/support/shared_files.py`)."""

from __future__ import annotations

import json
from functools import cache

from models.checkpoints.key_plan import Shape
from tests.support.published import key_list
from tests.support.shared_files import shared_file

# Every published checkpoint in the original layout, and its family.
FAMILIES = {
    "sd-v1-4.ckpt": "sd1",
    "sd-v1-4-full-ema.ckpt": "sd1",
    "sd_xl_base_1.0.safetensors": "sdxl",
    "sd_xl_refiner_1.0.safetensors": "sdxl-refiner",
    "ldm.celeba256": "ldm-unconditional",
    "ldm.ffhq256": "ldm-unconditional",
    "ldm.lsun_beds256": "ldm-unconditional",
    "ldm.lsun_churches256": "ldm-churches",
    "ldm.cin256": "ldm-class",
    "ldm.cin256-v2": "ldm-class-v2",
    "ldm.text2img256": "ldm-text",
    "ldm.txt2img-1p4B-eval": "ldm-text-large",
    "ldm.layout2img-openimages256": "ldm-layout",
    "ldm.semantic_synthesis256": "ldm-semantic",
    "ldm.semantic_synthesis512": "ldm-semantic",
    "ldm.inpainting_big": "ldm-inpainting",
    "ldm.bsr_sr": "ldm-super-resolution",
}
FIRST_STAGES = (
    "ae.kl-f4",
    "ae.kl-f8",
    "ae.kl-f16",
    "ae.kl-f32",
    "ae.vq-f4",
    "ae.vq-f4-noattn",
    "ae.vq-f8",
    "ae.vq-f8-n256",
    "ae.vq-f16",
)


def original(name: str) -> dict[str, Shape]:
    """Return key -> shape of a single file."""
    return key_list(f"original/{name}")


@cache
def mapping(name: str) -> dict[str, str]:
    """Return diffusers' name -> the file's key, from diffusers' own converters."""
    path = shared_file(f"facts/checkpoints/keys/mapping/{name}.json")
    entries = json.loads(path.read_text("utf-8"))
    return {name: key if isinstance(key, str) else key[0] for name, key in entries.items()}
