"""Take the README's screenshot of the web page: python -m bench.docs.page_screenshot [URL]

It opens the page of a running Darkroom in Chromium, generates four images and writes
docs/images/page.png.
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
REQUESTS = (("pizza", "3"), ("red heart", "2"))  # prompt and seed; the page shows the last first


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
        page = browser.new_page(viewport=SIZE, color_scheme="dark", device_scale_factor=2)  # type: ignore[arg-type]
        page.goto(url)
        page.locator("summary").click()
        for prompt, seed in REQUESTS:
            page.locator("#prompt").fill(prompt)
            page.locator("#seed").fill(seed)
            page.locator("#n").fill("2")
            page.locator("#generate").click()
            expect(page.locator("#gallery")).to_contain_text(prompt, timeout=120_000)
            expect(page.locator("#status")).to_contain_text("Done", timeout=120_000)
        page.locator("h1").scroll_into_view_if_needed()
        page.wait_for_timeout(1500)  # until the last images have faded in
        OUTPUT.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=OUTPUT)
        browser.close()
    print(OUTPUT)


if __name__ == "__main__":
    main()
