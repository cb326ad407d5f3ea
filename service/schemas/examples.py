"""Example requests and responses of the OpenAPI description."""

from typing import Any

from protocol.request.tasks import Task

JOB = "0123456789abcdef0123456789abcdef"
JOB_PATH = f"/v1/jobs/{JOB}"

# PNG files of 64 x 64 pixels: a white image, and a label map of class 0.
IMAGE = (
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQAAAACCEkxzAAAAFElEQVR42mP8zwABTAyjjFEGyQwAzx8Bf7QK4E8A"
    "AAAASUVORK5CYII="
)
LABELS = (
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAAAAACPAi4CAAAAG0lEQVR42u3BgQAAAADDoPlT3+AEVQEAAAB8AxBA"
    "AAG9PLePAAAAAElFTkSuQmCC"
)
REQUEST_EXAMPLES: dict[Task, dict[str, object]] = {
    Task.TXT2IMG: {"prompt": "a slice of pizza", "seed": 7, "n": 2},
    Task.IMG2IMG: {"prompt": "a slice of pizza", "image": IMAGE, "strength": 0.75},
    Task.INPAINT: {"prompt": "a slice of pizza", "image": IMAGE, "mask": IMAGE},
    Task.OUTPAINT: {"prompt": "a slice of pizza", "image": IMAGE, "left": 32, "right": 32},
    Task.UPSCALE: {"image": IMAGE},
    Task.UNCONDITIONAL: {"seed": 7, "output_format": "webp"},
    Task.CLASS: {"class_id": 3, "guidance_scale": 3.0},
    Task.LAYOUT: {"boxes": [{"class": 3, "x": 0.1, "y": 0.2, "width": 0.5, "height": 0.4}]},
    Task.SEMANTIC: {"image": LABELS, "response": "url"},
}
READ_REQUEST_EXAMPLE: dict[str, object] = {"image": IMAGE}

GENERATION_EXAMPLE: dict[str, Any] = {
    "id": JOB,
    "images": [
        {
            "index": 0,
            "seed": 7,
            "width": 64,
            "height": 64,
            "format": "png",
            "bytes": 77,
            "finish_reason": "success",
            "base64": IMAGE,
        }
    ],
    "timings": {"denoise": 2.1, "total": 2.4},
    "warnings": [],
}
READ_EXAMPLE: dict[str, Any] = {
    "source": "automatic1111",
    "task": "txt2img",
    "request": {
        "prompt": "a slice of pizza",
        "steps": 20,
        "sampler": "euler_ancestral",
        "schedule": "karras",
        "guidance_scale": 7,
        "seed": 7,
        "width": 512,
        "height": 512,
    },
    "needs": [],
    "parameters": {
        "Steps": "20",
        "Sampler": "Euler a",
        "Schedule type": "Karras",
        "CFG scale": "7",
        "Seed": "7",
        "Size": "512x512",
    },
    "texts": {
        "parameters": "a slice of pizza\nSteps: 20, Sampler: Euler a, Schedule type: Karras, "
        "CFG scale: 7, Seed: 7, Size: 512x512"
    },
}
JOB_EXAMPLE: dict[str, Any] = {
    "id": JOB,
    "state": "running",
    "progress": {"step": 12, "steps": 50, "phase": "denoise"},
    "warnings": [],
}
JOB_LIST_EXAMPLE: dict[str, Any] = {
    "jobs": [
        {**JOB_EXAMPLE, "model": "tiny", "task": "txt2img", "created_at": "2026-01-31T12:00:00Z"}
    ],
    "next_cursor": "MTc2OTg2MDgwMDAwMDAwMC4wMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZg",
}
EVENTS_EXAMPLE = f'''event: queued
data: {{"id":"{JOB}","state":"queued","position":2,"warnings":[]}}

event: running
data: {{"id":"{JOB}","state":"running","progress":{{"step":1,"steps":50}},"warnings":[]}}

event: cancelled
data: {{"id":"{JOB}","state":"cancelled","warnings":[]}}

'''
