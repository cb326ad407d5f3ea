"""The page at / by axe-core's rules (WCAG 2.2 AA), by keyboard, on a phone, and its weight."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from protocol.request.tasks import Task
from tests.clients.environments import RegistryUnreachable, installed
from tests.end_to_end.browser import (
    generate,
    image_file,
    new_page,
    opened_page,
    select_task,
    unfold,
)
from tests.service.conftest import ABLE, running

pytestmark = pytest.mark.early

MAX_SCRIPT_BYTES = 100_000  # before the first paint
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PHONE = {"width": 360, "height": 740}
LAPTOP = {"width": 1100, "height": 760}
# The time of the first paint, and of each script when its request began, and its bytes.
PAINT_AND_SCRIPTS = """[
  performance.getEntriesByName("first-contentful-paint")[0].startTime,
  performance.getEntriesByType("resource").filter(({ name }) => name.endsWith(".js"))
    .map(({ startTime, decodedBodySize }) => [startTime, decodedBodySize]),
]"""
# The number of pixels that are marked in a mask.
MARKED = """(canvas) => canvas.getContext("2d").getImageData(0, 0, 32, 32).data
  .filter((value, index) => index % 4 === 3 && value > 0).length"""
# Move the mouse onto an element and scroll, before anything else can happen.
ENTER_AND_SCROLL = """(label) => {
  label.dispatchEvent(new PointerEvent("pointerover", { bubbles: true, pointerType: "mouse" }));
  document.dispatchEvent(new Event("scroll"));
}"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def axe() -> str:
    """Return the script of axe-core."""
    try:
        return (installed("node-page") / "node_modules/axe-core/axe.min.js").read_text("utf-8")
    except RegistryUnreachable as error:
        pytest.skip(f"axe-core cannot be installed here: {error}")


def violations(page: Page, axe: str) -> list[str]:
    page.evaluate(axe)
    options = {"runOnly": RULES, "resultTypes": ["violations"]}
    found = page.evaluate(
        "async (options) => (await axe.run(document, options)).violations", options
    )
    return [f"{each['id']}: {node['html']}" for each in found for node in each["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(page: Page, axe: str, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    assert violations(page, axe) == []
    generate(page, "the red cat")
    page.locator("details.menu summary").first.click()
    assert violations(page, axe) == []
    select_task(page, "Inpaint")
    page.locator("#file").set_input_files(image_file(32, 32))
    assert violations(page, axe) == []
    page.set_viewport_size(PHONE if scheme == "dark" else LAPTOP)  # type: ignore[arg-type]
    page.get_by_role("button", name="Result").click()
    page.locator("#result").click()
    assert violations(page, axe) == []


def test_axe_finds_no_violation_in_any_task(browser: Browser, redis_url: str, axe: str) -> None:
    card = ABLE.model_copy(update={"classes": 3, "class_names": ("cat", "dog", "kite")})
    with running(redis_url, card) as service, opened_page(browser, service.url) as page:
        tabs = page.locator("#tabs label:visible")
        assert tabs.count() == len(Task)
        for tab in tabs.all():
            tab.click()
            assert violations(page, axe) == [], tab.inner_text()
        select_task(page, "Layout to image")
        page.locator("#add-box").click()
        page.keyboard.type("k")
        assert violations(page, axe) == []


def test_keyboard_alone_is_enough(page: Page) -> None:
    page.locator("#prompt").focus()
    page.keyboard.type("the red cat")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#status")).to_contain_text("Done")
    page.locator("#tabs input:checked").focus()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#tabs input:checked")).to_have_value("inpaint")
    page.locator("#file").set_input_files(image_file(32, 32))
    page.locator("#mask").focus()
    page.keyboard.press("]")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    twice = page.locator("#mask").evaluate(MARKED)
    page.keyboard.press("Control+z")
    once = page.locator("#mask").evaluate(MARKED)
    assert 0 < once < twice
    page.keyboard.press("Control+Shift+z")
    assert page.locator("#mask").evaluate(MARKED) == twice
    page.keyboard.press("i")
    assert page.locator("#mask").evaluate(MARKED) > 32 * 32 - twice - 1
    page.locator("#gallery .open").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("f")
    expect(page.locator("#viewer")).to_be_visible()
    page.keyboard.press("+")
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()


def test_little_script_is_loaded_before_the_first_paint(
    browser: Browser, darkroom_url: str
) -> None:
    page = new_page(browser)
    page.goto(darkroom_url)
    expect(page.locator("#health")).to_have_text("ready")
    painted, scripts = page.evaluate(PAINT_AND_SCRIPTS)
    before = sum(size for started, size in scripts if started <= painted)
    assert 0 < before <= MAX_SCRIPT_BYTES
    assert sum(size for _, size in scripts) > before
    page.close()


@pytest.mark.parametrize("viewport", [PHONE, LAPTOP], ids=["phone", "laptop"])
def test_layouts_have_no_overflow(page: Page, viewport: dict[str, int]) -> None:
    page.set_viewport_size(viewport)  # type: ignore[arg-type]
    generate(page, "the red cat")
    assert page.evaluate(OVERFLOW) == 0
    select_task(page, "Inpaint")
    page.locator("#file").set_input_files(image_file(32, 32))
    assert page.evaluate(OVERFLOW) == 0
    box = page.locator("#mask").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= viewport["width"]


def test_tooltips_are_the_descriptions_of_the_api(page: Page) -> None:
    page.locator('[data-setting="strength"]').wait_for(state="hidden")
    tooltip = page.get_by_role("tooltip")
    for field, words in (("steps", "Denoising steps"), ("seed", "same image")):
        page.locator(f'label[for="{field}"]').hover()
        expect(tooltip).to_contain_text(words)
        page.mouse.move(600, 5)
        expect(tooltip).to_be_hidden()


def test_tooltip_waits_for_the_descriptions(browser: Browser, darkroom_url: str) -> None:
    held: list[Route] = []
    page = new_page(browser)
    page.route("**/openapi.json", lambda route: held.append(route))
    page.goto(darkroom_url)
    expect(page.locator("#health")).to_have_text("ready")
    unfold(page)
    page.locator('label[for="steps"]').hover()
    while not held:
        page.wait_for_timeout(10)
    held[0].continue_()
    expect(page.get_by_role("tooltip")).to_contain_text("Denoising steps")
    assert len(held) == 1
    page.close()


def test_scrolling_hides_a_tooltip_but_does_not_prevent_it(page: Page) -> None:
    tooltip = page.get_by_role("tooltip")
    page.locator('label[for="steps"]').evaluate(ENTER_AND_SCROLL)
    expect(tooltip).to_contain_text("Denoising steps")
    page.evaluate("document.dispatchEvent(new Event('scroll'))")
    expect(tooltip).to_be_hidden()
