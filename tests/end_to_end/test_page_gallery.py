"""Queue and gallery of the page at / in a real browser, and recipes that come back into it."""

from __future__ import annotations

import base64
import io
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Browser, Locator, Page, expect

from tests.clients.environments import NODE_PROGRAM
from tests.end_to_end.browser import (
    drag,
    generate,
    image_file,
    image_sizes,
    opened_page,
    select_task,
    unfold,
)
from tests.support.imports import ROOT

pytestmark = pytest.mark.early

DROP = """([target, base64]) => {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], "dropped", { type: "image/png" }));
  const options = { dataTransfer, bubbles: true, cancelable: true };
  document.body.dispatchEvent(new DragEvent("dragenter", options));
  document.querySelector(target).dispatchEvent(new DragEvent("drop", options));
}"""
INFOTEXT = (
    "a cat\nNegative prompt: dogs\nSteps: 3, Sampler: Euler a, CFG scale: 2.5, Seed: 5, Size: 32x32"
)


@pytest.fixture
def page(page: Page) -> Page:
    """Choose the same seed in all tests here."""
    page.locator("#seed").fill("9")
    return page


def saved(page: Page) -> bytes:
    with page.expect_download() as download:
        page.locator("#actions").get_by_role("link", name="Save", exact=True).click()
    return download.value.path().read_bytes()


def thumbnails(page: Page) -> Locator:
    return page.locator("#gallery img")


def drop(page: Page, target: str, file: bytes) -> None:
    page.evaluate(DROP, [target, base64.b64encode(file).decode()])


def test_three_jobs_are_queued_and_found_again_after_a_reload(page: Page) -> None:
    page.locator("#prompt").fill("the red cat")
    page.locator("#n").fill("4")
    for steps in ("150", "149", "148"):
        page.locator("#steps").fill(steps)
        page.keyboard.press("Control+Enter")
    rows = page.locator("#queue li")
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("Step")
    expect(page).to_have_title(re.compile(r"^\d+ %, 3 jobs"))
    rows.nth(1).get_by_role("button", name="Cancel: the red cat").click()
    expect(rows).to_have_count(2)
    page.reload()
    expect(thumbnails(page)).to_have_count(8)
    expect(rows).to_have_count(0)
    expect(page).to_have_title("Darkroom")
    expect(page.locator("#prompt")).to_have_value("the red cat")
    expect(page.locator("#steps")).to_have_value("148")


def test_escape_cancels(page: Page) -> None:
    page.locator("#steps").fill("150")
    page.locator("#n").fill("4")
    page.locator("#prompt").fill("a cat")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#queue li")).to_contain_text("Step")
    page.keyboard.press("Escape")
    expect(page.locator("#status")).to_contain_text("Cancelled")
    expect(thumbnails(page)).to_have_count(0)


def test_dropped_file_restores_its_recipe(page: Page, browser: Browser, darkroom_url: str) -> None:
    files = {}
    page.locator("#negative_prompt").fill("dog")
    page.locator("#guidance_scale").fill("2.5")
    page.locator("#sampler").select_option("euler_ancestral")
    page.locator("#hires_scale").fill("1.5")
    for name in ("png", "jpeg", "webp"):
        page.locator("#output_format").select_option(name)
        generate(page, "the (red:1.2) cat")
        files[name] = saved(page)
    with opened_page(browser, darkroom_url) as other:
        for name, file in files.items():
            drop(other, "#drop-recipe", file)
            expect(other.locator("#status")).to_contain_text("Restored the recipe of Darkroom")
            assert other.locator("#prompt").input_value() == "the (red:1.2) cat"
            assert other.locator("#output_format").input_value() == name
            generate(other, other.locator("#prompt").input_value())
            assert saved(other) == file, name


def test_recipes_of_other_programs_and_files_without_one(page: Page) -> None:
    texts, buffer = PngInfo(), io.BytesIO()
    texts.add_text("parameters", INFOTEXT)
    Image.new("RGB", (32, 32)).save(buffer, "PNG", pnginfo=texts)
    page.locator("#recipe-file").set_input_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": buffer.getvalue()}
    )
    expect(page.locator("#status")).to_contain_text("AUTOMATIC1111")
    fields = ("prompt", "negative_prompt", "steps", "sampler", "guidance_scale", "seed")
    values = [page.locator(f"#{field}").input_value() for field in fields]
    assert values == ["a cat", "dogs", "3", "euler_ancestral", "2.5", "5"]
    drop(page, "#drop-recipe", image_file(8, 8)["buffer"])
    expect(page.locator("#status")).to_contain_text("no recipe")
    drop(page, "#drop-input", image_file(32, 32)["buffer"])
    expect(page.locator("#tabs input:checked")).to_have_value("img2img")
    expect(page.locator("#hint")).to_contain_text("32 × 32, used in its own size")


def test_use_settings_restores_image_and_mask(page: Page) -> None:
    select_task(page, "Inpaint")
    page.locator("#file").set_input_files(image_file(32, 32))
    drag(page, page.locator("#mask"), (0.2, 0.2), (0.7, 0.6))
    generate(page, "a red cat")
    first = saved(page)
    page.get_by_role("button", name="Canvas").click()
    page.locator("#clear-mask").click()
    page.locator("#remove-image").click()
    select_task(page, "Text to image")
    page.locator("#steps").fill("4")
    page.get_by_role("button", name="Use settings").click()
    expect(page.locator("#input-thumbnail canvas")).to_be_visible()
    assert page.locator("#steps").input_value() == "2"
    generate(page, "a red cat")
    assert saved(page) == first


