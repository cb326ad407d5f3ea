"""Fixtures of the end-to-end tests: a local stack with a tiny model, a client and a browser."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from bench.docs.page_screenshot import chromium
from tests.end_to_end.browser import DONE_WITHIN_MS, QUIET, opened_page
from tests.support.local_stack import running_stack
from tests.support.tiny_models import write_tiny_sd


@pytest.fixture(scope="session")
def darkroom_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a local stack, shared by all tests here, and return its address."""
    model = write_tiny_sd(tmp_path_factory.mktemp("models") / "tiny")
    # The executor is chosen by measurement, as by default.
    with running_stack(DARKROOM_MODEL=str(model), DARKROOM_WORKER_EXECUTOR="auto") as url:
        yield url


@pytest.fixture
def client(darkroom_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=darkroom_url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium()
    if path is None:
        pytest.skip("no Chromium on PATH to open the page with")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        expect.set_options(timeout=DONE_WITHIN_MS)
        yield browser
        browser.close()


@pytest.fixture
def page_url(darkroom_url: str) -> str:
    """Return the address that `page` opens; modules with a service of their own replace it."""
    return darkroom_url


@pytest.fixture
def page(browser: Browser, page_url: str) -> Iterator[Page]:
    """Open the page, and choose few steps."""
    with opened_page(browser, page_url) as page:
        page.locator("#steps").fill("2")
        yield page
