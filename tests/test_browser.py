"""The browser of the page tests: profiles are apart, and what pages complain about is recorded."""

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from tests.browser import Browsing
from tests.web.servers import served

pytestmark = pytest.mark.asyncio(loop_scope="session")
LOUD = """<link rel="icon" href="data:,"><script>
localStorage.setItem('seen', Number(localStorage.getItem('seen') ?? 0) + 1);
console.warn('careful');
fetch('http://example.com/beacon').catch(() => { throw new Error('not caught'); });
</script><p>Loud</p>"""


async def loud(request: Request) -> HTMLResponse:
    return HTMLResponse(LOUD)


@pytest.mark.parametrize("test", ["first", "second"])
async def test_each_test_has_its_own_profile_and_a_record_of_its_pages(test: str, browsing: Browsing) -> None:
    async with served(Starlette(routes=[Route("/", loud)])) as url:
        async with browsing.context.expect_event("weberror"):
            page = await browsing.open(url)
        window = await browsing.open(url)
        assert await page.evaluate("localStorage.getItem('seen')") == "2"
        await window.get_by_text("Loud").wait_for()
    assert {"warning: careful", "not caught", "http://example.com/beacon"} <= set(browsing.problems)


async def test_a_quiet_page_is_quiet(browsing: Browsing) -> None:
    async def quiet(request: Request) -> HTMLResponse:
        return HTMLResponse('<link rel="icon" href="data:,"><p>Quiet</p>')

    async with served(Starlette(routes=[Route("/", quiet)])) as url:
        page = await browsing.open(url)
        await page.get_by_text("Quiet").wait_for()
    assert browsing.problems == []
