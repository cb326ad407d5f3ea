"""The reference at /docs in a real browser: it lists the routes and sends requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Locator, Page, Request, expect

from service.openapi import TAGS
from tests.end_to_end.browser import new_page
from tests.service.conftest import ABLE, running
from tests.service.keys import ADMIN_KEY

pytestmark = pytest.mark.early

OPENAI = "openai"


@contextmanager
def reference(browser: Browser, url: str, key: str = "") -> Iterator[Page]:
    """Open the reference; fail on console errors, blocked content and requests to other hosts.

    A response of 401 is no error here. `key` is the one that was entered on the page at /.
    """
    page = new_page(browser)
    errors: list[str] = []
    others: list[str] = []

    def check_host(request: Request) -> None:
        if not request.url.startswith((url.rpartition("/docs")[0], "data:", "blob:")):
            others.append(request.url)

    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", check_host)
    if key:
        page.add_init_script(f"sessionStorage.setItem('key', '{key}')")
    page.goto(url)
    expect(page.locator(".opblock-tag").first).to_be_visible()
    yield page
    page.close()
    assert others == []
    assert [text for text in errors if "401" not in text] == []


def unfolded(page: Page, tag: str, operation: str) -> Locator:
    """Unfold an operation and return its element."""
    page.locator(f"#operations-tag-{tag}").click()
    block = page.locator(f"#operations-{tag}-{operation}")
    block.locator(".opblock-summary-control").click()
    return block


def status_of(block: Locator) -> Locator:
    return block.locator(".live-responses-table tbody .response-col_status")


def test_route_is_tried_with_a_key(browser: Browser, redis_url: str) -> None:
    """Without a key the answer is 401; with one, the example of the route generates images.

    With one API of another system: the browser takes seconds for the description of all.
    """
    settings = {"auth": "required", "admin_key": ADMIN_KEY, "dialects": OPENAI}
    with (
        running(redis_url, ABLE, **settings) as service,
        reference(browser, f"{service.url}/docs") as page,
    ):
        tags = page.locator(".opblock-tag")
        names = tags.evaluate_all("(tags) => tags.map((tag) => tag.dataset.tag)")
        assert names == [*(tag["name"] for tag in TAGS), OPENAI]
        block = unfolded(page, "images", "txt2img")
        block.locator(".execute").click()
        expect(status_of(block)).to_have_text("401")
        page.locator(".auth-wrapper .authorize").first.click()
        dialog = page.locator(".dialog-ux")
        dialog.locator("input").first.fill(ADMIN_KEY)
        dialog.get_by_role("button", name="Apply credentials").first.click()
        dialog.get_by_role("button", name="Close").first.click()
        block.locator(".execute").click()
        expect(status_of(block)).to_have_text("200")
        expect(block.locator(".live-responses-table")).to_contain_text('"seed": 8')
    assert (service.worker.seen[-1].prompt, service.worker.seen[-1].n) == ("a slice of pizza", 2)


def test_image_is_shown_below_a_path(browser: Browser, redis_url: str) -> None:
    """The key of the page is used. The image is a blob, which the policy of contents allows."""
    settings = {"root_path": "/studio", "auth": "required", "admin_key": ADMIN_KEY, "dialects": ""}
    with (
        running(redis_url, ABLE, **settings) as service,
        reference(browser, f"{service.url}/studio/docs", ADMIN_KEY) as page,
    ):
        block = unfolded(page, "images", "unconditional")
        block.locator(".responses-wrapper select.content-type").first.select_option("image/webp")
        block.locator(".execute").click()
        image = block.locator(".live-responses-table img")
        expect(image).to_be_visible()
        assert image.evaluate("async (image) => (await image.decode(), image.naturalWidth)") == 64
