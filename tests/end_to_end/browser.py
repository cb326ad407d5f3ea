"""Helpers to use the page at / in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, expect

# Chromium otherwise connects to servers of its vendor, which a closed network rejects.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
DONE_WITHIN_MS = 60_000  # everything that a test expects; the default is 5 s


@contextmanager
def opened_page(browser: Browser, url: str) -> Iterator[Page]:
    """Yield the page with its settings unfolded, and fail on errors in its console.

    Rejected requests (422) are not errors here.
    """
    page = browser.new_page()
    errors: list[str] = []
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    expect(page.locator("#health")).to_have_text("ready")
    page.locator("summary").click()
    yield page
    page.close()
    assert [text for text in errors if "422" not in text] == []


def generate(page: Page, prompt: str) -> None:
    page.locator("#prompt").fill(prompt)
    page.locator("#generate").click()
    expect(page.locator("#status")).to_contain_text("Done")


def image_sizes(page: Page) -> list[list[int]]:
    """Return width and height of every image in the gallery, in pixels."""
    sizes: list[list[int]] = page.locator("#gallery img").evaluate_all(
        "async (images) => Promise.all(images.map(async (i) => "
        "(await i.decode(), [i.naturalWidth, i.naturalHeight])))"
    )
    return sizes
