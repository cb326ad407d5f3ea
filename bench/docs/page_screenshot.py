"""Take the screenshots of the studio: python -m bench.docs.page_screenshot [URL]

It opens the page of a running Darkroom with the bundled model in Chromium, generates images and
writes docs/images/studio-*.webp, one for each layout.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

Scheme = Literal["light", "dark"]
FOLDER = Path(__file__).parents[2] / "docs/images"
URL = "http://127.0.0.1:8000"
BROWSERS = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
)  # fastest first
WIDE = ViewportSize(width=1480, height=860)
LAPTOP = ViewportSize(width=1100, height=740)
PHONE = ViewportSize(width=390, height=740)
# Prompt and seed; the page shows the last first.
REQUESTS = (("fire", "4"), ("slice of pizza", "3"), ("blue heart", "8"), ("red heart", "2"))
QUALITY = 88
PATIENCE_MS = 120_000


def chromium() -> str | None:
    """Return the path of Chromium, or None if this machine has none."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def main() -> None:
    url = sys.argv[1] if len(sys.argv) > 1 else URL
    path = chromium()
    if path is None:
        sys.exit(f"needs one of {', '.join(BROWSERS)} on PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        expect.set_options(timeout=PATIENCE_MS)
        save(generated(browser, url, WIDE, "dark"), "wide")
        save(inpainting(generated(browser, url, LAPTOP, "light")), "laptop")
        save(generated(browser, url, PHONE, "dark"), "phone")
        browser.close()


def generated(browser: Browser, url: str, size: ViewportSize, scheme: Scheme) -> Page:
    """Open the page in a layout and generate some images."""
    page = browser.new_page(viewport=size, color_scheme=scheme)
    page.goto(url)
    expect(page.locator("#health")).to_have_text("ready")
    settings = page.locator("#settings")
    folded = settings.get_attribute("open") is None
    settings.evaluate("(details) => { details.open = true; }")
    page.locator("#n").fill("4")
    for done, (prompt, seed) in enumerate(REQUESTS, start=1):
        page.locator("#prompt").fill(prompt)
        page.locator("#seed").fill(seed)
        page.locator("#generate").click()
        # One after the other, so that the last prompt is that of the image that is shown.
        expect(page.locator("#gallery img")).to_have_count(4 * done)
    settings.evaluate("(details, open) => { details.open = open; }", not folded)
    page.evaluate("document.scrollingElement.scrollTo(0, 0)")
    return page


def inpainting(page: Page) -> Page:
    """Send the shown image to the canvas and paint a stroke on it."""
    menu = page.locator("details.menu", has_text="Send to")
    menu.locator("summary").click()
    menu.get_by_role("button", name="Inpaint").click()
    box = page.locator("#mask").bounding_box()
    assert box is not None
    for share in (0.2, 0.4, 0.55):
        page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] * 0.35)
        page.mouse.down()
    page.mouse.up()
    return page


def save(page: Page, layout: str) -> None:
    """Write the screenshot of a layout and close the page."""
    page.wait_for_timeout(800)  # until the last images have faded in
    path = FOLDER / f"studio-{layout}.webp"
    with Image.open(io.BytesIO(page.screenshot())) as image:
        image.convert("RGB").save(path, quality=QUALITY, method=6)
    page.close()
    print(path)


if __name__ == "__main__":
    main()
