"""``ChatApp``: what the routes of a chat do, for every framework.

The history of a conversation comes from the store alone. A page says which question it asks behind which answer; words
of earlier messages that it sends along are not looked at.
"""

from collections.abc import Mapping, Sequence

from dhenara_async.conversation import ConversationNode
from dhenara_async.errors import ConfigurationError
from dhenara_async.events import StreamEvent
from dhenara_async.manager import ConversationManager
from dhenara_async.messages.messages import FilePart
from dhenara_async.plans.targets import Target, endpoints, target_of
from dhenara_async.turns.turn import Turn
from dhenara_async.web.chat.branches import AnswerBy, Branches, steps_after
from dhenara_async.web.chat.conversations import ConversationRoutes, chat_id_of, opened_with
from dhenara_async.web.chat.files import digest_of
from dhenara_async.web.chat.history import FileLink, loop_of, messages_of, question_message, tree_of
from dhenara_async.web.chat.http import (
    Handler,
    WebReply,
    WebRequest,
    check_json,
    handled,
    json_reply,
    nothing_reply,
)
from dhenara_async.web.chat.options import ChatOptions
from dhenara_async.web.chat.replay import events_after_decisions, events_of_steps
from dhenara_async.web.feeds import Feed, WebStream
from dhenara_async.web.frames.call_names import KnownCalls
from dhenara_async.web.frames.ui_messages import FileURL
from dhenara_async.web.inputs.fields import (
    BodyFields,
    WebLimits,
    bad,
    demanded,
    id_of,
    text_of,
)
from dhenara_async.web.inputs.questions import MODEL_CHARACTERS
from dhenara_async.web.inputs.ui_chat import digest_of as turn_id_of
from dhenara_async.web.inputs.ui_chat import page_request, question_of
from dhenara_async.web.responses import ui_message_feed


