"""The ``chat`` command: a conversation in the terminal that can change its model before every question.

The command handles Ctrl-C itself: during an answer it ends only that answer, at the prompt it ends the chat.
"""

import asyncio
import signal
from collections.abc import Callable, Generator, Sequence
from contextlib import AsyncExitStack, contextmanager
from types import FrameType

import anyio

from dhenara_async.cli.conversations import check_continued, last_conversation, model_of, title_of
from dhenara_async.cli.endpoints import check_reachable, endpoint_of, model_note, stand_in_server
from dhenara_async.cli.input import lines
from dhenara_async.cli.lines import write_line
from dhenara_async.cli.screen import Screen, label
from dhenara_async.cli.tools import Approvals, tools_of
from dhenara_async.config import AIModelCallConfig
from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.endpoint import AIModelAPIProviderEnum, AIModelEndpoint
from dhenara_async.errors import DhenaraError
from dhenara_async.events import event_to_dict
from dhenara_async.hosts.names import known_models, meaning
from dhenara_async.manager import ConversationManager
from dhenara_async.tools.policy import ToolPolicy

_COMMANDS = {
    "/model": "NAME   continue with another model: its id, or provider:model",
    "/models": "list the models of this library; any other id works too",
    "/system": "TEXT   follow these system instructions from here on; without TEXT, none",
    "/tree": "show the turns of the conversation with their numbers, forks indented",
    "/switch": "NUMBER   go back to a turn of the tree; the next question follows it, beside what follows it already",
    "/search": "WORDS   find the newest turns of all kept conversations that have every word",
    "/usage": "show the turns so far and their tokens",
    "/report": "show how the last turn converted its history, part by part",
    "/help": "show this list",
    "/quit": "leave (so does the end of input: Ctrl-D)",
}
_KEYS = (
    "Up and Down recall earlier lines, Tab completes commands and models, Alt-Enter begins a new line.",
    "Ctrl-C clears the typed line, and leaves at an empty one. During an answer it ends that answer; the received part "
    "stays in the conversation.",
)


async def chat(
    screen: Screen,
    *,
    model: str | None,
    provider: AIModelAPIProviderEnum | None,
    base_url: str | None,
    instructions: str,
    loopback: bool,
    delay: float,
    store: str | None,
    continued: bool,
    json: bool,
    tools: Sequence[str] = (),
    servers: Sequence[str] = (),
) -> None:
    """Answer every line of standard input, until it ends.

    Args:
        screen: Where answers are shown.
        model: The name of the first model; None = that of the conversation that goes on, else the default model.
        provider: The model's provider; None = the one that its name implies.
        base_url: The provider's base URL; None = its usual one.
        instructions: System instructions for every answer; empty = none.
        loopback: Whether stand-ins answer.
        delay: Seconds before each token of a stand-in.
        store: The file or database that keeps the conversation; None = nothing is kept.
        continued: Whether the conversation that was changed last goes on.
        json: Whether the events of the answers are written to stdout, one JSON object a line.
        tools: Functions that the models may call, as ``module:function``.
        servers: MCP servers whose tools the models may call: URLs, or commands that start one.

    Raises:
        ConfigurationError: ``model`` cannot be resolved, there is no key for it, or a tool cannot be found.
    """
    config = AIModelCallConfig(tools=tools_of(tools, servers))
    check_continued(store, continued=continued)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(stand_in_server(delay=delay)) if loopback else None
        if server is not None:
            screen.say("Loopback: stand-in servers on this computer answer, not models.")
        manager = await stack.enter_async_context(ConversationManager(store=store, config=config))
        conversation = await last_conversation(manager) if continued else None
        name = model or model_of(conversation, loopback=loopback)
        if provider is not None and model is not None:
            name = f"{provider.value}:{model.removeprefix(f'{provider.value}:')}"
        first = meaning(name)

        def endpoint_named(name: str) -> AIModelEndpoint:
            named = meaning(name, default=provider)
            place = base_url if named.provider is first.provider else None
            if not loopback:
                check_reachable([named], base_url=place)
            return endpoint_of(named, server, base_url=place)

        talk = _Chat(
            screen,
            manager,
            conversation,
            endpoint_named,
            name,
            instructions,
            loopback=loopback,
            json=json,
            has_tools=bool(config.tools),
        )
        await talk.run()


