"""Answers, chats and the life of a manager in apps of Starlette and FastAPI, on any ASGI server. Needs the extra
``starlette``.

``sse_response`` and its siblings are what an endpoint of your own returns; ``chat_routes`` is a whole chat,
``openai_routes`` the same endpoints for clients of OpenAI's API; ``playground`` a page to look at;
``lifespan`` opens and closes the manager with the app.
"""

from importlib.util import find_spec

from dhenara_async.errors import MissingExtraError

if find_spec("starlette") is None:
    raise MissingExtraError("dhenara_async.web.starlette", extra="starlette")

from dhenara_async.web.chat.options import ChatOptions
from dhenara_async.web.inputs.fields import WebLimits
from dhenara_async.web.starlette.lifespan import lifespan
from dhenara_async.web.starlette.openai import openai_routes
from dhenara_async.web.starlette.page import playground
from dhenara_async.web.starlette.responses import (
    AnswerResponse,
    agui_response,
    json_lines_response,
    sse_response,
    text_response,
    ui_message_response,
)
from dhenara_async.web.starlette.routes import chat_routes

__all__ = [
    "AnswerResponse",
    "ChatOptions",
    "WebLimits",
    "agui_response",
    "chat_routes",
    "json_lines_response",
    "lifespan",
    "openai_routes",
    "playground",
    "sse_response",
    "text_response",
    "ui_message_response",
]
