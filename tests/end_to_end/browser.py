"""Helpers to use the page at / in a browser."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, FilePayload, Locator, Page, expect

# Chromium otherwise connects to servers of its vendor, which a closed network rejects.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
Point = tuple[float, float]
# Everything that a test expects or does; the defaults are 5 and 30 s. No test measures it.
DONE_WITHIN_MS = 240_000


def new_page(browser: Browser) -> Page:
    """Open an empty page that waits as long as a busy machine needs."""
    page = browser.new_page()
    page.set_default_timeout(DONE_WITHIN_MS)
    return page


@contextmanager
def opened_page(browser: Browser, url: str) -> Iterator[Page]:
    """Yield the page with its settings unfolded, and fail on errors in its console.

    Rejected requests (422) are not errors here.
    """
    page = new_page(browser)
    errors: list[str] = []

    def note(line: ConsoleMessage) -> None:
        if line.type == "error":
            errors.append(f"{line.text} {line.location['url']}")

    page.on("console", note)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    expect(page.locator("#health")).to_have_text("ready")
    unfold(page)
    yield page
    page.close()
    wrong = [text for text in errors if "422" not in text]
    assert not wrong, wrong


def unfold(page: Page) -> None:
    """Open all folded groups of settings."""
    page.evaluate("for (const each of document.querySelectorAll('#form details')) each.open = true")


def image_file(width: int, height: int, name: str = "a.png") -> FilePayload:
    """Return an image file without a recipe; no two of its rows are equal."""
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize((width, height)).convert("RGB").save(buffer, "PNG")
    return {"name": name, "mimeType": "image/png", "buffer": buffer.getvalue()}


def generate(page: Page, prompt: str) -> None:
    page.locator("#prompt").fill(prompt)
    page.locator("#generate").click()
    expect(page.locator("#status")).to_contain_text("Done")


def select_task(page: Page, name: str) -> None:
    """Select the tab of a task."""
    page.locator("#tabs").get_by_text(name, exact=True).click()


def drag(page: Page, target: Locator, start: Point, end: Point) -> None:
    """Drag the mouse from one point of an element to another, in shares of its sides."""
    box = target.bounding_box()
    assert box is not None
    (x0, y0), (x1, y1) = (
        (box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)
    )
    page.mouse.move(x0, y0)
    page.mouse.down()
    page.mouse.move((x0 + x1) / 2, (y0 + y1) / 2)
    page.mouse.move(x1, y1)
    page.mouse.up()


def image_sizes(page: Page) -> list[list[int]]:
    """Return width and height of every image in the gallery, in pixels."""
    sizes: list[list[int]] = page.locator("#gallery img").evaluate_all(
        "async (images) => Promise.all(images.map(async (i) => "
        "(await i.decode(), [i.naturalWidth, i.naturalHeight])))"
    )
    return sizes
