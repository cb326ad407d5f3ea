"""The page at / in a real browser, on a local stack or a service with a fake worker."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from protocol.auth.api_keys import Scope
from protocol.queue.job import FinishReason
from protocol.registry.presence import ModelReport, ModelState, WorkerReport, WorkerState
from protocol.request.tasks import Task
from tests.end_to_end.browser import (
    drag,
    generate,
    image_file,
    image_sizes,
    new_page,
    opened_page,
    select_task,
)
from tests.service.conftest import ABLE, running
from tests.service.fake_worker import NAME
from tests.service.keys import ADMIN_KEY, key_for

pytestmark = pytest.mark.early


def test_prompt_gives_images_with_their_settings(page: Page) -> None:
    page.locator("#seed").fill("41")
    page.locator("#sampler").select_option("ddim")
    page.locator("#n").fill("2")
    generate(page, "the red cat")
    assert image_sizes(page) == [[32, 32], [32, 32]]
    recipe = page.locator("#recipe-list")
    for text in ("the red cat", "DDIM", "41"):
        expect(recipe).to_contain_text(text)
    page.locator("#siblings button").last.click()
    expect(recipe).to_contain_text("42")


def test_page_works_by_keyboard(page: Page) -> None:
    page.locator("#prompt").focus()
    page.keyboard.type("a cat")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#status")).to_contain_text("Done")
    assert len(image_sizes(page)) == 1


def test_inpainting_with_a_mask(page: Page) -> None:
    select_task(page, "Inpaint")
    page.locator("#file").set_input_files(image_file(32, 32))
    page.locator("#mask-all").click()
    generate(page, "a red cat")
    assert image_sizes(page) == [[32, 32]]
    expect(page.locator("#status")).not_to_contain_text("Warning")
    page.get_by_role("button", name="Canvas").click()
    page.locator("#clear-mask").click()
    generate(page, "a red cat")
    expect(page.locator("#status")).to_contain_text("Warning: The mask marks nothing")


def test_options_of_inpainting(page: Page) -> None:
    expect(page.locator("#mask_blur")).to_be_hidden()
    select_task(page, "Inpaint")
    page.locator("#file").set_input_files(image_file(32, 32))
    page.locator("#mask-all").click()
    for name, value in (("mask_blur", "4"), ("mask_grow", "-2"), ("noise_multiplier", "0.9")):
        page.locator(f"#{name}").fill(value)
    for name, value in (("mask_mode", "soft"), ("masked_content", "fill")):
        page.locator(f"#{name}").select_option(value)
    expect(page.locator("#mask_padding")).to_be_hidden()
    page.locator("#inpaint_area").select_option("masked")
    page.locator("#mask_padding").fill("8")
    generate(page, "a red cat")
    assert image_sizes(page) == [[32, 32]]


def test_outpainting_by_pixels_and_up_to_a_size(page: Page) -> None:
    expect(page.locator("#left")).to_be_hidden()
    select_task(page, "Outpaint")
    page.locator("#file").set_input_files(image_file(30, 20))
    expect(page.locator("#width")).to_be_hidden()
    page.locator("#left").fill("7")
    page.locator("#bottom").fill("30")
    page.locator("#edge_blend").fill("3")
    generate(page, "a red cat")
    page.locator("#border_by").select_option("size")
    expect(page.locator("#left")).to_be_hidden()
    page.locator("#width").fill("41")
    page.locator("#height").fill("20")
    page.locator("#anchor").select_option("top-left")
    generate(page, "a red cat")
    assert image_sizes(page) == [[41, 20], [37, 50]]
    page.locator("#width").fill("29")
    page.locator("#generate").click()
    expect(page.locator("#status")).to_contain_text("at least 30")
    expect(page.locator("#width")).to_have_attribute("aria-invalid", "true")


def test_image_of_another_shape_is_resized_as_chosen(page: Page) -> None:
    expect(page.locator("#resize_mode")).to_be_hidden()
    select_task(page, "Image to image")
    page.locator("#file").set_input_files(image_file(60, 20))
    page.locator("#size_source").select_option("set")
    for side in ("width", "height"):
        page.locator(f"#{side}").fill("32")
    shown = set()
    for mode in ("crop", "fill", "stretch"):
        page.locator("#resize_mode").select_option(mode)
        page.get_by_role("button", name="Canvas").click()
        shown.add(page.locator("#image").evaluate("(canvas) => canvas.toDataURL()"))
        generate(page, "a red cat")
        expect(page.locator("#status")).not_to_contain_text("Warning")
    assert len(shown) == 3
    assert image_sizes(page) == [[32, 32]] * 3


def test_form_cannot_be_submitted_before_its_script_is_loaded(
    browser: Browser, darkroom_url: str
) -> None:
    """The browser would load the page again, without what was entered."""
    held: list[Route] = []
    page = new_page(browser)
    page.route("**/studio.js", lambda route: held.append(route))
    page.goto(darkroom_url, wait_until="commit")
    page.locator("#prompt").fill("a cat")
    expect(page.locator("#generate")).to_be_disabled()
    page.locator("#seed").press("Enter")
    while not held:
        page.wait_for_timeout(10)
    held[0].continue_()
    expect(page.locator("#generate")).to_be_enabled()
    expect(page.locator("#health")).to_have_text("ready")
    assert page.locator("#prompt").input_value() == "a cat"
    page.close()


def test_error_is_shown_at_its_field(page: Page) -> None:
    page.locator("#width").fill("33")
    page.locator("#prompt").fill("a cat")
    page.locator("#generate").click()
    expect(page.locator("#status")).to_contain_text("multiple of 4")
    expect(page.locator("#width")).to_have_attribute("aria-invalid", "true")
    page.locator("#width").fill("32")
    generate(page, "a cat")


def test_job_shows_progress_and_can_be_cancelled(page: Page) -> None:
    page.locator("#steps").fill("150")
    page.locator("#n").fill("4")
    page.locator("#prompt").fill("a cat")
    page.locator("#generate").click()
    progress = page.locator("#progress")
    expect(progress).to_be_visible()
    expect(progress).not_to_have_attribute("value", "0")
    previews = page.locator("#previews img")
    expect(previews).to_have_count(4)
    for index in range(4):
        preview = page.get_by_alt_text(f"Preview of image {index + 1}")
        expect(preview).to_be_visible()
        expect(preview).to_have_js_property("naturalWidth", 8)  # of one that the next may replace
    page.locator("#cancel").click()
    expect(page.locator("#status")).to_contain_text(re.compile("cancelled", re.IGNORECASE))
    expect(page.locator("#cancel")).to_be_hidden()
    expect(previews).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone_in_light_and_dark(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": 360, "height": 740})
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) == 0
    background, text = page.evaluate(
        "[getComputedStyle(document.documentElement).backgroundColor, "
        "getComputedStyle(document.body).color]"
    )
    assert background != text


def test_page_shows_the_tasks_of_the_model(browser: Browser, redis_url: str) -> None:
    tasks = (Task.UNCONDITIONAL, Task.UPSCALE, Task.CLASS, Task.LAYOUT)
    without_text = ABLE.model_copy(update={"tasks": tasks, "max_prompt_tokens": 0})
    with running(redis_url, without_text) as service:
        page = new_page(browser)
        page.goto(service.url)
        expect(page.locator("#health")).to_have_text("ready")
        tabs = page.locator(".tabs label:visible")
        expect(tabs).to_have_text(["Upscale", "Unconditional", "Class to image", "Layout to image"])
        expect(page.locator("#prompt")).to_be_hidden()
        select_task(page, "Class to image")
        page.locator("#class_id").fill("7")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#gallery img")).to_have_count(1)
        select_task(page, "Layout to image")
        page.locator("#generate").click()
        expect(page.locator("#status")).to_contain_text("Add a box first.")
        drag(page, page.locator("#box-sheet"), (0.01, 0.25), (0.5, 0.75))
        page.get_by_label("Box 1: Class").fill("3")
        for side, value in (("left", "0"), ("top", "0.25"), ("width", "0.5"), ("height", "0.5")):
            page.get_by_label(f"Box 1: {side}").fill(value)
        drag(page, page.locator("#box-sheet"), (0.6, 0.1), (0.9, 0.9))
        page.locator("#generate").click()
        expect(page.locator("#gallery img")).to_have_count(2)
        select_task(page, "Upscale")
        page.locator("#file").set_input_files(image_file(21, 34))
        page.locator("#generate").click()
        expect(page.locator("#gallery img")).to_have_count(3)
        assert image_sizes(page)[0] == [42, 68]
        seen = [(request.task, request.class_id) for request in service.worker.seen]
        assert seen == [(Task.CLASS, 7), (Task.LAYOUT, None), (Task.UPSCALE, None)]
        boxes = service.worker.seen[1].boxes
        assert boxes is not None
        first, second = (box.model_dump() for box in boxes)
        assert first == {"class": 3, "x": 0, "y": 0.25, "width": 0.5, "height": 0.5}
        drawn = {"class": 3, "x": 0.6, "y": 0.1, "width": 0.3, "height": 0.8}
        assert second == pytest.approx(drawn, abs=0.01)
        page.close()


def test_page_works_below_a_path(browser: Browser, redis_url: str) -> None:
    with (
        running(redis_url, root_path="/studio", auth="off") as service,
        opened_page(browser, f"{service.url}/studio/") as page,
    ):
        generate(page, "a cat")
        assert len(image_sizes(page)) == 1


def test_flagged_image_is_marked(browser: Browser, redis_url: str) -> None:
    with running(redis_url) as service, opened_page(browser, service.url) as page:
        service.worker.finish_reason = FinishReason.CONTENT_FILTERED
        generate(page, "a cat")
        expect(page.locator("#flagged")).to_contain_text("safety checker has flagged this image")


@pytest.mark.parametrize(
    ("state", "option", "sentence"),
    [
        (ModelState.READY, "tiny", ""),
        (ModelState.LOADING, "tiny · loading, 40 %", "It is being loaded: 40 %."),
        (ModelState.FAILED, "tiny · failed to load", "It could not be loaded: its tensors end"),
        (ModelState.ON_DEMAND, "tiny · on demand", "It is loaded when a job needs it."),
    ],
)
def test_state_of_the_model_is_shown(
    browser: Browser, redis_url: str, state: ModelState, option: str, sentence: str
) -> None:
    with running(redis_url) as service:
        model = ModelReport(name="tiny", state=state, progress=0.4, detail="its tensors end")
        worker = WorkerReport(name=NAME, state=WorkerState.READY, model="tiny", models=(model,))
        service.worker.presence.report(worker)
        page = new_page(browser)
        page.goto(service.url)
        expect(page.locator("#model option")).to_have_text(option)
        expect(page.locator("#model-state")).to_have_text(sentence)
        page.close()


def test_api_key_is_entered_once_and_says_what_it_may_do(browser: Browser, redis_url: str) -> None:
    with running(redis_url, auth="required", admin_key=ADMIN_KEY) as service:
        reads = key_for(service, Scope.READ)["Authorization"].removeprefix("Bearer ")
        header = key_for(service, images_per_day=1500)["Authorization"]
        key = header.removeprefix("Bearer ")
        page = new_page(browser)
        page.goto(service.url)
        about = page.locator("#key-about")
        page.locator("#key").fill(reads)
        page.keyboard.press("Enter")
        expect(about).to_have_text(
            "The key “a client” may see the models, its own jobs and images. It has no limits."
        )
        expect(page.locator("#key-form")).to_be_visible()
        page.locator("#key").fill(key)
        page.keyboard.press("Enter")
        expect(page.locator("#health")).to_have_text("ready")
        expect(page.locator("#key-form")).to_be_hidden()
        page.get_by_role("button", name="API key").click()
        expect(about).to_contain_text("may submit jobs and cancel its own, see the models")
        expect(about).to_contain_text("Its limits: 1,500 images a day.")
        page.get_by_role("button", name="API key").click()
        generate(page, "a cat")
        assert image_sizes(page) == [[64, 64]]
        assert key not in page.url
        page.close()
