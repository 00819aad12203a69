"""Chromium for the tests of pages: one browser for each test process, and a record of what its pages complain about.

A test that uses ``browsing`` runs in the loop of the session, where the browser lives:
``pytestmark = pytest.mark.asyncio(loop_scope="session")``.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, WebError

_FLAGS = (
    *("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
)
_PATIENCE_MS = 60_000
_HERE = {"127.0.0.1", "localhost"}


@dataclass
class Browsing:
    """The windows of one person, and what their pages did from the first moment.

    Attributes:
        context: The profile: cookies and storage that the windows share, and nobody else has.
        console: What pages wrote to the console, as ``type: text``.
        errors: Errors that no page caught.
        elsewhere: URLs of other hosts that a page asked for. None of these requests leaves the machine.
    """

    context: BrowserContext
    console: list[str] = field(default_factory=list[str])
    errors: list[str] = field(default_factory=list[str])
    elsewhere: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.context.on("console", self._log)
        self.context.on("weberror", self._fail)
        self.context.on("request", self._ask)

    async def open(self, url: str) -> Page:
        """Open a new window at ``url``."""
        page = await self.context.new_page()
        await page.goto(url)
        return page

    @property
    def problems(self) -> list[str]:
        """All that no page should do: ``assert browsing.problems == []``."""
        return [*self.console, *self.errors, *self.elsewhere]

    def _log(self, message: ConsoleMessage) -> None:
        self.console.append(f"{message.type}: {message.text}")

    def _fail(self, error: WebError) -> None:
        self.errors.append(str(error.error))

    def _ask(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme in {"http", "https", "ws", "wss"} and address.hostname not in _HERE:
            self.elsewhere.append(request.url)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncGenerator[Browser]:
    """One headless Chromium for the tests of this process."""
    playwright = pytest.importorskip("playwright.async_api", reason="playwright is missing: pip install playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("chromium is missing: apt-get install chromium")
    playwright.expect.set_options(timeout=_PATIENCE_MS)
    async with playwright.async_playwright() as running:
        browser = await running.chromium.launch(executable_path=program, args=list(_FLAGS))
        try:
            yield browser
        finally:
            await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def browsing(request: pytest.FixtureRequest, chromium: Browser) -> AsyncGenerator[Browsing]:
    """A new profile of the browser for one test."""
    marker = request.node.get_closest_marker("asyncio")
    assert marker is not None, "a test of a page needs @pytest.mark.asyncio(loop_scope='session')"
    assert marker.kwargs.get("loop_scope") == "session"
    context = await chromium.new_context()
    context.set_default_timeout(_PATIENCE_MS)
    try:
        yield Browsing(context)
    finally:
        await context.close()
