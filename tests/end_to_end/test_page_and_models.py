"""The page at / in a real browser, with models that have more than text to image."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from PIL import Image
from playwright.sync_api import FilePayload, Locator, Page, expect
from safetensors.torch import save_file

from models.loading.loader import load_model
from models.lora.merging import layers_of
from protocol.request.object_keys import Extra
from tests.end_to_end.browser import generate, image_sizes, select_task
from tests.end_to_end.test_tasks import encoded
from tests.models.lora import spellings
from tests.support.local_stack import running_stack
from tests.support.tiny_models import (
    CONTEXT,
    write_tiny_controlnet,
    write_tiny_depth,
    write_tiny_edit,
    write_tiny_ldm3d,
    write_tiny_refiner,
    write_tiny_sd,
    write_tiny_sdxl,
    write_tiny_upscaling,
    write_tiny_vae,
)

pytestmark = pytest.mark.early

MODELS_TOML = """
[models.able]
source = "able"
resident = true
tiny_vae = "./tiny_vae"
defaults = { description = "It has everything." }

[models.base]
source = "./base"
refiner = "refiner"

[models.deep]
source = "./deep"

[models.depth]
source = "./depth"

[models.edit]
source = "./edit"

[models.larger]
source = "./larger"

[models.refiner]
source = "./refiner"

[models.tunes]
source = "./tunes"
"""
PROMPT = "the red cat"
SETTINGS: dict[str, Any] = {"steps": 2, "sampler": "ddim", "schedule": "leading", "seed": 9}
QUICK: dict[str, Any] = {"sampler": "lcm", "schedule": "lcm", "guidance_scale": 1, "steps": 4}
SQUARE = Image.radial_gradient("L").resize((32, 32)).convert("RGB")
DEPTH = Image.linear_gradient("L").resize((32, 32))
LINES = Image.linear_gradient("L").resize((40, 24)).convert("RGB")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a local stack with eight models and extra networks; yields its URL."""
    folder: Path = tmp_path_factory.mktemp("everything")
    home = folder / "home"
    able = write_tiny_sd(home / "models/able")
    write_extra_networks(home, able)
    write_own_lora(able)
    write_tiny_vae(folder / "tiny_vae")
    write_tiny_sdxl(folder / "base")
    write_tiny_refiner(folder / "refiner")
    write_tiny_ldm3d(folder / "deep")
    write_tiny_depth(folder / "depth")
    write_tiny_edit(folder / "edit")
    write_tiny_upscaling(folder / "larger")
    tunes = write_tiny_sd(folder / "tunes")
    (tunes / "darkroom.json").write_text(json.dumps({"family": "riffusion"}), "utf-8")
    (folder / "models.toml").write_text(MODELS_TOML, "utf-8")
    settings = {
        "DARKROOM_CATALOGUE": str(folder / "models.toml"),
        "DARKROOM_MODELS_HOME": str(home),
        "DARKROOM_DEFAULT_MODEL": "able",
    }
    with running_stack(**settings) as url:
        yield url


def write_extra_networks(home: Path, model: Path) -> None:
    """Write LoRAs, a ControlNet and an embedding for the model in the folder `model`."""
    write_tiny_controlnet(home / "controlnets/edges", model)
    layers = layers_of(load_model(str(model), torch.device("cpu")))
    for seed, name in enumerate(("pencil", "oil.paint")):
        pairs = spellings.random_pairs(layers, spellings.attention_of(layers), seed=seed)
        spellings.save(home / f"loras/{name}.safetensors", spellings.kohya(pairs))
    (home / "embeddings").mkdir()
    vectors = torch.randn(4, CONTEXT, generator=torch.Generator().manual_seed(7))
    save_file({"emb_params": vectors}, home / "embeddings/my-cat.safetensors")


def write_own_lora(model: Path) -> None:
    """Write a LoRA into the folder of a model, with a card that states its settings."""
    layers = layers_of(load_model(str(model), torch.device("cpu")))
    pairs = spellings.random_pairs(layers, spellings.attention_of(layers), seed=5)
    spellings.save(model / "loras/quick.safetensors", spellings.kohya(pairs))
    (model / "loras/quick.json").write_text(json.dumps(QUICK), "utf-8")


@pytest.fixture
def page_url(stack: str) -> str:
    return stack


@pytest.fixture
def page(page: Page) -> Page:
    """Choose the first model."""
    select_model(page, "able")
    return page


def select_model(page: Page, model: str) -> None:
    page.locator("#model").select_option(model)
    for name in ("steps", "seed"):
        page.locator(f"#{name}").fill(str(SETTINGS[name]))
    for name in ("sampler", "schedule"):
        page.locator(f"#{name}").select_option(str(SETTINGS[name]))


def api_image(stack: str, task: str = "txt2img", **fields: Any) -> dict[str, Any]:
    """Return the image of the API for the same settings."""
    body = {"model": "able", "prompt": PROMPT} | SETTINGS | fields
    response = httpx.post(f"{stack}/v1/{task}", json=body, timeout=60)
    assert response.status_code == 200, response.text
    image: dict[str, Any] = response.json()["images"][0]
    return image


