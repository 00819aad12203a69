"""``PlaygroundApp``: the page and its own API, for every framework.

It is written on the manager, its store and the rooms of ``web`` alone, like an app of somebody else. Turns go on
without their page; the page reads them as events, as often as it likes, from any window.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version

import anyio.to_thread

from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.errors import (
    ConfigurationError,
    ConversionLossError,
    UnknownConversationError,
    UnsupportedError,
)
from dhenara_async.manager import ConversationManager
from dhenara_async.plans.targets import Target
from dhenara_async.stores import StoredConversation
from dhenara_async.stores.outline import outline_of
from dhenara_async.tools.declarations import HostedTool
from dhenara_async.web.chat.branches import NO_ANSWER, AnswerBy
from dhenara_async.web.chat.conversations import ConversationRoutes, chat_id_of, opened_with
from dhenara_async.web.chat.deleted import demand_kept, without_deleted
from dhenara_async.web.chat.files import saved_as
from dhenara_async.web.chat.history import Json
from dhenara_async.web.chat.http import Handler, WebReply, WebRequest, handled, json_reply, nothing_reply
from dhenara_async.web.chat.marks import is_mark
from dhenara_async.web.feeds import Feed
from dhenara_async.web.inputs.fields import RefusedRequest, bad, checked_id
from dhenara_async.web.playground.asking import Asking, following
from dhenara_async.web.playground.assets import Assets
from dhenara_async.web.playground.catalogue import Models
from dhenara_async.web.playground.errors_in_words import told_exception
from dhenara_async.web.playground.inputs import (
    ResumeRequest,
    check_request,
    followed_turns,
    resume_request,
    turns_request,
)
from dhenara_async.web.playground.node_json import (
    deleted_json,
    part_json,
    report_json,
    running_json,
    tree_json,
    turn_json,
    waiting_json,
)
from dhenara_async.web.playground.options import PlaygroundOptions
from dhenara_async.web.playground.outlines import Outlines
from dhenara_async.web.playground.security import HEADERS, secured
from dhenara_async.web.playground.turn_events import TurnEvents
from dhenara_async.web.playground.waiting import waiting_at_end


class PlaygroundApp:
    """The routes of the page.

    Args:
        manager: Answers and keeps the conversations; each request sees only those of its owner.
        models: The targets, by the name that the page shows.
        prefix: The beginning of the paths.
        options: See ``PlaygroundOptions``.

    Attributes:
        routes: Method, path and handler of every route.

    Raises:
        ConfigurationError: There is no model, or one cannot be used.
    """

    def __init__(
        self,
        manager: ConversationManager,
        models: Mapping[str, Target | str],
        prefix: str,
        options: PlaygroundOptions,
    ) -> None:
        self._manager = manager
        self._models = Models(models)
        self._options = options
        self._assets = Assets()
        self._outlines = Outlines(lambda node: tree_json(node, self._models.of_turn(node)))
        self._whole = whole = ConversationRoutes(manager, options.limits)
        self._prefix = prefix = prefix.rstrip("/")
        api = f"{prefix}/api"
        all_of_them, one = f"{api}/conversations", f"{api}/conversations/{{id}}"
        self.routes: tuple[tuple[str, str, Handler], ...] = (
            *((("GET", prefix, self.to_slash),) if prefix else ()),
            ("GET", f"{prefix}/", self._index),
            ("GET", f"{prefix}/assets/{{name}}", self._asset),
            ("GET", f"{prefix}/assets/{{folder}}/{{name}}", self._asset),
            ("GET", f"{api}/models", self._list_models),
            ("GET", f"{api}/events", self._events),
            ("POST", f"{api}/turns/{{id}}/cancel", self._cancel),
            ("GET", all_of_them, whole.list),
            ("GET", f"{all_of_them}/search", whole.search),
            ("GET", one, self._tree),
            ("PATCH", one, whole.rename),
            ("DELETE", one, whole.delete),
            ("GET", f"{one}/version", self._version),
            ("GET", f"{one}/path", self._path),
            ("GET", f"{one}/export", self._export),
            ("POST", f"{one}/turns", self._begin),
            ("POST", f"{one}/checkout", whole.checkout),
            ("POST", f"{one}/check", self._check),
            ("GET", f"{one}/files/{{node}}/{{file}}", whole.file),
            ("GET", f"{one}/nodes/{{node}}/request", self._request),
        )

    async def handle(self, handler: Handler, request: WebRequest) -> WebReply | Feed:
        """Answer one request: with a whole reply, or with a feed to send.

        Args:
            handler: One of ``routes``.
            request: The request.
        """
        answer = await handled(handler, request, self._options.origins)
        return secured(answer) if isinstance(answer, WebReply) else answer

    # ------------------------------------------------------------------------------------------------ the page

    async def to_slash(self, request: WebRequest) -> WebReply:
        """Route: send a browser to the address with a slash at the end, which the page's addresses are relative to."""
        return WebReply(307, b"", None, {"location": f"./{(request.base + self._prefix).rpartition('/')[2]}/"})

    async def _index(self, request: WebRequest) -> WebReply:
        return self._assets.index(request.headers.get("if-none-match"))

    async def _asset(self, request: WebRequest) -> WebReply:
        folder = request.path.get("folder")
        name = request.path["name"] if folder is None else f"{folder}/{request.path['name']}"
        return self._assets.file(name, request.headers.get("if-none-match"))

    async def _list_models(self, request: WebRequest) -> WebReply:
        config = self._options.config or self._manager.config
        tools = [tool.type if isinstance(tool, HostedTool) else tool.name for tool in config.tools]
        told = {"models": self._models.to_json(), "tools": tools, "demo": self._options.demo}
        return json_reply({**told, "version": _installed_version()})

    # ------------------------------------------------------------------------------------------------ turns

    async def _begin(self, request: WebRequest) -> WebReply:
        fields, limits = await self._whole.fields(request), self._options.limits
        asked = (resume_request if fields.get("kind") == "resume" else turns_request)(fields, limits)
        mine, chat_id = self._whole.manager_of(request), chat_id_of(request)
        if not mine.keeps_journal:
            raise ConfigurationError(
                "the page reads turns that go on without it: ConversationManager(journal=Journal())"
            )
        asking = Asking(mine, self._answer_by, self._told, lambda node: self._models.of_turn(node).id)
        if isinstance(asked, ResumeRequest):
            begun = await asking.resume(chat_id, asked)
        else:
            begun = await asking.begin(chat_id, asked)
        return replace(json_reply({"turns": begun}), status=202)

    async def _cancel(self, request: WebRequest) -> WebReply:
        await self._whole.manager_of(request).cancel(checked_id(request.path["id"], "id"))
        return nothing_reply()

    async def _events(self, request: WebRequest) -> Feed:
        mine = self._whole.manager_of(request)
        turns = followed_turns(request.query.get("turns", ""))

        async def ended(chat_id: str, node: ConversationNode) -> Json:
            conversation = await opened_with(mine, chat_id, node.id)
            running = await mine.running(chat_id)
            await mine.siblings(conversation, node.id)
            return await self._turn(mine, conversation, node, running)

        admit = partial(demand_kept, mine)
        return TurnEvents(
            mine, turns, admit=admit, ended=ended, part_of=part_json, error_of=self._told, headers=HEADERS
        )

    # ------------------------------------------------------------------------------------------------ conversations

    async def _tree(self, request: WebRequest) -> WebReply:
        mine, chat_id = self._whole.manager_of(request), chat_id_of(request)
        described = await mine.describe(chat_id)  # first: a window whose version is older than its turns asks again
        before = await mine.running(chat_id)
        tree = await self._outlines.of(mine, request.owner, described)
        after = {draft.id for draft in await mine.running(chat_id)}
        going_on = [draft for draft in before if draft.id in after or draft.id not in tree.turns]
        return json_reply(
            {
                "id": chat_id,
                "title": described.title,
                "headId": tree.head,
                "version": _version(described, going_on),
                "nodes": list(tree.turns.values()),
                "running": [self._going_on(draft) for draft in going_on],
            }
        )

    async def _with_running(
        self, mine: ConversationManager, chat_id: str
    ) -> tuple[Conversation, list[ConversationNode]]:
        """Return the path of a conversation, and its turns that are being answered.

        A turn that calls tools is stored with its first answer and goes on; one that ended in between is a node alone.
        """
        before = await mine.running(chat_id)
        conversation = await mine.open(chat_id)
        after = {draft.id for draft in await mine.running(chat_id)}
        for draft in before:
            if draft.id not in after:
                with suppress(ConfigurationError):
                    await mine.load(conversation, draft.id)
        return conversation, [draft for draft in before if draft.id in after or conversation.get(draft.id) is None]

    def _going_on(self, draft: ConversationNode) -> Json:
        model = self._models.of_turn(draft)
        told = tree_json(outline_of(draft), model)
        return {
            "turnId": draft.id,
            "parentId": draft.parent_id,
            "model": model.name,
            "modelId": model.id,
            "question": told["question"],
            "resumes": draft.parent_id is not None and draft.loop_id not in (None, draft.id),
        }

    async def _version(self, request: WebRequest) -> WebReply:
        """Route: a text that changes with the conversation; windows ask often, so none of its turns is read."""
        mine, chat_id = self._whole.manager_of(request), chat_id_of(request)
        try:
            return json_reply({"version": _version(await mine.describe(chat_id), await mine.running(chat_id))})
        except UnknownConversationError:  # deleted in another window, which is no error of this one
            return json_reply({"version": None})

    async def _path(self, request: WebRequest) -> WebReply:
        mine, chat_id = self._whole.manager_of(request), chat_id_of(request)
        conversation, going_on = await self._with_running(mine, chat_id)
        node_id = request.query.get("node") or None
        draft = next((draft for draft in going_on if draft.id == node_id), None)
        last = node_id if draft is None else draft.parent_id
        try:
            if last is not None:
                path = conversation.path((await mine.load(conversation, last)).id)
            else:
                path = () if draft is not None else conversation.path()
        except ConfigurationError:
            raise RefusedRequest(404, NO_ANSWER) from None
        for node in path:
            if conversation.siblings_count(node.id) > 1:
                await mine.siblings(conversation, node.id)
        tree = await self._outlines.of(mine, request.owner, await mine.describe(chat_id))
        turns: list[Json] = []
        for node in path:
            told = await self._turn(mine, conversation, node, going_on)
            turns.append(deleted_json(told) if tree.is_deleted(node.id) else told)
        if draft is not None:
            await mine.children(conversation, draft.parent_id)
            siblings = _siblings(conversation, draft.parent_id, going_on)
            turns.append(running_json(draft, siblings, self._models.of_turn(draft), chat_id))
        return json_reply({"turns": turns})

    async def _export(self, request: WebRequest) -> WebReply:
        mine, chat_id = self._whole.manager_of(request), chat_id_of(request)
        shape = request.query.get("format", "json")
        if shape not in {"json", "markdown"}:
            raise bad("format is json or markdown.")
        conversation = without_deleted(await mine.load_all(await mine.open(chat_id)))
        title = (await mine.describe(chat_id)).title
        if shape == "json":
            text, media_type, ending = conversation.export_json(), "application/json", "json"
        else:
            text, media_type, ending = conversation.to_markdown(), "text/markdown; charset=utf-8", "md"
        name = re.sub(r"[^\w .-]", "", title or "").strip(" .")[:80] or "conversation"
        headers = {"cache-control": "no-store", "content-disposition": saved_as(f"{name}.{ending}")}
        return WebReply(200, text.encode(errors="replace"), media_type, headers)

    # ------------------------------------------------------------------------------------------------ the next turn

    async def _check(self, request: WebRequest) -> WebReply:
        """Route: what a model would lose, and what the question would cost, without asking it."""
        mine = self._whole.manager_of(request)
        asked = check_request(await self._whole.fields(request), self._options.limits)
        by = self._answer_by(asked.model)
        conversation = await following(mine, chat_id_of(request), asked.parent_id)
        check = partial(
            mine.check,
            conversation,
            by.endpoint,
            query=asked.text,
            instructions=by.instructions or None,
            files=asked.files,
            config=by.config,
        )
        try:
            found = await anyio.to_thread.run_sync(check)  # list prices take half a second to load
        except (UnsupportedError, ConversionLossError) as exc:
            return json_reply({"refused": self._told(exc), "report": None, "inputTokens": None, "cost": None})
        return json_reply(
            {
                "refused": None,
                "report": report_json(found),
                "inputTokens": found.input_tokens,
                "contextTokens": found.context_window,
                "fits": found.fits,
                "cost": None
                if found.price is None
                else {"amount": f"{found.price:f}", "currency": self._models.currency_of(asked.model)},
                "ignoredKnobs": [{"knob": warning.knob, "message": warning.message} for warning in found.warnings],
            }
        )

    async def _request(self, request: WebRequest) -> WebReply:
        """Route: the request of a turn as it was sent, made again from its history, without secrets."""
        mine, node_id = self._whole.manager_of(request), checked_id(request.path["node"], "node")
        conversation = await opened_with(mine, chat_id_of(request), node_id)
        node = conversation.get(node_id)
        endpoint = None if node is None or node.origin is None else self._models.endpoint_that_made(node.origin)
        if node is None or endpoint is None:
            raise RefusedRequest(404, "This turn was not answered by a model of this app.")
        tree = await self._outlines.of(mine, request.owner, await mine.describe(conversation.id))
        if any(tree.is_deleted(turn.id) for turn in conversation.path(node_id)):
            raise RefusedRequest(404, "The request had words that were deleted since.")
        before = await following(mine, conversation.id, node.parent_id)
        preview = partial(
            mine.preview,
            before,
            endpoint,
            query=node.user_query,
            instructions=node.instructions,
            files=node.files_to_ask_again(),
            tool_results=node.tool_results,
            config=self._options.config,
        )
        made = await anyio.to_thread.run_sync(preview)
        told = {"method": made.method, "url": made.url, "headers": made.headers, "body": made.body, "rebuilt": True}
        return json_reply(told)

    # ------------------------------------------------------------------------------------------------ helpers

    def _answer_by(self, name: str) -> AnswerBy:
        """Return the target of a name.

        Raises:
            RefusedRequest: There is no model of that name.
        """
        target = self._models.get(name)
        if target is None:
            raise bad("model is none of this app's models.")
        options = self._options
        return AnswerBy(
            endpoint=target, instructions=options.instructions, config=options.config, run_tools=options.run_tools
        )

    def _told(self, error: BaseException) -> Json:
        return told_exception(error, details=self._options.details)

    async def _turn(
        self,
        mine: ConversationManager,
        conversation: Conversation,
        node: ConversationNode,
        running: Sequence[ConversationNode],
    ) -> Json:
        """Return a turn that has ended; the turns beside it are loaded."""
        siblings = _siblings(conversation, node.parent_id, running)
        model = self._models.of_turn(node)
        waiting = await waiting_at_end(mine, conversation, node, running)
        told = turn_json(node, siblings, model, conversation.id, details=self._options.details)
        return {**told, "waiting": None if waiting is None else waiting_json(waiting.node_id, waiting.calls)}


def _installed_version() -> str | None:
    """Return the version of this library; None where it runs without having been installed."""
    try:
        return version("dhenara-async")
    except PackageNotFoundError:
        return None


def _siblings(conversation: Conversation, parent_id: str | None, running: Sequence[ConversationNode]) -> list[str]:
    """Return the ids of the turns that follow a turn, those that are being answered last."""
    ended = [node.id for node in conversation.children(parent_id) if not is_mark(node)]
    return [*ended, *(draft.id for draft in running if draft.parent_id == parent_id and draft.id not in ended)]


def _version(described: StoredConversation, running: Sequence[ConversationNode]) -> str:
    told = f"{described.updated.isoformat()} {described.title} {' '.join(sorted(draft.id for draft in running))}"
    return sha256(told.encode(errors="replace")).hexdigest()[:16]
