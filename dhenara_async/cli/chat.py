"""The ``chat`` command: a conversation at the keyboard that can change its model before every question.

Ctrl-C is taken over for as long as it runs: during an answer it ends that answer only, at the prompt it ends the chat.
Standard input is read in a thread, in short waits: a thread stuck in a read would keep the program from ending.
"""

import asyncio
import os
import select
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack, contextmanager
from types import FrameType

import anyio
from anyio import from_thread, to_thread

from dhenara_async.cli.endpoints import endpoint_of, known_models, meaning, reachable
from dhenara_async.cli.screen import Screen, label
from dhenara_async.conversation import Conversation
from dhenara_async.endpoint import AIModelAPIProviderEnum, AIModelEndpoint
from dhenara_async.errors import DhenaraError
from dhenara_async.manager import ConversationManager
from dhenara_async.testing import ProviderServer

_WAIT_SECONDS = 0.1
_READ_BYTES = 65_536
_HELP = (
    "/model NAME   go on with another model: its id, or provider:model",
    "/models       models that are known by name; any other id works too",
    "/usage        the turns so far and their tokens",
    "/report       what became of the history in the last turn, part by part",
    "/help         this",
    "/quit         leave (so does the end of input, and Ctrl-C at the prompt)",
    "Ctrl-C during an answer ends that answer; what came of it stays in the conversation.",
)


async def chat(
    screen: Screen,
    *,
    model: str,
    provider: AIModelAPIProviderEnum | None,
    base_url: str | None,
    instructions: str,
    loopback: bool,
    delay: float,
) -> None:
    """Ask what is typed until the input ends.

    Args:
        screen: Where answers are shown.
        model: Who answers first, by name.
        provider: Who serves it; None = told by the name.
        base_url: Where that provider is; None = its usual place.
        instructions: What leads every answer; empty = nothing.
        loopback: Whether stand-ins answer.
        delay: Seconds before each token of a stand-in.

    Raises:
        ConfigurationError: ``model`` means nothing.
    """
    name = model if provider is None else f"{provider.value}:{model.removeprefix(f'{provider.value}:')}"
    first = meaning(name)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(ProviderServer(delay=delay)) if loopback else None
        if server is not None:
            screen.say("Loopback: stand-in servers on this computer answer, not models.")
        manager = await stack.enter_async_context(ConversationManager())

        def endpoint_named(name: str) -> AIModelEndpoint:
            named = meaning(name, otherwise=provider)
            return endpoint_of(named, server, base_url=base_url if named.provider is first.provider else None)

        conversation = await manager.create()
        await _Chat(screen, manager, conversation, endpoint_named, name, instructions, loopback=loopback).run()


class _Chat:
    """One conversation at the keyboard."""

    def __init__(
        self,
        screen: Screen,
        manager: ConversationManager,
        conversation: Conversation,
        endpoint_named: Callable[[str], AIModelEndpoint],
        first: str,
        instructions: str,
        *,
        loopback: bool,
    ) -> None:
        self._screen = screen
        self._manager = manager
        self._conversation = conversation
        self._endpoint_named = endpoint_named
        self._endpoint = endpoint_named(first)
        self._instructions = (instructions,) if instructions.strip() else ()
        self._loopback = loopback
        self._lines = _InputLines()
        self._whole = anyio.CancelScope()
        self._answer: anyio.CancelScope | None = None

    async def run(self) -> None:
        """Take lines until they end, somebody quits, or Ctrl-C is pressed at the prompt."""
        self._screen.quiet(f"{self._label()}; /help lists the commands")
        with _ctrl_c(self._interrupt), self._whole:
            while (line := await self._next_line()) is not None and line != "/quit":
                if line.startswith("/"):
                    self._command(line)
                elif line:
                    await self._ask(line)

    def _interrupt(self) -> None:
        (self._answer or self._whole).cancel()

    def _label(self) -> str:
        return label(self._endpoint, stand_in=self._loopback)

    async def _next_line(self) -> str | None:
        """The next line without the space around it; None at the end of input."""
        if not sys.stdin.isatty():
            return await self._lines.next()
        self._screen.prompt(f"{self._endpoint.ai_model.model_name}> ")
        line: str | None = None
        try:
            line = await self._lines.next()
        finally:
            if line is None:
                self._screen.say("")  # nobody has pressed Enter behind the prompt
        return line

    async def _ask(self, question: str) -> None:
        follows = self._conversation.head is not None
        status = "complete"
        with anyio.CancelScope() as self._answer:
            try:
                turn = self._manager.turn(self._conversation, question, self._endpoint, instructions=self._instructions)
                try:
                    async with turn:
                        async for event in turn:
                            self._screen.event(event)
                finally:
                    status = turn.node.status
                self._screen.after_turn(turn.node, follows=follows, stand_in=self._loopback)
            except DhenaraError as exc:
                self._screen.problem(exc)
        if self._answer.cancelled_caught:
            kept = "what came stays in the conversation" if status == "interrupted" else "nothing had come"
            self._screen.quiet(f"interrupted; {kept}")
        self._answer = None

    def _command(self, line: str) -> None:
        command, _space, argument = line.partition(" ")
        match command:
            case "/model":
                self._hop(argument.strip())
            case "/models":
                self._list_models()
            case "/usage":
                self._screen.summary(self._conversation.nodes)
            case "/report":
                self._report()
            case "/help":
                for text in _HELP:
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

    def _report(self) -> None:
        turns = self._conversation.nodes
        if turns:
            self._screen.report(turns[-1].conversion)
        else:
            self._screen.quiet("nothing has been asked yet")

    def _list_models(self) -> None:
        for name, model in known_models().items():
            maker = model.provider
            keyless = "" if self._loopback or maker is None or reachable(maker) else ", no key in the environment"
            retired = "" if model.retired_on is None else f", its maker serves it until {model.retired_on}"
            self._screen.say(f"{name} · {maker or ''}{keyless}{retired}")


class _InputLines:
    """The lines of standard input."""

    def __init__(self) -> None:
        self._rest = b""
        self._ended = False

    async def next(self) -> str | None:
        """The next line without the space around it; None at the end of input."""
        while b"\n" not in self._rest and not self._ended:
            # Not by sys.stdin: lines it has read ahead could not be waited for.
            more = await to_thread.run_sync(_read_input, sys.stdin.fileno())
            self._rest += more
            self._ended = not more
        line, newline, self._rest = self._rest.partition(b"\n")
        return line.decode(errors="replace").strip() if line or newline else None


def _read_input(descriptor: int) -> bytes:
    """Some bytes, or none at the end; gives up soon after the task that waits for them is cancelled."""
    # Elsewhere select takes sockets only; there Ctrl-C ends a read from the keyboard by itself.
    while os.name == "posix" and not select.select([descriptor], [], [], _WAIT_SECONDS)[0]:
        from_thread.check_cancelled()
    return os.read(descriptor, _READ_BYTES)


@contextmanager
def _ctrl_c(handle: Callable[[], None]) -> Generator[None]:
    """Have ``handle`` called on the event loop for every Ctrl-C, instead of what would happen otherwise."""
    loop = asyncio.get_running_loop()

    def received(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(handle)

    before = signal.signal(signal.SIGINT, received)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
