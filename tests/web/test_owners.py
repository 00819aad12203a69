"""What the app's own ``owner`` returns: a name, nobody, a name that no store can keep, or no text at all."""

from typing import cast

import pytest
from aiohttp import ClientSession, web
from starlette.applications import Starlette
from starlette.requests import Request

from dhenara_async import AIModelAPI, AIModelAPIProviderEnum, AIModelEndpoint, ConversationManager
from dhenara_async.errors import ConfigurationError
from dhenara_async.models.openai import GPT4oMini
from dhenara_async.web import aiohttp as for_aiohttp
from dhenara_async.web import starlette as for_starlette
from dhenara_async.web.chat.http import owner_of
from tests.cases import cases
from tests.web.servers import served, served_by_aiohttp

# By the value of a header, which stands for a cookie.
RETURNED: dict[str, object] = {"ann": "ann", "nul": "a\0b", "half": "a\ud800", "none": None, "empty": "", "number": 7}
STATUSES = {"ann": 200, "nul": 400, "half": 400, "none": 401, "empty": 401, "number": 500}


def named(request: Request | web.Request) -> str:
    return cast("str", RETURNED[request.headers["x-user"]])


async def named_later(request: Request | web.Request) -> str:
    return named(request)


@pytest.mark.parametrize("framework", ["starlette", "aiohttp"])
async def test_an_owner_that_cannot_be_kept_is_refused_in_the_words_of_each_front(framework: str) -> None:
    models = {"m": AIModelEndpoint(api=AIModelAPI(provider=AIModelAPIProviderEnum.OPEN_AI), ai_model=GPT4oMini)}
    async with ConversationManager() as manager:
        if framework == "starlette":
            routes = for_starlette.chat_routes(manager, models, owner=named)
            routes += for_starlette.openai_routes(manager, models, owner=named_later)
            serving = served(Starlette(routes=routes))
        else:
            app = web.Application()
            app.add_subapp("/api", for_aiohttp.chat_routes(manager, models, owner=named))
            app.add_subapp("/v1", for_aiohttp.openai_routes(manager, models, owner=named_later))
            serving = served_by_aiohttp(app)
        async with serving as url, ClientSession() as session:
            with cases() as case:
                for user, status in STATUSES.items():
                    for path in ("/api/conversations", "/v1/models"):
                        with case((user, path)):
                            async with session.get(f"{url}{path}", headers={"x-user": user}) as answer:
                                assert answer.status == status
                                if status in (400, 401) and path.startswith("/v1"):
                                    error = (await answer.json())["error"]
                                    assert error["type"] == "invalid_request_error"
                                elif status == 400:
                                    assert (
                                        await answer.text()
                                        == "The name of the user has characters that cannot be kept."
                                    )


async def test_an_owner_that_is_no_text_is_a_fault_of_the_app() -> None:
    with pytest.raises(ConfigurationError, match="type int: return the user's id as a text"):
        await owner_of(None, lambda _: cast("str", 7))
