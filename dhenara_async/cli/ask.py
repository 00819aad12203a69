"""The ``ask`` command: asks many models one question at the same time, and shows each answer when it is complete."""

from collections.abc import Sequence
from contextlib import AsyncExitStack

import typer

from dhenara_async.cli.endpoints import any_reachable, endpoint_of
from dhenara_async.cli.screen import Screen, label
from dhenara_async.config import AIModelCallConfig
from dhenara_async.errors import DhenaraError
from dhenara_async.fanout import as_completed
from dhenara_async.fanout.values import ModelCall, Outcome
from dhenara_async.hosts.names import meaning
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
    """Ask every model, and show the answers.

    Args:
        screen: Where answers are shown.
        question: The question.
        models: Names of models; a name that is repeated is asked again.
        instructions: System instructions for every answer; empty = none.
        limit: The most models asked at once; None = all.
        loopback: Whether stand-ins answer even if there are keys.
        delay: Seconds before each token of a stand-in.

    Raises:
        ConfigurationError: A name cannot be resolved, or the question is empty; nothing was sent.
        typer.Exit: At least one model has not answered.
    """
    named_models = [meaning(name) for name in models]
    stand_in = loopback or not any_reachable(named_models)
    if stand_in:
        reason = "as asked" if loopback else "no key in the environment for any of these"
        screen.say(f"Loopback: {reason}. Stand-in servers on this computer answer, not models.")
    failed = 0
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(ProviderServer(delay=delay)) if stand_in else None
        leads = (instructions,) if instructions.strip() else ()
        endpoints = [endpoint_of(model, server) for model in named_models]
        calls = [ModelCall(endpoint, question, instructions=leads) for endpoint in endpoints]
        show = stack.enter_context(screen.progress())
        config = AIModelCallConfig(streaming=True)
        async with as_completed(calls, limit=limit, config=config, on_progress=show) as ended:
            async for outcome in ended:
                failed += outcome.response is None
                _show(screen, label(endpoints[outcome.index], stand_in=stand_in), outcome)
    if failed:
        raise typer.Exit(1)


def _show(screen: Screen, heading: str, outcome: Outcome) -> None:
    screen.say("")
    screen.say(heading, style="bold")
    response = outcome.response or outcome.partial
    if response is not None and (text := response.text() or response.chat_response.refusal()):
        screen.say(text)
    if isinstance(outcome.error, DhenaraError):
        screen.problem(outcome.error)
    elif outcome.error is not None:
        screen.complain(f"error: {type(outcome.error).__name__}")
    elif response is not None:
        screen.usage(response.chat_response.usage, seconds=response.latency.total)