def test_gallery_of_several_images(page: Page) -> None:
    page.locator("#n").fill("3")
    generate(page, "the red cat")
    expect(thumbnails(page)).to_have_count(3)
    first = saved(page)
    star = page.get_by_label("Favourite", exact=True).first
    star.click()
    expect(star).to_have_attribute("aria-pressed", "true")
    page.reload()
    expect(thumbnails(page)).to_have_count(3)
    page.locator("#favourites-only").click()
    expect(thumbnails(page)).to_have_count(1)
    page.locator("#favourites-only").click()
    expect(thumbnails(page)).to_have_count(3)
    for index in (0, 2):
        page.get_by_label("Select: the red cat").nth(index).check(force=True)
    expect(page.locator("#selected-count")).to_have_text("2 selected")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#viewer figure")).to_have_count(2)
    expect(page.locator("#viewer figcaption").last).to_contain_text("Seed 11")
    page.locator("#viewer .viewport").first.hover()
    page.mouse.wheel(0, -100)
    first_sheet, second_sheet = (
        page.locator("#viewer .sheet").nth(i).evaluate("(e) => e.style.transform") for i in (0, 1)
    )
    assert first_sheet == second_sheet
    page.keyboard.press("Escape")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as zip").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.namelist() == ["darkroom-9.png", "darkroom-11.png"]
        assert archive.testzip() is None
        assert archive.read("darkroom-9.png") == first
    page.locator("#delete-selected").click()
    expect(thumbnails(page)).to_have_count(1)
    page.reload()
    expect(thumbnails(page)).to_have_count(1)


def test_images_are_sent_to_other_tasks_and_varied(page: Page) -> None:
    generate(page, "the red cat")
    menu = page.locator("details.menu", has_text="Send to")
    menu.locator("summary").click()
    menu.get_by_role("button", name="Hires fix").click()
    assert page.locator("#hires_scale").input_value() == "2"
    assert page.locator("#seed").input_value() == "9"
    menu.locator("summary").click()
    menu.get_by_role("button", name="Outpaint").click()
    expect(page.locator("#tabs input:checked")).to_have_value("outpaint")
    page.locator("#right").fill("8")
    page.locator("#right").press("Tab")
    expect(page.locator("#hint")).to_contain_text("40 × 32")
    generate(page, "the red cat")
    page.get_by_role("button", name="Variations").click()
    expect(thumbnails(page)).to_have_count(6)
    assert image_sizes(page) == [[40, 32]] * 5 + [[32, 32]]


def test_small_images_are_shown_at_whole_multiples(page: Page) -> None:
    generate(page, "the red cat")
    shown = page.locator("#result")
    for scaling, rendering in (("Pixels", "pixelated"), ("Smooth", "auto")):
        page.get_by_role("button", name=scaling).click()
        width, style = shown.evaluate(
            "(i) => [i.getBoundingClientRect().width, getComputedStyle(i).imageRendering]"
        )
        assert width > 32
        assert width % 32 == 0
        assert style == rendering
    shown.click()
    expect(page.locator("#viewer figcaption")).to_contain_text("32 × 32")
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()


@pytest.mark.parametrize("task", ["Text to image", "Inpaint"])
def test_copied_lines_give_the_same_bytes(page: Page, tmp_path: Path, task: str) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    if task == "Inpaint":
        select_task(page, task)
        page.locator("#file").set_input_files(image_file(32, 32))
        page.locator("#mask-all").click()
    generate(page, 'it\'s a "red" cat')
    expected = saved(page)
    unfold(page)
    for language, run in (("curl", run_curl), ("Python", run_python), ("JavaScript", run_node)):
        menu = page.locator("details.menu", has_text="Copy as")
        menu.locator("summary").click()
        menu.get_by_role("button", name=language).click()
        expect(page.locator("#status")).to_contain_text(f"Copied as {language}")
        if task == "Inpaint":
            save_inputs(page, tmp_path)
        run(page.evaluate("navigator.clipboard.readText()"), tmp_path)
        assert (tmp_path / "out.png").read_bytes() == expected, language
        (tmp_path / "out.png").unlink()


def save_inputs(page: Page, folder: Path) -> None:
    for name in ("image.png", "mask.png"):
        with page.expect_download() as download:
            page.locator("#status").get_by_role("button", name=name).click()
        (folder / name).write_bytes(download.value.path().read_bytes())


def run_curl(lines: str, folder: Path) -> None:
    subprocess.run(
        ["sh", "-e"], input=lines, text=True, cwd=folder, check=True, capture_output=True
    )


def run_python(lines: str, folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "clients/python")}
    subprocess.run([sys.executable, "-c", lines], env=environment, cwd=folder, check=True)


def run_node(lines: str, folder: Path) -> None:
    (folder / "darkroom.mjs").write_bytes((ROOT / "service/pages/darkroom.js").read_bytes())
    (folder / "run.mjs").write_text(lines, "utf-8")
    subprocess.run([NODE_PROGRAM, "run.mjs"], cwd=folder, check=True)
