"""Actions of the package `webuiapi`."""

import threading
import time
from typing import Any
from urllib.parse import urlsplit

from webuiapi import ControlNetUnit, WebUIApi, WebUIApiResult

from tests.clients.python.files import as_image
from tests.clients.python.lines import serve

USER = "anybody"  # the password is the key


def client(url: str, api_key: str) -> WebUIApi:
    address = urlsplit(url)
    return WebUIApi(host=address.hostname, port=address.port, username=USER, password=api_key)


def result(found: WebUIApiResult) -> dict[str, Any]:
    """Return the files as they were sent, and the sizes of the images that the client opened."""
    files = found.json.get("images", [found.json["image"]] if "image" in found.json else [])
    sizes = [image.size for image in found.images]
    return {"files": files, "sizes": sizes, "info": found.info, "parameters": found.parameters}


def lists(url: str, api_key: str) -> dict[str, Any]:
    """Return the answer of every list that the client can ask for."""
    webui = client(url, api_key)
    return {
        "models": webui.util_get_model_names(),
        "samplers": webui.util_get_sampler_names(),
        "schedulers": webui.util_get_scheduler_names(),
        "upscalers": webui.get_upscalers(),
        "latent_upscale_modes": webui.get_latent_upscale_modes(),
        "vae": webui.get_sd_vae(),
        "loras": webui.get_loras(),
        "embeddings": webui.get_embeddings(),
        "hypernetworks": webui.get_hypernetworks(),
        "face_restorers": webui.get_face_restorers(),
        "realesrgan_models": webui.get_realesrgan_models(),
        "prompt_styles": webui.get_prompt_styles(),
        "scripts": webui.get_scripts(),
        "memory": webui.get_memory(),
        "cmd_flags": webui.get_cmd_flags(),
        "options": webui.get_options(),
        "progress": webui.get_progress(),
        "controlnet_version": webui.controlnet_version(),
        "controlnet_models": webui.controlnet_model_list(),
        "controlnet_modules": webui.controlnet_module_list(),
        "refreshed": webui.refresh_checkpoints(),
        "skipped": webui.skip(),
    }


def set_model(url: str, api_key: str, name: str) -> dict[str, Any]:
    webui = client(url, api_key)
    webui.util_set_model(name)
    webui.util_wait_for_ready(check_interval=0.1)
    return {"current": webui.util_get_current_model()}


def generate(url: str, api_key: str, **params: Any) -> dict[str, Any]:
    return result(client(url, api_key).txt2img(**params))


async def generate_async(url: str, api_key: str, **params: Any) -> dict[str, Any]:
    return result(await client(url, api_key).txt2img(use_async=True, **params))


def generate_with_idle_controls(url: str, api_key: str, **params: Any) -> dict[str, Any]:
    """Generate with ControlNet units that are switched off, or have no image."""
    units = [ControlNetUnit(enabled=False), ControlNetUnit()]
    return generate(url, api_key, controlnet_units=units, **params)


def edit(url: str, api_key: str, image: str, **params: Any) -> dict[str, Any]:
    if "mask_image" in params:
        params["mask_image"] = as_image(params["mask_image"])
    return result(client(url, api_key).img2img(images=[as_image(image)], **params))


def upscale(url: str, api_key: str, images: list[str], **params: Any) -> dict[str, Any]:
    webui, opened = client(url, api_key), [as_image(image) for image in images]
    if len(opened) == 1:
        return result(webui.extra_single_image(opened[0], **params))
    return result(webui.extra_batch_images(opened, **params))


def read(url: str, api_key: str, image: str) -> dict[str, Any]:
    return result(client(url, api_key).png_info(as_image(image)))


def interrogate(url: str, api_key: str, image: str) -> dict[str, Any]:
    return result(client(url, api_key).interrogate(as_image(image)))


def cancel(url: str, api_key: str, **params: Any) -> dict[str, Any]:
    """Interrupt a task that runs; return the progress before, and the answer of the task."""
    webui, answers = client(url, api_key), list[dict[str, Any]]()
    task = threading.Thread(target=lambda: answers.append(generate(url, api_key, **params)))
    task.start()
    while (progress := webui.get_progress())["state"]["sampling_step"] == 0 and task.is_alive():
        time.sleep(0.05)
    interrupted = webui.interrupt()
    task.join()
    webui.util_wait_for_ready(check_interval=0.1)
    return {"progress": progress, "interrupted": interrupted, "answer": answers[0]}


if __name__ == "__main__":
    actions = (lists, set_model, generate, generate_async, generate_with_idle_controls, edit)
    serve({one.__name__: one for one in (*actions, upscale, read, interrogate, cancel)})
