"""Answers, chats and the life of a manager in apps of aiohttp.web; the same names as in ``web.starlette``.

``sse_response`` and its siblings are what a handler of your own returns; ``chat_routes`` is a whole chat,
``openai_routes`` the same endpoints for clients of OpenAI's API;
``lifespan`` opens and closes the manager with the app.
"""

from dhenara_async.web.aiohttp.lifespan import lifespan
from dhenara_async.web.aiohttp.openai import openai_routes
from dhenara_async.web.aiohttp.page import playground
from dhenara_async.web.aiohttp.responses import (
    AiohttpAnswer,
    agui_response,
    json_lines_response,
    sse_response,
    text_response,
    ui_message_response,
)
from dhenara_async.web.aiohttp.routes import chat_routes
from dhenara_async.web.chat.options import ChatOptions
from dhenara_async.web.inputs.fields import WebLimits

__all__ = [
    "AiohttpAnswer",
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
