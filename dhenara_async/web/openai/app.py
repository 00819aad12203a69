"""``OpenAIApp``: what the routes of the OpenAI-compatible front do, for every framework."""

import logging
from collections.abc import Collection, Mapping
from functools import partial
from time import time
from uuid import uuid4

from dhenara_async.config import AIModelCallConfig
from dhenara_async.errors import ConfigurationError, DhenaraError
from dhenara_async.manager import ConversationManager
from dhenara_async.plans.targets import Target, target_of
from dhenara_async.web.chat.http import (
    Handler,
    WebReply,
    WebRequest,
    check_json,
    check_origin,
    check_owner,
    json_reply,
)
from dhenara_async.web.feeds import Feed
from dhenara_async.web.frames.failures import failure_of
from dhenara_async.web.inputs.fields import RefusedRequest, WebLimits
from dhenara_async.web.openai.bodies import read_by
from dhenara_async.web.openai.chat.feeds import CompletionFeed, CompletionStreamFeed
from dhenara_async.web.openai.chat.frames import ChatFrames, CompletionHead
from dhenara_async.web.openai.chat.input import CompletionRequest, chat_request
from dhenara_async.web.openai.errors import NO_MODEL, NOT_ASKED, OpenAIError, OpenAIRefusal, error_of, error_reply
from dhenara_async.web.openai.known_answers import KnownAnswers
from dhenara_async.web.openai.responses.app import ResponsesApp
from dhenara_async.web.openai.sent_history import SentHistory

logger: logging.Logger = logging.getLogger("dhenara_async")

_OWNED_BY = "dhenara-async"


class OpenAIApp:
    """The routes of the front.

    Args:
        manager: Its connections, limits, budgets and store are used.
        models: The targets, by the name that a client sends as ``model``.
        prefix: The beginning of the paths.
        config: Options of every call, where a request has none of its own; None = the manager's.
        origins: Origins of other sites whose pages may send requests without a key.
        limits: How much a client may send; None = ``WebLimits()``.
        keep: Whether answers are kept in the manager's store; see ``KnownAnswers``.

    Attributes:
        routes: Method, path and handler of every route.

    Raises:
        ConfigurationError: There is no model, one cannot be used, or the store cannot keep answers.
    """

    def __init__(
        self,
        manager: ConversationManager,
        models: Mapping[str, Target | str],
        prefix: str = "/v1",
        *,
        config: AIModelCallConfig | None = None,
        origins: Collection[str] = (),
        limits: WebLimits | None = None,
        keep: bool | None = None,
    ) -> None:
        if not isinstance(models, Mapping) or not models:  # pyright: ignore[reportUnnecessaryIsInstance] - user input
            raise ConfigurationError('endpoints is a mapping of names: {"claude": claude, "gpt": gpt}')
        self._manager = manager
        self._models: dict[str, Target] = {name: target_of(model, "openai_routes") for name, model in models.items()}
        self._config = config
        if isinstance(origins, str):
            raise ConfigurationError("origins is a sequence of texts: write [text]")
        self._origins = frozenset(origins)
        self._limits = limits or WebLimits()
        self._known = KnownAnswers(manager, keep=keep)
        self._created = int(time())
        prefix = prefix.rstrip("/")
        responses = ResponsesApp(manager, self._models, self._known, config, self._limits, keep=keep is not False)
        self.routes: tuple[tuple[str, str, Handler], ...] = (
            ("GET", f"{prefix}/models", self._list_models),
            ("GET", f"{prefix}/models/{{id}}", self._model),
            ("POST", f"{prefix}/chat/completions", self._chat),
            *responses.routes_below(f"{prefix}/responses"),
        )

    async def handle(self, handler: Handler, request: WebRequest) -> WebReply | Feed:
        """Answer one request: with a whole reply, or with a feed to send.

        Args:
            handler: One of ``routes``.
            request: The request.
        """
        try:
            if "authorization" not in request.headers:  # a page of another site can make a browser send cookies only
                check_origin(request.method, request.headers, self._origins)
            if not request.owner:
                return error_reply(OpenAIError(401, "The key is missing or not valid.", "invalid_api_key"))
            check_owner(request.owner)
            return await handler(request)
        except OpenAIRefusal as refused:
            return error_reply(refused.error)
        except RefusedRequest as refused:
            return error_reply(OpenAIError(refused.status, refused.words))
        except DhenaraError as exc:
            failure = failure_of(exc)
            return error_reply(error_of(failure), failure.headers)

    async def _list_models(self, request: WebRequest) -> WebReply:
        return json_reply({"object": "list", "data": [self._entry(name) for name in self._models]})

    async def _model(self, request: WebRequest) -> WebReply:
        name = request.path["id"]
        if name not in self._models:
            return error_reply(NO_MODEL)
        return json_reply(self._entry(name))

    def _entry(self, name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": _OWNED_BY}

    async def _chat(self, request: WebRequest) -> WebReply | Feed:
        check_json(request.headers)
        body = await request.read(self._limits.body_bytes)
        asked, sent = await read_by(partial(self._read, request.owner), body)
        target = self._models.get(asked.model)
        if target is None:
            return error_reply(NO_MODEL)
        completion = CompletionHead(f"chatcmpl-{uuid4().hex}", int(time()), asked.model, asked.functions)
        frames = ChatFrames(completion, include_usage=asked.include_usage)
        try:
            turn = await self._known.turn(asked, sent, target, lambda: frames.void)
        except ConfigurationError as exc:
            logger.warning("a call of the OpenAI-compatible front cannot be made: %s", type(exc).__name__)
            return error_reply(NOT_ASKED)
        return CompletionStreamFeed(turn, frames) if asked.streamed else CompletionFeed(turn, completion)

    def _read(self, owner: str, body: bytes) -> tuple[CompletionRequest, SentHistory]:
        asked = chat_request(body, self._config or self._manager.config, self._limits)
        return asked, SentHistory(owner, asked.messages)
