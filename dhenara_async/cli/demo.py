"""The ``demo`` command: one story in three turns, each by another provider."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Literal

from dhenara_async.cli.endpoints import (
    FIRST_CHOICES,
    any_reachable,
    check_reachable,
    endpoint_of,
    reachable,
    stand_in_server,
)
from dhenara_async.cli.lines import write_line
from dhenara_async.cli.screen import Screen, label
from dhenara_async.config import AIModelCallConfig
from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import ConfigurationError
from dhenara_async.events import event_to_dict
from dhenara_async.hosts.names import Named, meaning
from dhenara_async.manager import ConversationManager

Shown = Literal["stream", "whole", "json"]

# Enough for a short story and the reasoning before it.
_MAX_OUTPUT_TOKENS = 4000


@dataclass(frozen=True, slots=True)
class _StoryTurn:
    query: str
    instructions: tuple[str, ...]


_STORY = (
    _StoryTurn("Tell me a short story about a robot learning to paint.", ("Be creative and engaging.",)),
    _StoryTurn(
        "Continue the story but add a twist where the robot discovers something unexpected.",
        ("Build upon the previous story seamlessly.",),
    ),
    _StoryTurn("Conclude the story with an inspiring ending.", ("Bring the story to a satisfying conclusion.",)),
)
_STORYTELLERS = tuple(Named(provider, model) for provider, model in FIRST_CHOICES)


async def demo(screen: Screen, *, models: str | None, shown: Shown, report: bool, loopback: bool, delay: float) -> None:
    """Tell the story.

    Args:
        screen: Where the story is shown.
        models: Names separated by commas, used in turn; None = a model of each provider that has a key.
        shown: Token by token, answer by answer, or as events in JSON lines.
        report: Whether the conversion report of each turn is shown; stand-ins then send reasoning and citations, which
            a hop drops.
        loopback: Whether stand-ins answer even if there are keys.
        delay: Seconds before each token of a stand-in.

    Raises:
        ConfigurationError: A name cannot be resolved, or a key is missing; nothing was sent.
        DhenaraError: A turn failed.
    """
    named_models = (
        _STORYTELLERS if models is None else tuple(meaning(name) for name in models.split(",") if name.strip())
    )
    if not named_models:
        raise ConfigurationError("--models names no model")
    stand_in = loopback or not any_reachable(named_models)
    if models is None and not stand_in:
        named_models = tuple(model for model in named_models if reachable(model.provider))
    if stand_in:
        missing = ", ".join(dict.fromkeys(str(model.provider) for model in named_models))
        reason = "as asked" if loopback else f"there is no key for {missing}"
        notice = f"Loopback: {reason}. Stand-in servers on this computer answer, not models."
        (screen.complain if shown == "json" else screen.say)(notice)
    async with AsyncExitStack() as stack:
        server = None
        if stand_in:
            server = await stack.enter_async_context(stand_in_server(thoughtful=report, delay=delay))
        config = AIModelCallConfig(max_output_tokens=_MAX_OUTPUT_TOKENS, streaming=shown != "whole")
        manager = await stack.enter_async_context(ConversationManager(config=config))
        endpoints = [endpoint_of(model, server) for model in named_models]
        if not stand_in:
            check_reachable(named_models)  # report a missing key before the first turn, not in the middle of the story
        try:
            await _tell(screen, manager, endpoints, shown=shown, report=report, stand_in=stand_in)
        finally:
            screen.end_line()


async def _tell(
    screen: Screen,
    manager: ConversationManager,
    endpoints: Sequence[AIModelEndpoint],
    *,
    shown: Shown,
    report: bool,
    stand_in: bool,
) -> None:
    conversation = await manager.create()
    for number, step in enumerate(_STORY, 1):
        endpoint = endpoints[(number - 1) % len(endpoints)]
        if shown == "json":
            node = await _write_events(manager, conversation, step, endpoint, number)
            if report:
                write_line({"turn": number, "type": "report", "report": node.conversion.model_dump(mode="json")})
            continue
        screen.say("")
        screen.say(f"Turn {number} of {len(_STORY)} · {label(endpoint, stand_in=stand_in)}", style="bold")
        screen.say(f"User: {step.query}")
        screen.say("")
        node = await _answer(screen, manager, conversation, step, endpoint, shown=shown)
        screen.say("")
        screen.after_turn(node, follows=number > 1, stand_in=stand_in)
        if report:
            screen.report(node.conversion)
    if shown != "json":
        screen.say("")
        screen.summary(conversation.path())
        if screen.for_a_person:
            screen.quiet("The same on a page in your browser: dhenara-async serve --open (extra serve)")


async def _answer(
    screen: Screen,
    manager: ConversationManager,
    conversation: Conversation,
    step: _StoryTurn,
    endpoint: AIModelEndpoint,
    *,
    shown: Shown,
) -> ConversationNode:
    if shown == "whole":
        node = await manager.ask(conversation, step.query, endpoint, instructions=step.instructions)
        screen.answer("" if node.response is None else node.response.text() or node.response.refusal())
        return node
    async with manager.turn(conversation, step.query, endpoint, instructions=step.instructions) as turn:
        async for event in turn:
            screen.event(event)
    return turn.node


async def _write_events(
    manager: ConversationManager, conversation: Conversation, step: _StoryTurn, endpoint: AIModelEndpoint, number: int
) -> ConversationNode:
    async with manager.turn(conversation, step.query, endpoint, instructions=step.instructions) as turn:
        async for event in turn:
            write_line({"turn": number, **event_to_dict(event)})
    return turn.node