def saved(page: Page, link: str = "Save") -> str:
    """Return the file of a link below the shown image, in base64."""
    with page.expect_download() as download:
        newest(page).get_by_role("link", name=link, exact=True).click()
    return base64.b64encode(download.value.path().read_bytes()).decode()


def newest(page: Page) -> Locator:
    return page.locator("#stage")


def page_image(page: Page) -> str:
    """Generate with the settings of the page; return the newest image in base64."""
    generate(page, page.locator("#prompt").input_value() or PROMPT)
    return saved(page)


def visible_settings(page: Page) -> set[str]:
    """Return the names of the visible settings, without those that all models have."""
    names: list[str] = page.locator("[data-setting]:visible").evaluate_all(
        "(settings) => settings.map((setting) => setting.dataset.setting)"
    )
    common = {"prompt", "negative_prompt", "prompt_syntax", "clip_skip", "size", "aspect"}
    common |= {"width", "height", "n", "sampling", "steps", "sampler", "schedule"}
    common |= {"guidance_scale", "guidance_rescale", "guidance_start", "guidance_end"}
    common |= {"output_format", "metadata", "priority"}
    return set(names) - common


def test_settings_follow_the_model(page: Page) -> None:
    able = {"loras", "controls", "hires_scale", "eta", "decoder"}
    assert visible_settings(page) == able
    expect(page.locator("#model-state")).to_have_text("It has everything.")
    select_task(page, "Inpaint")
    of_masks = {
        *("mask_source", "mask_mode", "mask_blur", "mask_grow", "mask_invert"),
        *("inpaint_area", "masked_content", "noise_multiplier"),
    }
    assert visible_settings(page) == able - {"hires_scale"} | {"image", "strength"} | of_masks
    select_model(page, "base")
    select_task(page, "Text to image")
    assert visible_settings(page) == {"refiner", "hires_scale", "eta"}
    page.locator("#refiner").select_option("refiner")
    assert visible_settings(page) == {"refiner", "refiner_start", "aesthetic_score", "eta"}
    page.locator("#sampler").select_option("euler")
    assert "eta" not in visible_settings(page)
    expect(page.locator("#sampler option:checked")).to_have_text("Euler")
    select_model(page, "tunes")
    assert visible_settings(page) >= {"audio_format", "audio_stereo"}
    select_model(page, "deep")
    expect(page.locator(".tabs label:visible")).to_have_text(["Text to image"])


def test_loras_and_embeddings(page: Page, stack: str) -> None:
    page.locator("#prompt").fill("the red")
    page.get_by_role("button", name="my-cat", exact=True).click()
    assert page.locator("#prompt").input_value() == "the red my-cat"
    for name in ("oil.paint", "pencil"):
        page.locator("#loras").select_option(name)
    slider = page.get_by_label("Weight of pencil")
    expect(slider).to_be_focused()
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    page.get_by_label("Remove oil.paint").click()
    loras = [{"name": "pencil", "weight": 0.8}]
    assert page_image(page) == api_image(stack, prompt="the red my-cat", loras=loras)["base64"]
    expect(newest(page)).to_contain_text("pencil 0.8")


def settings(page: Page) -> dict[str, str]:
    """Return the values of the settings that a LoRA may state."""
    return {name: page.locator(f"#{name}").input_value() for name in QUICK}


def test_settings_of_a_lora_come_and_go_with_it(page: Page, stack: str) -> None:
    [card] = (one for one in httpx.get(f"{stack}/v1/models").json()["models"]
              if one["name"] == "able")  # fmt: skip
    assert card["loras"] == ["oil.paint", "pencil", "quick"]
    page.locator("#loras").select_option("quick")
    assert settings(page) == {name: str(value) for name, value in QUICK.items()}
    page.locator("#seed").fill("9")
    body = {"model": "able", "prompt": PROMPT, "seed": 9, "loras": [{"name": "quick"}]}
    answer = httpx.post(f"{stack}/v1/txt2img", json=body, timeout=60).json()
    assert page_image(page) == answer["images"][0]["base64"]
    page.locator("#steps").fill("6")
    page.get_by_label("Remove quick").click()
    defaults = {name: f"{card[f'default_{name}']:g}" if name == "guidance_scale"
                else str(card[f"default_{name}"]) for name in QUICK}  # fmt: skip
    assert settings(page) == defaults | {"steps": "6"}


def test_controlnet_with_its_image(page: Page, stack: str) -> None:
    page.locator("#controls").select_option("edges")
    page.locator("#prompt").fill(PROMPT)
    page.locator("#generate").click()
    expect(page.locator("#problem")).to_have_text("Choose an image for edges.")
    image = page.get_by_label("Image for edges")
    expect(image).to_have_attribute("aria-invalid", "true")
    png = base64.b64decode(encoded(LINES))
    image.set_input_files({"name": "lines.png", "mimeType": "image/png", "buffer": png})
    page.get_by_label("after which edges is inactive").fill("0.5")
    control = {"model": "edges", "image": encoded(LINES), "end": 0.5}
    assert page_image(page) == api_image(stack, controls=[control], width=32, height=32)["base64"]
    expect(page.locator("#problem")).to_have_count(0)


