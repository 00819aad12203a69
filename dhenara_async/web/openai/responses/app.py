"""``ResponsesApp``: what the routes of ``/v1/responses`` do, for every framework.

A response that is kept is a turn of one of the owner's conversations, and its id names both, so that every process on
the same store serves it. ``previous_response_id`` makes the next turn follow that one; if others follow it already, the
new one is a branch beside them.
"""

import logging
from collections.abc import Mapping
from functools import partial

from dhenara_async.config import AIModelCallConfig
from dhenara_async.errors import ConfigurationError
from dhenara_async.manager import ConversationManager
from dhenara_async.plans.targets import Target
from dhenara_async.stores import MemoryStore, StoreWithOwners
from dhenara_async.web.chat.http import Handler, WebReply, WebRequest, check_json, json_reply
from dhenara_async.web.feeds import Feed
from dhenara_async.web.inputs.fields import WebLimits, bad
from dhenara_async.web.openai.bodies import read_by
from dhenara_async.web.openai.errors import JSON, NO_MODEL, NOT_ASKED, OpenAIError, OpenAIRefusal
from dhenara_async.web.openai.known_answers import KnownAnswers
from dhenara_async.web.openai.responses.feeds import ResponseFeed, ResponseReplayFeed, ResponseStreamFeed
from dhenara_async.web.openai.responses.input import ResponseRequest, response_request
from dhenara_async.web.openai.responses.kept_responses import KeptResponses
from dhenara_async.web.openai.responses.object import response_body
from dhenara_async.web.openai.responses.turns import KeptTurn, ResponseTurns

logger: logging.Logger = logging.getLogger("dhenara_async")

_NO_BACKGROUND = OpenAIError(
    400,
    "This server keeps no journal, so that no answer can go on without its reader: leave out background.",
    "unsupported_value",
    "background",
)
_NOT_KEPT = OpenAIError(400, "This server keeps no responses: leave out background.", "unsupported_value", "background")


class ResponsesApp:
    """The routes of responses.

    Args:
        manager: Answers and keeps the responses; each request sees only those of its owner.
        models: The targets, by the name that a client sends as ``model``.
        known: Recognises answers that are not kept.
        config: Options of every call, where a request has none of its own; None = the manager's.
        limits: How much a client may send.
        keep: Whether responses may be kept; False = none is, as if every request said ``store: false``. None is kept
            either in a store that does not keep owners apart.
    """

    def __init__(
        self,
        manager: ConversationManager,
        models: Mapping[str, Target],
        known: KnownAnswers,
        config: AIModelCallConfig | None,
        limits: WebLimits,
        *,
        keep: bool,
    ) -> None:
        self._manager = manager
        self._models = models
        self._known = known
        self._config = config
        self._limits = limits
        self._keep = keep
        self._nothing = ConversationManager(store=MemoryStore(), journal=None)  # is read, and never asked

    def routes_below(self, path: str) -> tuple[tuple[str, str, Handler], ...]:
        """Return method, path and handler of every route.

        Args:
            path: The beginning of the paths.
        """
        return (
            ("POST", path, self._create),
            ("GET", f"{path}/{{id}}", self._get),
            ("DELETE", f"{path}/{{id}}", self._delete),
            ("POST", f"{path}/{{id}}/cancel", self._cancel),
            ("GET", f"{path}/{{id}}/input_items", self._input_items),
        )

    async def _create(self, request: WebRequest) -> WebReply | Feed:
        check_json(request.headers)
        body = await request.read(self._limits.body_bytes)
        base = self._config or self._manager.config
        asked = await read_by(partial(response_request, base=base, limits=self._limits), body)
        target = self._models.get(asked.model)
        if target is None:
            raise OpenAIRefusal(NO_MODEL)
        try:
            return await (self._kept if asked.store and self._keeps else self._unkept)(request, asked, target)
        except ConfigurationError as exc:
            logger.warning("a response of the OpenAI-compatible front cannot be made: %s", type(exc).__name__)
            raise OpenAIRefusal(NOT_ASKED) from exc

    async def _kept(self, request: WebRequest, asked: ResponseRequest, target: Target) -> WebReply | Feed:
        manager = self._manager_of(request)
        if asked.background and not manager.keeps_journal:
            raise OpenAIRefusal(_NO_BACKGROUND)
        kept = await ResponseTurns(manager, self._known, request.owner).kept(asked, target)
        if asked.background:
            return await self._detached(manager, kept, asked)
        feed = ResponseStreamFeed if asked.streamed else ResponseFeed
        return feed(kept.turn, kept.head, discard=kept.discard)

    async def _detached(self, manager: ConversationManager, kept: KeptTurn, asked: ResponseRequest) -> WebReply | Feed:
        """Let the answer go on in the manager; a client that streams it is a reader like any later one."""
        try:
            async with kept.turn as turn:
                turn.detach()
        except BaseException:
            await kept.discard()
            raise
        if asked.streamed:
            return ResponseReplayFeed(manager.attach(kept.place.node), kept.head)
        return _json(response_body(kept.head, None, "in_progress"))

    async def _unkept(self, request: WebRequest, asked: ResponseRequest, target: Target) -> Feed:
        if asked.background:
            raise OpenAIRefusal(_NOT_KEPT)
        manager = self._manager_of(request)
        turn, head = await ResponseTurns(manager, self._known, request.owner).unkept(asked, target)
        return (ResponseStreamFeed if asked.streamed else ResponseFeed)(turn, head)

    async def _get(self, request: WebRequest) -> WebReply | Feed:
        responses = self._responses_of(request)
        found = await responses.find(request.path["id"])
        if request.query.get("stream") not in ("true", "1"):
            return _json(found.body)
        return responses.replay(found, _number(request.query.get("starting_after")))

    async def _delete(self, request: WebRequest) -> WebReply:
        name = request.path["id"]
        await self._responses_of(request).delete(name)
        return json_reply({"id": name, "object": "response", "deleted": True})

    async def _cancel(self, request: WebRequest) -> WebReply:
        return _json((await self._responses_of(request).cancel(request.path["id"])).body)

    async def _input_items(self, request: WebRequest) -> WebReply:
        return json_reply(await self._responses_of(request).input_items(request.path["id"], request.query))

    def _responses_of(self, request: WebRequest) -> KeptResponses:
        return KeptResponses(self._manager_of(request))

    @property
    def _keeps(self) -> bool:
        return self._keep and isinstance(self._manager.store, StoreWithOwners)

    def _manager_of(self, request: WebRequest) -> ConversationManager:
        """Return the manager of an owner's responses; it finds nothing if the store does not keep owners apart."""
        separate = isinstance(self._manager.store, StoreWithOwners)
        return (self._manager if separate else self._nothing).scoped(request.owner)


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise bad("starting_after is not a number from 0 on.")
    return int(text)


def _json(body: bytes) -> WebReply:
    return WebReply(200, body, JSON, {"cache-control": "no-store"})
