"""Actions of the package `sd-backend-client` with ComfyUI's API."""

from typing import Any

from sd_backend_client import ComfyUiWebservice, DiffusionParams, GenerationStatus

from tests.clients.python.files import as_image
from tests.clients.python.lines import serve
from tests.clients.python.sd_backend_images import USER, result


def client(url: str, api_key: str) -> ComfyUiWebservice:
    """Return a client; ComfyUI has no keys, so the key is in the address."""
    return ComfyUiWebservice(url.replace("://", f"://{USER}:{api_key}@"))


def lists(url: str, api_key: str) -> dict[str, Any]:
    comfy = client(url, api_key)
    stats = comfy.get_system_stats()
    return {
        "models": [option.name for option in comfy.list_checkpoints()],
        "samplers": [option.name for option in comfy.list_samplers()],
        "schedulers": [option.name for option in comfy.list_schedulers()],
        "loras": [option.name for option in comfy.list_loras()],
        "upscalers": [option.name for option in comfy.list_upscalers()],
        "preprocessors": len(comfy.get_controlnet_preprocessors()),
        "controlnet": comfy.get_capabilities().controlnet,
        "os": stats.system.os,
    }


def generate(url: str, api_key: str, **params: Any) -> dict[str, Any]:
    return result(client(url, api_key).submit_txt2img(DiffusionParams(**params)))


def edit(url: str, api_key: str, image: str, **params: Any) -> dict[str, Any]:
    comfy = client(url, api_key)
    if "mask" in params:
        params["mask"] = as_image(params["mask"])
    asked = DiffusionParams(init_images=[as_image(image)], **params)
    submit = comfy.submit_inpaint if "mask" in params else comfy.submit_img2img
    return result(submit(asked))


def cancel(url: str, api_key: str, **params: Any) -> None:
    """Cancel a task when it runs, and wait for its end."""
    handle = client(url, api_key).submit_txt2img(DiffusionParams(**params))

    def cancel_when_running(progress: Any) -> None:
        if progress.status is GenerationStatus.ACTIVE:
            handle.cancel()

    handle.wait(poll_interval=0.05, on_progress=cancel_when_running)


if __name__ == "__main__":
    serve({one.__name__: one for one in (lists, generate, edit, cancel)})