def test_multi_pass_and_advanced_settings(page: Page, stack: str) -> None:
    page.locator("#hires_scale").fill("1.5")
    page.locator("#hires_strength").fill("0.5")
    page.locator("#eta").fill("0.5")
    page.locator("#guidance_rescale").fill("0.7")
    page.locator("#clip_skip").fill("1")
    page.locator("#decoder").select_option("tiny")
    page.locator("#prompt_syntax").select_option("plain")
    page.locator("#prompt").fill("a (cat)")
    fields: dict[str, Any] = {
        "hires_scale": 1.5,
        "hires_strength": 0.5,
        "eta": 0.5,
        "guidance_rescale": 0.7,
    }
    fields |= {"clip_skip": 1, "decoder": "tiny", "prompt_syntax": "plain", "prompt": "a (cat)"}
    assert page_image(page) == api_image(stack, **fields)["base64"]
    assert image_sizes(page) == [[48, 48]]
    select_model(page, "base")
    page.locator("#refiner").select_option("refiner")
    page.locator("#refiner_start").fill("0.5")
    page.locator("#prompt").fill(PROMPT)
    refined = api_image(stack, model="base", refiner="refiner", refiner_start=0.5)
    assert page_image(page) == refined["base64"]


def test_sound_and_depth_are_shown(page: Page, stack: str) -> None:
    select_model(page, "tunes")
    page_image(page)
    audio = newest(page).locator("audio")
    (extra,) = api_image(stack, model="tunes", audio_format="flac")["extras"]
    assert (extra["kind"], extra["base64"]) == (Extra.SOUND, saved(page, "Save sound"))
    audio.evaluate("(e) => e.duration > 0 || new Promise((go) => { e.ondurationchange = go; })")
    select_model(page, "deep")
    page_image(page)
    (extra,) = api_image(stack, model="deep")["extras"]
    assert (extra["kind"], extra["base64"]) == (Extra.DEPTH, saved(page, "Save depth"))
    assert image_sizes(page)[0] == [32, 32]
    depth = newest(page).get_by_role("img", name="Depth")
    assert depth.evaluate("async (i) => (await i.decode(), i.naturalWidth)") == 32


def file_of(image: Image.Image) -> FilePayload:
    return {
        "name": "a.png",
        "mimeType": "image/png",
        "buffer": base64.b64decode(encoded(image)),
    }


@pytest.mark.parametrize(
    ("model", "task", "field", "value", "other"),
    [
        ("edit", "img2img", "image_guidance_scale", 1.8, 3.0),
        ("larger", "upscale", "noise_level", 40, 90),
        ("depth", "img2img", "depth_map", DEPTH, SQUARE),
    ],
)
def test_field_of_a_special_model_is_shown_and_sent(
    page: Page, stack: str, model: str, task: str, field: str, value: Any, other: Any
) -> None:
    title = {"img2img": "Image to image", "upscale": "Upscale"}[task]
    select_task(page, "Image to image")
    expect(page.locator(f"#{field}")).to_be_hidden()
    select_model(page, model)
    select_task(page, title)
    page.locator("#file").set_input_files(file_of(SQUARE))
    expect(page.locator(f"#{field}")).to_be_visible()
    if isinstance(value, Image.Image):
        page.locator(f"#{field}").set_input_files(file_of(value))
        value, other = encoded(value), encoded(other)
    else:
        page.locator(f"#{field}").fill(str(value))
    fields = {"model": model, "image": encoded(SQUARE)}
    shown = page_image(page)
    assert shown == api_image(stack, task, **fields, **{field: value})["base64"]
    assert shown != api_image(stack, task, **fields, **{field: other})["base64"]


@pytest.mark.parametrize(
    ("field", "value", "detail"),
    [
        ("hires_scale", "8", "pixels at most 4096"),
        ("eta", "2", "at most 1"),
        ("clip_skip", "9", "at most"),
        ("aesthetic_score", "11", "at most 10"),
    ],
)
def test_error_is_shown_at_its_field(page: Page, field: str, value: str, detail: str) -> None:
    if field == "aesthetic_score":
        select_model(page, "base")
        page.locator("#refiner").select_option("refiner")
    page.locator("#prompt").fill(PROMPT)
    page.locator(f"#{field}").fill(value)
    page.locator("#generate").click()
    note = page.locator(f"#{field} + .problem")
    expect(note).to_contain_text(detail)
    expect(page.locator(f"#{field}")).to_be_focused()
    expect(page.locator(f"#{field}")).to_have_attribute("aria-describedby", "problem")


def test_extra_networks_fit_a_phone(page: Page) -> None:
    for kind, name in (("loras", "pencil"), ("controls", "edges")):
        page.locator(f"#{kind}").select_option(name)
    page.set_viewport_size({"width": 360, "height": 740})
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) == 0
