"""The routes of AG-UI: a run, a late join, and stop."""

from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import UnknownConversationError
from dhenara_async.web.chat.agui_history import agui_messages, agui_question, with_ids_of
from dhenara_async.web.chat.app import ChatApp
from dhenara_async.web.chat.branches import Branches, steps_after
from dhenara_async.web.chat.conversations import chat_id_of
from dhenara_async.web.chat.http import Handler, WebReply, WebRequest, check_json, nothing_reply
from dhenara_async.web.feeds import Feed
from dhenara_async.web.frames.call_names import calls_in
from dhenara_async.web.inputs.agui_run import agent_run, known_questions
from dhenara_async.web.inputs.ui_chat import PageRequest, digest_of
from dhenara_async.web.responses import agui_feed


class AgentRuns:
    """The routes of AG-UI beside those of a chat, over the same conversations.

    Args:
        app: The chat.
    """

    def __init__(self, app: ChatApp) -> None:
        self._app = app
        path = f"{app.prefix}/ag-ui"
        self.routes: tuple[tuple[str, str, Handler], ...] = (
            ("POST", path, self._run),
            ("GET", f"{path}/{{id}}/stream", self._join),
            ("POST", f"{path}/{{id}}/stream", self._join),
            ("POST", f"{path}/{{id}}/stop", app.conversations.stop),
        )

    async def _run(self, request: WebRequest) -> WebReply | Feed:
        app, limits = self._app, self._app.limits
        check_json(request.headers)
        body = await request.read(limits.body_bytes)
        run = agent_run(body, limits)
        mine = app.manager_of(request)
        asked = PageRequest(
            chat_id=run.thread_id,
            trigger="submit-message",
            decisions=run.decisions,
            text=run.text,
            files=run.files,
            after=run.after,
            turn_id=digest_of(run.thread_id, run.run_id, run.after or "", run.text),
        )
        by = app.answer_by(run.model)
        branches = Branches(mine, by)
        if asked.decisions:
            conversation = await branches.decided(asked)
            steps = steps_after(conversation, asked.decisions)
            if steps:  # the client sends its decisions again: their answer is there
                last = steps[-1]
                said = agui_messages(conversation.path(last.parent_id), last)
                known = with_ids_of(said, known_questions(body))
                reader = mine.attach(last.id)
                return agui_feed(reader, thread_id=run.thread_id, run_id=run.run_id, before=known, joins=True)
            stream = turn = branches.resume(conversation, asked.decisions)
        else:
            stream = turn = await branches.turn_for(asked)
        before = None if isinstance(by.endpoint, AIModelEndpoint) else run.messages  # only a plan takes words back
        if app.detaches(mine):
            async with turn:
                turn.detach()
            stream = mine.attach(turn.id)
        calls = calls_in(run.messages)
        return agui_feed(stream, thread_id=run.thread_id, run_id=run.run_id, before=before, calls=calls)

    async def _join(self, request: WebRequest) -> WebReply | Feed:
        """Go on with the answer that is running: what is there already comes as one snapshot."""
        mine, thread_id = self._app.manager_of(request), chat_id_of(request)
        running = await mine.running(thread_id)
        if not running:
            return nothing_reply()
        draft = running[-1]
        try:
            conversation = await mine.open(thread_id, path_only=True)
            if draft.parent_id is not None:
                await mine.load(conversation, draft.parent_id)
        except UnknownConversationError:
            before = agui_question(draft)
        else:
            nodes = () if draft.parent_id is None else conversation.path(draft.parent_id)
            before = [*agui_messages(nodes), *agui_question(draft)]
        if request.method == "POST":
            check_json(request.headers)
            before = with_ids_of(before, known_questions(await request.read(self._app.limits.body_bytes)))
        reader, calls = mine.attach(draft.id), calls_in(before)
        return agui_feed(reader, thread_id=thread_id, run_id=draft.id, before=before, joins=True, calls=calls)
