"""The README's picture of the page, taken again: python -m bench.docs.page_screenshot [URL]

Opens the page of a running Darkroom in Chromium, asks for four pictures as a visitor would, and
writes docs/images/page.png.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

OUTPUT = Path(__file__).parents[2] / "docs/images/page.png"
URL = "http://127.0.0.1:8000"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = {"width": 1180, "height": 760}
WISHES = (("pizza", "3"), ("red heart", "2"))  # prompt and seed; the last comes first on the page


def chromium() -> str | None:
    """The Chromium of this machine, if it has one."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def main() -> None:
    url = sys.argv[1] if len(sys.argv) > 1 else URL
    path = chromium()
    if path is None:
        sys.exit(f"needs one of {', '.join(BROWSERS)} on PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE, color_scheme="dark", device_scale_factor=2)  # type: ignore[arg-type]
        page.goto(url)
        page.locator("summary").click()
        for prompt, seed in WISHES:
            page.locator("#prompt").fill(prompt)
            page.locator("#seed").fill(seed)
            page.locator("#n").fill("2")
            page.locator("#generate").click()
            expect(page.locator("#gallery")).to_contain_text(prompt, timeout=120_000)
            expect(page.locator("#status")).to_contain_text("Done", timeout=120_000)
        page.locator("h1").scroll_into_view_if_needed()
        page.wait_for_timeout(1500)  # the last pictures develop
        OUTPUT.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=OUTPUT)
        browser.close()
    print(OUTPUT)


if __name__ == "__main__":
    main()
