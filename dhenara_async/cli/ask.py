"""The ``ask`` command: one question to many models at once, each answer shown as it ends."""

from collections.abc import Sequence
from contextlib import AsyncExitStack

import typer

from dhenara_async.cli.endpoints import any_reachable, endpoint_of, meaning
from dhenara_async.cli.screen import Screen, label
from dhenara_async.config import AIModelCallConfig
from dhenara_async.errors import DhenaraError
from dhenara_async.fanout import as_completed
from dhenara_async.fanout.values import ModelCall, Outcome
from dhenara_async.testing import ProviderServer


async def ask(
    screen: Screen,
    *,
    question: str,
    models: Sequence[str],
    instructions: str,
    limit: int | None,
    loopback: bool,
    delay: float,
) -> None:
    """Ask them all.

    Args:
        screen: Where answers are shown.
        question: What is asked.
        models: Who is, by name; the same name again is asked again.
        instructions: What leads every answer; empty = nothing.
        limit: How many are asked at once; None = all.
        loopback: Whether stand-ins answer, keys or not.
        delay: Seconds before each token of a stand-in.

    Raises:
        ConfigurationError: A name means nothing, or nothing is asked; nothing was sent.
        typer.Exit: Somebody has not answered; the others have.
    """
    wanted = [meaning(name) for name in models]
    stand_in = loopback or not any_reachable(wanted)
    if stand_in:
        reason = "as asked" if loopback else "no key in the environment for any of these"
        screen.say(f"Loopback: {reason}. Stand-in servers on this computer answer, not models.")
    failed = 0
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(ProviderServer(delay=delay)) if stand_in else None
        led_by = (instructions,) if instructions.strip() else ()
        endpoints = [endpoint_of(named, server) for named in wanted]
        calls = [ModelCall(endpoint, question, instructions=led_by) for endpoint in endpoints]
        show = stack.enter_context(screen.progress())
        config = AIModelCallConfig(streaming=True)
        async with as_completed(calls, limit=limit, config=config, on_progress=show) as ended:
            async for outcome in ended:
                failed += outcome.response is None
                _show(screen, label(endpoints[outcome.index], stand_in=stand_in), outcome)
    if failed:
        raise typer.Exit(1)


def _show(screen: Screen, who: str, outcome: Outcome) -> None:
    screen.say("")
    screen.say(who, style="bold")
    response = outcome.response or outcome.partial
    if response is not None and (text := response.text() or response.chat_response.refusal()):
        screen.say(text)
    if isinstance(outcome.error, DhenaraError):
        screen.problem(outcome.error)
    elif outcome.error is not None:
        screen.complain(f"error: {type(outcome.error).__name__}")
    elif response is not None:
        screen.usage(response.chat_response.usage, seconds=response.latency.total)
