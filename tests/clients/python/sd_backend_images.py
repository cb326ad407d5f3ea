"""Actions of the package `sd-backend-client`, which checks the types of every answer."""

from typing import Any

from sd_backend_client import (
    A1111Webservice,
    DiffusionParams,
    GenerationError,
    GenerationHandle,
    GenerationStatus,
    connect_to_backend,
)

from tests.clients.python.files import as_base64, as_image
from tests.clients.python.lines import serve

USER = "anybody"  # the password is the key


def client(url: str, api_key: str) -> A1111Webservice:
    return A1111Webservice(url, credentials_provider=lambda: (USER, api_key))


def detected(url: str, api_key: str) -> str:
    """Return the class of the client that the package takes for this server."""
    return type(connect_to_backend(url, lambda: (USER, api_key))).__name__


def lists(url: str, api_key: str) -> dict[str, Any]:
    """Return the answer of every list that the client can ask for."""
    webui = client(url, api_key)
    capabilities = webui.get_capabilities()
    return {
        "models": [option.name for option in webui.list_checkpoints()],
        "vaes": [option.name for option in webui.list_vaes()],
        "loras": [option.name for option in webui.list_loras()],
        "hypernetworks": [option.name for option in webui.list_hypernetworks()],
        "samplers": [option.name for option in webui.list_samplers()],
        "schedulers": [option.name for option in webui.list_schedulers()],
        "upscalers": [option.name for option in webui.list_upscalers()],
        "controlnet_models": len(webui.list_controlnet_models()),
        "styles": len(webui.get_styles()),
        "script_info": len(webui.get_script_info()),
        "latent_upscale_modes": webui.get_latent_upscale_modes(),
        "idle": webui.progress_check().state.job_count,
        "controlnet": capabilities.controlnet,
        "interrogate": capabilities.interrogate,
        "scheduler": capabilities.scheduler,
    }


def generate(url: str, api_key: str, **params: Any) -> dict[str, Any]:
    return result(client(url, api_key).submit_txt2img(DiffusionParams(**params)))


def edit(url: str, api_key: str, image: str, **params: Any) -> dict[str, Any]:
    webui = client(url, api_key)
    if "mask" in params:
        params["mask"] = as_image(params["mask"])
    asked = DiffusionParams(init_images=[as_image(image)], **params)
    submit = webui.submit_inpaint if "mask" in params else webui.submit_img2img
    return result(submit(asked))


def upscale(url: str, api_key: str, image: str, width: int, height: int) -> dict[str, Any]:
    return result(client(url, api_key).submit_upscale(as_image(image), width, height))


def cancel(url: str, api_key: str, **params: Any) -> None:
    """Cancel a task when it runs, and wait for its end."""
    handle = client(url, api_key).submit_txt2img(DiffusionParams(**params))

    def cancel_when_running(progress: Any) -> None:
        if progress.status is GenerationStatus.ACTIVE and (progress.progress or 0) > 0.01:
            handle.cancel()

    handle.wait(poll_interval=0.05, on_progress=cancel_when_running)


def result(handle: GenerationHandle) -> dict[str, Any]:
    """Return the images of a task; raises what went wrong in its thread."""
    try:
        found = handle.wait(poll_interval=0.05)
    except GenerationError as error:
        raise error.__cause__ or error from None
    return {"images": [as_base64(image) for image in found.images], "seeds": found.seeds}


if __name__ == "__main__":
    serve({one.__name__: one for one in (detected, lists, generate, edit, upscale, cancel)})