class ChatApp:
    """The routes of a chat.

    Args:
        manager: Answers and keeps the conversations; each request sees only those of its owner.
        models: The targets, by the name that a page uses; the first one answers if the page names none.
        prefix: The beginning of the paths, for the URLs of files.
        options: See ``ChatOptions``.

    Attributes:
        prefix: The beginning of the paths, without a slash at the end.
        conversations: The routes about whole conversations.
        routes: Method, path and handler of every route.

    Raises:
        ConfigurationError: There is no model, or one cannot be used.
    """

    def __init__(
        self, manager: ConversationManager, models: Mapping[str, Target | str], prefix: str, options: ChatOptions
    ) -> None:
        if not isinstance(models, Mapping) or not models:  # pyright: ignore[reportUnnecessaryIsInstance] - user input
            raise ConfigurationError('endpoints is a mapping of names: {"claude": claude, "gpt": gpt}')
        if isinstance(options.instructions, str):
            raise ConfigurationError("instructions is a sequence of texts: write [text]")
        self._manager = manager
        self._models: dict[str, Target] = {name: target_of(model, "chat_routes") for name, model in models.items()}
        self.prefix: str = prefix.rstrip("/")
        self._options = options
        self.conversations: ConversationRoutes = ConversationRoutes(manager, options.limits)
        whole = self.conversations
        chat = f"{self.prefix}/chat"
        listed = f"{self.prefix}/conversations"
        self.routes: tuple[tuple[str, str, Handler], ...] = (
            ("POST", chat, self._chat),
            ("GET", f"{chat}/{{id}}", self._history),
            ("GET", f"{chat}/{{id}}/stream", self._resume),
            ("POST", f"{chat}/{{id}}/stop", whole.stop),
            ("GET", f"{chat}/{{id}}/tree", self._tree),
            ("POST", f"{chat}/{{id}}/regenerate", self._regenerate),
            ("POST", f"{chat}/{{id}}/edit", self._edit),
            ("POST", f"{chat}/{{id}}/checkout", whole.checkout),
            ("GET", f"{chat}/{{id}}/files/{{node}}/{{file}}", whole.file),
            ("GET", f"{self.prefix}/models", self._list_models),
            ("GET", listed, whole.list),
            ("GET", f"{listed}/search", whole.search),
            ("PATCH", f"{listed}/{{id}}", whole.rename),
            ("DELETE", f"{listed}/{{id}}", whole.delete),
        )

    async def handle(self, handler: Handler, request: WebRequest) -> WebReply | Feed:
        """Answer one request: with a whole reply, or with a feed to send.

        Args:
            handler: One of ``routes``.
            request: The request.
        """
        return await handled(handler, request, self._options.origins)

    # ------------------------------------------------------------------------------------------------ answers

    async def _chat(self, request: WebRequest) -> WebReply | Feed:
        check_json(request.headers)
        asked = page_request(await request.read(self._options.limits.body_bytes), self._options.limits)
        mine = self.manager_of(request)
        branches = Branches(mine, self.answer_by(asked.model))
        if not asked.decisions:
            return await self._answer(request, mine, asked.chat_id, await branches.turn_for(asked), None, asked.calls)
        conversation = await branches.decided(asked)
        steps = steps_after(conversation, asked.decisions)
        if steps:  # the page sends its decisions again: their answer is there
            last, link = steps[-1], self._link(request, asked.chat_id)
            before = events_after_decisions(steps)
            return self._feed(
                mine.attach(last.id), lambda file: link(last.id, file), asked.after, before, calls=asked.calls
            )
        turn = branches.resume(conversation, asked.decisions)
        return await self._answer(request, mine, asked.chat_id, turn, asked.after, asked.calls)  # its message goes on

    async def _regenerate(self, request: WebRequest) -> WebReply | Feed:
        mine, chat_id, fields = self.manager_of(request), chat_id_of(request), await self.conversations.fields(request)
        node_id = demanded(id_of(fields, "nodeId"), "nodeId")
        conversation = await mine.open(chat_id)
        return await self._answer(
            request,
            mine,
            chat_id,
            self._branches(mine, fields).regenerate(conversation, node_id, _turn_id(chat_id, fields)),
        )

    async def _edit(self, request: WebRequest) -> WebReply | Feed:
        mine, chat_id, fields = self.manager_of(request), chat_id_of(request), await self.conversations.fields(request)
        node_id = demanded(id_of(fields, "nodeId"), "nodeId")
        conversation = await opened_with(mine, chat_id, node_id)
        if "parts" in fields:
            text, files = question_of(fields, self._options.limits)
            turn = self._branches(mine, fields).edit(conversation, node_id, text, files, _turn_id(chat_id, fields))
        else:
            limit = self._options.limits.text_characters
            text = demanded(text_of(fields, "text", limit=limit), "text")
            if not text.strip():
                raise bad("The question is empty.")
            turn = self._branches(mine, fields).edit(conversation, node_id, text, None, _turn_id(chat_id, fields))
        return await self._answer(request, mine, chat_id, turn)

    async def _answer(
        self,
        request: WebRequest,
        mine: ConversationManager,
        chat_id: str,
        turn: Turn,
        message_id: str | None = None,
        calls: KnownCalls = (),
    ) -> Feed:
        link = self._link(request, chat_id)

        def url_of(file: FilePart) -> str | None:
            return link(turn.id, file)

        stream = turn
        if self.detaches(mine):
            async with turn:  # goes on in the manager; the page is a reader like any that comes later
                turn.detach()
            stream = mine.attach(turn.id)
        return self._feed(stream, url_of, message_id, calls=calls)

    def _feed(
        self,
        stream: WebStream,
        url_of: FileURL,
        message_id: str | None = None,
        before: Sequence[StreamEvent] = (),
        calls: KnownCalls = (),
    ) -> Feed:
        options = self._options
        return ui_message_feed(
            stream,
            sdk=options.sdk,
            known_tools=options.known_tools,
            file_url=url_of,
            message_id=message_id,
            before=before,
            calls=calls,
        )

    async def _resume(self, request: WebRequest) -> WebReply | Feed:
        mine, chat_id = self.manager_of(request), chat_id_of(request)
        running = await mine.running(chat_id)
        if not running:
            return nothing_reply()
        draft, link = running[-1], self._link(request, chat_id)
        steps: Sequence[ConversationNode] = ()
        if draft.loop_id not in {None, draft.id} and draft.parent_id is not None:
            path = (await opened_with(mine, chat_id, draft.parent_id)).path(draft.parent_id)
            steps = [node for node in path if loop_of(node) == draft.loop_id]
        message_id = steps[0].id if steps else None  # a page knows the loop by its first step
        return self._feed(mine.attach(draft.id), lambda file: link(draft.id, file), message_id, events_of_steps(steps))

    # ------------------------------------------------------------------------------------------------ reading

    async def _history(self, request: WebRequest) -> WebReply:
        mine, chat_id = self.manager_of(request), chat_id_of(request)
        running = await mine.running(chat_id)  # first: a turn that ends in between is then in both, under one id
        node_id = request.query.get("node")
        opening = mine.open(chat_id, path_only=True) if node_id is None else opened_with(mine, chat_id, node_id)
        conversation = await opening
        link = self._link(request, chat_id)
        path = conversation.path(node_id)
        loop = loop_of(path[-1]) if path else None
        at_work = any(loop_of(draft) == loop for draft in running)
        if at_work:  # a step is there while its tools or the next step run, or it has ended in between
            at_work = any(loop_of(draft) == loop for draft in await mine.running(chat_id))
        messages = messages_of(path, link, self._options.known_tools, at_work=at_work)
        going_on = [
            draft for draft in running if conversation.get(draft.id) is None or (at_work and loop_of(draft) == loop)
        ]
        asks = bool(going_on) and bool(going_on[-1].user_query or going_on[-1].attached_files)
        if node_id is None and asks and going_on[-1].parent_id == (path[-1].id if path else None):
            messages.append(question_message(going_on[-1], link))
        return json_reply({"id": chat_id, "messages": messages, "running": [draft.id for draft in going_on]})

    async def _tree(self, request: WebRequest) -> WebReply:
        mine = self.manager_of(request)
        return json_reply(tree_of(await mine.load_all(await mine.open(chat_id_of(request)))))

    async def _list_models(self, request: WebRequest) -> WebReply:
        models: list[dict[str, object]] = []
        for name, target in self._models.items():
            asked = [endpoint.ai_model.display_name or endpoint.ai_model.model_name for endpoint in endpoints(target)]
            models.append({"id": name, "models": list(dict.fromkeys(asked))})
        return json_reply({"models": models})

    # ------------------------------------------------------------------------------------------------ requests

    def manager_of(self, request: WebRequest) -> ConversationManager:
        """Return the manager as the request's owner sees it."""
        return self.conversations.manager_of(request)

    def answer_by(self, model: str | None) -> AnswerBy:
        """Return the target of an answer; ``model`` None = the first one.

        Raises:
            RefusedRequest: There is no model of that name.
        """
        name = next(iter(self._models)) if model is None else model
        target = self._models.get(name)
        if target is None:
            raise bad("model is none of this app's models.")
        options = self._options
        return AnswerBy(
            endpoint=target, instructions=options.instructions, config=options.config, run_tools=options.run_tools
        )

    def detaches(self, manager: ConversationManager) -> bool:
        """Whether answers go on when their pages go away."""
        return self._options.detach and manager.keeps_journal

    @property
    def limits(self) -> WebLimits:
        """How much a client may send."""
        return self._options.limits

    def _branches(self, mine: ConversationManager, fields: BodyFields) -> Branches:
        return Branches(mine, self.answer_by(text_of(fields, "model", limit=MODEL_CHARACTERS)))

    def _link(self, request: WebRequest, chat_id: str) -> FileLink:
        base = f"{request.base}{self.prefix}/chat/{chat_id}/files"

        def link(node_id: str, file: FilePart) -> str | None:
            digest = digest_of(file)
            if digest is not None:
                return f"{base}/{node_id}/{digest}"
            return file.url if file.url is not None and not file.is_stored else None

        return link


def _turn_id(chat_id: str, fields: BodyFields) -> str | None:
    """Return the id of the turn to begin, the same when a page repeats its request; None if it gave no ``turnId``."""
    given = id_of(fields, "turnId")
    return None if given is None else turn_id_of(chat_id, given)