class _Chat:
    """One conversation in the terminal."""

    def __init__(
        self,
        screen: Screen,
        manager: ConversationManager,
        conversation: Conversation | None,
        endpoint_named: Callable[[str], AIModelEndpoint],
        first: str,
        instructions: str,
        *,
        loopback: bool,
        json: bool,
        has_tools: bool,
    ) -> None:
        self._screen = screen
        self._manager = manager
        self._conversation = conversation
        self._endpoint_named = endpoint_named
        self._endpoint = endpoint_named(first)
        self._instructions = (instructions,) if instructions.strip() else ()
        self._loopback = loopback
        self._json = json
        self._lines = lines([*_COMMANDS, *(f"/model {name}" for name in known_models())])
        self._run_tools = ToolPolicy(approve=Approvals(screen, self._lines).approve) if has_tools else None
        self._chat_scope = anyio.CancelScope()
        self._answer_scope: anyio.CancelScope | None = None

    async def run(self) -> None:
        """Handle lines until the input ends, ``/quit``, or Ctrl-C at the prompt."""
        if self._conversation is not None:
            self._screen.quiet(f"the conversation goes on after {len(self._conversation.path())} turns")
        self._screen.quiet(f"{self._label()}; /help lists the commands")
        with _ctrl_c(self._interrupt), self._chat_scope:
            while (line := await self._lines.next(self._prompt())) is not None and line != "/quit":
                if line.startswith("/"):
                    try:
                        await self._command(line)
                    except DhenaraError as exc:  # of the store
                        self._screen.problem(exc)
                elif line:
                    await self._ask(line)

    def _interrupt(self) -> None:
        (self._answer_scope or self._chat_scope).cancel()

    def _prompt(self) -> str:
        self._screen.end_line()
        return f"{self._endpoint.ai_model.model_name}> "

    def _label(self) -> str:
        return label(self._endpoint, stand_in=self._loopback)

    async def _ask(self, question: str) -> None:
        follows = self._conversation is not None and self._conversation.head is not None
        status = "complete"
        with anyio.CancelScope() as self._answer_scope:
            try:
                if self._conversation is None:  # not before: a chat without a question leaves nothing in the store
                    self._conversation = await self._manager.create(title=title_of(question))
                turn = self._manager.turn(
                    self._conversation,
                    question,
                    self._endpoint,
                    instructions=self._instructions,
                    run_tools=self._run_tools,
                )
                try:
                    async with turn:
                        async for event in turn:
                            if self._json:
                                write_line({"turn": len(self._conversation.path()) + 1, **event_to_dict(event)})
                            else:
                                self._screen.event(event)
                finally:
                    status = turn.node.status if turn.over else "failed"
                self._screen.after_turn(turn.node, follows=follows, stand_in=self._loopback)
            except DhenaraError as exc:
                self._screen.problem(exc)
        if self._answer_scope.cancelled_caught:
            kept = "the received part stays in the conversation" if status == "interrupted" else "nothing was received"
            self._screen.quiet(f"interrupted; {kept}")
        self._answer_scope = None

    async def _command(self, line: str) -> None:
        command, _space, argument = line.partition(" ")
        match command:
            case "/tree":
                self._screen.say("there is no turn yet" if self._conversation is None else str(self._conversation))
            case "/switch":
                await self._switch(argument.strip())
            case "/search":
                await self._search(argument)
            case "/model":
                self._hop(argument.strip())
            case "/models":
                self._list_models()
            case "/usage":
                self._screen.summary(self._turns())
            case "/report":
                self._report()
            case "/system":
                self._instructions = (argument,) if argument else ()
                self._screen.quiet(
                    "next answer: with these instructions" if argument else "next answer: without instructions"
                )
            case "/help":
                for name, meant in _COMMANDS.items():
                    self._screen.say(f"{name:<10}{meant}")
                for text in _KEYS:
                    self._screen.say(text)
            case _:
                self._screen.complain(f"error: there is no command {command}; /help lists them")

    def _hop(self, name: str) -> None:
        if name:
            try:
                self._endpoint = self._endpoint_named(name)
            except DhenaraError as exc:
                self._screen.problem(exc)
                return
        self._screen.quiet(f"next answer: {self._label()}")

    async def _switch(self, number: str) -> None:
        turns = () if self._conversation is None else self._conversation.numbered()
        if self._conversation is None or not number.isdecimal() or not 0 < int(number) <= len(turns):
            self._screen.complain(
                f"error: /switch needs the number of a turn, from 1 to {len(turns)}; /tree shows them"
            )
            return
        await self._manager.checkout(self._conversation, turns[int(number) - 1].id)
        self._screen.quiet(f"the next question follows turn {number}")

    async def _search(self, words: str) -> None:
        hits = await self._manager.search(words)
        for hit in hits:
            self._screen.say(f"{hit.conversation} · {hit.title or 'without a title'} · {hit.snippet}")
        if not hits:
            self._screen.quiet("nothing is found")

    def _turns(self) -> Sequence[ConversationNode]:
        return () if self._conversation is None else self._conversation.nodes

    def _report(self) -> None:
        turns = self._turns()
        if turns:
            self._screen.report(turns[-1].conversion)
        else:
            self._screen.quiet("there is no turn yet")

    def _list_models(self) -> None:
        for name, model in known_models().items():
            self._screen.say(f"{name} · {model_note(model, loopback=self._loopback)}")


@contextmanager
def _ctrl_c(handle: Callable[[], None]) -> Generator[None]:
    """Call ``handle`` on the event loop for every Ctrl-C, in place of the current handler."""
    loop = asyncio.get_running_loop()

    def received(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(handle)

    previous = signal.signal(signal.SIGINT, received)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
