"""The page at / as a visitor uses it: opened in a browser, filled in, looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, expect

# Without these, Chromium looks for servers of its own, which a closed network refuses.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
DONE_WITHIN_MS = 60_000


@contextmanager
def visited(browser: Browser, url: str) -> Iterator[Page]:
    """The page, with its settings unfolded. Whatever it complains of in its console is a failure,
    but for requests that are refused."""
    page = browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(url)
    expect(page.locator("#health")).to_have_text("ready")
    page.locator("summary").click()
    yield page
    page.close()
    assert [text for text in complaints if "422" not in text] == []


def develop(page: Page, prompt: str) -> None:
    page.locator("#prompt").fill(prompt)
    page.locator("#go").click()
    expect(page.locator("#status")).to_contain_text("Done", timeout=DONE_WITHIN_MS)


def pictures(page: Page) -> list[list[int]]:
    """Width and height of every picture that is shown, in its own pixels."""
    sizes: list[list[int]] = page.locator("#gallery img").evaluate_all(
        "async (images) => Promise.all(images.map(async (i) => "
        "(await i.decode(), [i.naturalWidth, i.naturalHeight])))"
    )
    return sizes
