"""Example requests and answers of the OpenAPI description."""

from typing import Any

from service.schemas.examples import IMAGE, JOB

Example = dict[str, Any]

PROMPT = "a slice of pizza"
PROMPTS: Example = {"text_prompts": [{"text": PROMPT}, {"text": "blurry", "weight": -0.5}]}
TEXT_TO_IMAGE: Example = {**PROMPTS, "seed": 7, "samples": 2}
IMAGE_TO_IMAGE: Example = {**PROMPTS, "init_image": IMAGE, "image_strength": 0.35, "seed": 7}
MASKING: Example = {
    **PROMPTS,
    "init_image": IMAGE,
    "mask_image": IMAGE,
    "mask_source": "MASK_IMAGE_WHITE",
}
UPSCALE: Example = {"image": IMAGE, "width": 256}
GENERATE: Example = {"prompt": PROMPT, "aspect_ratio": "1:1", "seed": 7, "output_format": "webp"}
INPAINT: Example = {"prompt": PROMPT, "image": IMAGE, "mask": IMAGE}
ERASE: Example = {"image": IMAGE, "mask": IMAGE, "grow_mask": 5}
EXTEND: Example = {"prompt": PROMPT, "image": IMAGE, "left": 32, "down": 32}
FAST: Example = {"image": IMAGE, "model": "lanczos"}
LARGER: Example = {"prompt": PROMPT, "image": IMAGE}

ARTIFACTS: Example = {"artifacts": [{"base64": IMAGE, "seed": 7, "finishReason": "SUCCESS"}]}
V2_IMAGE: Example = {"image": IMAGE, "seed": 7, "finish_reason": "SUCCESS"}
STARTED: Example = {"id": JOB}
IN_PROGRESS: Example = {"id": JOB, "status": "in-progress"}
