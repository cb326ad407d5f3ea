"""The canvas of the page at / in a real browser: masks, borders, class maps and class pickers."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from protocol.request.tasks import Task
from tests.end_to_end.browser import drag, generate, image_file, select_task
from tests.service.conftest import ABLE, Running, running
from tests.support.redis_server import RedisServer

CLASSES = ("sky", "grass", "castle", "sea")
# The number of pixels that are marked in the mask.
MARKED = """(canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data
  .filter((value, index) => index % 4 === 3 && value > 127).length"""
# The number of different levels of its marked pixels.
LEVELS = """(canvas) => new Set(canvas.getContext("2d")
  .getImageData(0, 0, canvas.width, canvas.height).data
  .filter((value, index) => index % 4 === 3)).size"""


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    """Run a service with a fake worker whose model has all tasks and four classes."""
    card = ABLE.model_copy(update={"classes": len(CLASSES), "class_names": CLASSES})
    with RedisServer() as redis, running(redis.url, card) as service:
        yield service


@pytest.fixture
def page_url(service: Running) -> str:
    service.worker.report()
    return service.url


def marked(page: Page) -> int:
    count: int = page.locator("#mask").evaluate(MARKED)
    return count


def set_slider(page: Page, name: str, value: int) -> None:
    page.locator(f"#{name}").evaluate(
        "(e, value) => { e.value = value; e.dispatchEvent(new Event('input')); }", value
    )


def paint_on(page: Page) -> None:
    select_task(page, "Inpaint")
    page.locator("#file").set_input_files(image_file(100, 40))


def test_brush_eraser_undo_and_invert(page: Page) -> None:
    paint_on(page)
    assert page.locator("#mask").evaluate("(c) => [c.width, c.height]") == [100, 40]
    set_slider(page, "brush-size", 10)
    drag(page, page.locator("#mask"), (0.2, 0.5), (0.8, 0.5))
    stroke = marked(page)
    assert stroke == pytest.approx(60 * 10 + 78, rel=0.05)  # a line of 60 pixels with round ends
    page.locator("#eraser").click()
    drag(page, page.locator("#mask"), (0.6, 0.5), (0.9, 0.5))
    erased = marked(page)
    assert 0 < erased < stroke
    page.locator("#undo").click()
    assert marked(page) == stroke
    page.locator("#redo").click()
    assert marked(page) == erased
    page.locator("#undo").click()
    page.locator("#invert-mask").click()
    assert marked(page) == pytest.approx(4000 - stroke, abs=100)  # its edge is smooth
    page.locator("#undo").click()
    page.locator("#undo").click()
    assert marked(page) == 0
    page.locator("#mask-all").click()
    assert marked(page) == 4000
    page.locator("#show-mask").click()
    expect(page.locator("#mask")).to_have_css("opacity", "0")
    page.locator("#clear-mask").click()
    assert marked(page) == 0


def test_soft_brush_has_levels(page: Page) -> None:
    paint_on(page)
    set_slider(page, "brush-size", 30)
    set_slider(page, "brush-hardness", 0)
    drag(page, page.locator("#mask"), (0.3, 0.5), (0.31, 0.5))
    assert page.locator("#mask").evaluate(LEVELS) > 20


def test_mask_is_sent_in_the_size_of_the_image(page: Page, service: Running) -> None:
    select_task(page, "Inpaint")
    page.locator("#file").set_input_files(image_file(48, 64))
    set_slider(page, "brush-size", 12)
    drag(page, page.locator("#mask"), (0.1, 0.5), (0.9, 0.5))
    generate(page, "a red cat")
    request = service.worker.seen[-1]
    assert (request.task, request.width, request.height) == (Task.INPAINT, 48, 64)
    assert request.mask_key is not None
    mask = Image.open(io.BytesIO(service.store.get(request.mask_key)))
    assert mask.size == (48, 64)
    levels = mask.convert("L").tobytes()
    assert levels[32 * 48 + 24] == 255
    assert levels[8 * 48 + 24] == 0


def test_zoom_and_pan(page: Page) -> None:
    paint_on(page)
    width = "(e) => e.getBoundingClientRect().width"
    fitted = page.locator("#mask").evaluate(width)
    assert fitted % 100 == 0
    page.locator("#mask").hover()
    page.mouse.wheel(0, -100)
    assert page.locator("#mask").evaluate(width) == pytest.approx(1.25 * fitted)
    before = page.locator("#mask").bounding_box()
    box = page.locator("#viewport").bounding_box()
    assert before is not None
    assert box is not None
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down(button="middle")
    page.mouse.move(box["x"] + 140, box["y"] + 110)
    page.mouse.up(button="middle")
    after = page.locator("#mask").bounding_box()
    assert after is not None
    assert after["x"] - before["x"] == pytest.approx(40, abs=1)
    assert marked(page) == 0
    page.locator("#zoom-fit").click()
    assert page.locator("#mask").evaluate(width) == fitted


def test_two_fingers_zoom_and_paint_nothing(page: Page) -> None:
    paint_on(page)
    session = page.context.new_cdp_session(page)
    box = page.locator("#viewport").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    width = "(e) => e.getBoundingClientRect().width"
    before = page.locator("#mask").evaluate(width)
    for kind, apart in (("touchStart", 40), ("touchMove", 60), ("touchMove", 80)):
        points = [{"x": x - apart, "y": y}, {"x": x + apart, "y": y}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert page.locator("#mask").evaluate(width) == pytest.approx(2 * before, rel=0.1)


def test_one_finger_paints(page: Page) -> None:
    paint_on(page)
    session = page.context.new_cdp_session(page)
    box = page.locator("#mask").bounding_box()
    assert box is not None
    for kind, share in (("touchStart", 0.3), ("touchMove", 0.6)):
        points = [{"x": box["x"] + share * box["width"], "y": box["y"] + box["height"] / 2}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert marked(page) > 100


def test_class_map_is_painted_with_a_palette(page: Page, service: Running) -> None:
    select_task(page, "Label map to image")
    page.get_by_role("button", name="castle").click()
    set_slider(page, "brush-size", 8)
    drag(page, page.locator("#map"), (0.5, 0.02), (0.5, 0.98))
    page.get_by_role("button", name="sea").click()
    page.locator("#bucket").click()
    page.locator("#map").click(position={"x": 20, "y": 100})
    page.locator("#generate").click()
    expect(page.locator("#status")).to_contain_text("Done")
    request = service.worker.seen[-1]
    assert request.task is Task.SEMANTIC
    assert request.image_key is not None
    labels = Image.open(io.BytesIO(service.store.get(request.image_key)))
    row = [labels.getpixel((x, 32)) for x in (0, 10, 32, 63)]
    assert row == [CLASSES.index("sea")] * 2 + [CLASSES.index("castle"), CLASSES.index("sky")]


def test_class_is_found_by_its_name(page: Page, service: Running) -> None:
    select_task(page, "Class to image")
    field = page.locator("#class_id")
    field.fill("as")
    expect(page.locator(".options [role=option]")).to_have_text(["grass1", "castle2"])
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(field).to_have_value("castle")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#status")).to_contain_text("Done")
    assert service.worker.seen[-1].class_id == 2
