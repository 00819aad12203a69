"""The ``ask`` command: streams the answer of one model, or shows the answers of several as they are completed."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import typer

from dhenara_async.cli.endpoints import check_reachable, endpoint_of
from dhenara_async.cli.lines import cost_of, outcome_line, write_line
from dhenara_async.cli.screen import Screen, label
from dhenara_async.client import AIModelClient
from dhenara_async.config import AIModelCallConfig
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import DhenaraError
from dhenara_async.fanout import as_completed
from dhenara_async.fanout.values import ModelCall, Outcome
from dhenara_async.hosts.names import meaning
from dhenara_async.messages.messages import Message
from dhenara_async.response import AIModelCallResponse, FinishReason
from dhenara_async.testing import ProviderServer
from dhenara_async.tools.declarations import JsonSchema


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and how its answers are shown.

    Attributes:
        message: The question with its files.
        instructions: System instructions; empty = none.
        schema: The JSON schema of the answers; None = free text.
        json: Whether every answer is one JSON object, a line.
        usage: Whether the tokens and the cost of a single answer are told on stderr.
        limit: The most models asked at once; None = all.
        base_url: The base URL of the models' provider; None = its usual one.
        loopback: Whether stand-ins answer.
        delay: Seconds before each token of a stand-in.
    """

    message: Message
    instructions: tuple[str, ...]
    schema: JsonSchema | None
    json: bool
    usage: bool
    limit: int | None
    base_url: str | None
    loopback: bool
    delay: float


async def ask(screen: Screen, question: Question, models: Sequence[str]) -> None:
    """Ask every model, and show the answers.

    Args:
        screen: Where answers are shown.
        question: The question.
        models: Names of models; a name that is repeated is asked again.

    Raises:
        ConfigurationError: A name cannot be resolved, or a key is missing; nothing was sent.
        DhenaraError: The only model has not answered.
        typer.Exit: At least one of several models has not answered.
    """
    named_models = [meaning(name) for name in models]
    if question.loopback:
        screen.complain("Loopback: as asked. Stand-in servers on this computer answer, not models.")
    else:
        check_reachable(named_models, base_url=question.base_url)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(ProviderServer(delay=question.delay)) if question.loopback else None
        endpoints = [endpoint_of(model, server, base_url=question.base_url) for model in named_models]
        if len(endpoints) == 1 and not question.json:
            await _stream(screen, question, endpoints[0])
        else:
            await _ask_all(screen, question, endpoints)


async def _stream(screen: Screen, question: Question, endpoint: AIModelEndpoint) -> None:
    """Show the only answer as it comes. Standard output has nothing but the answer, so that it can be piped on."""
    config = AIModelCallConfig(structured_output=question.schema)
    client = AIModelClient(endpoint, config)
    try:
        async with client.stream(question.message, instructions=question.instructions) as stream:
            async for event in stream:
                screen.event(event, reasoning=screen.for_a_person)
    finally:
        screen.end_line()
    response = stream.response
    for note in _notes(response, usage=question.usage, priced=not question.loopback):
        screen.complain(note)
    if question.schema is not None:
        response.structured()


def _notes(response: AIModelCallResponse, *, usage: bool, priced: bool) -> list[str]:
    answer = response.chat_response
    notes = [] if answer.finish_reason is FinishReason.STOP else [f"ended: {answer.finish_reason.value}"]
    notes += [f"warning: {warning.message}" for warning in response.warnings]
    if usage:
        counted, cost = answer.usage, cost_of(response) if priced else None
        notes.append(
            f"usage: {counted.input_tokens} input, {counted.output_tokens} output tokens ({counted.source}); "
            f"{response.latency.total:.1f} s{'' if cost is None else f'; ${cost:.6f}'}"
        )
    return notes


async def _ask_all(screen: Screen, question: Question, endpoints: Sequence[AIModelEndpoint]) -> None:
    calls = [ModelCall(endpoint, question.message, instructions=question.instructions) for endpoint in endpoints]
    config = AIModelCallConfig(streaming=True, structured_output=question.schema)
    structured = question.schema is not None
    failed = 0
    with screen.progress() as show:
        async with as_completed(calls, limit=question.limit, config=config, on_progress=show) as ended:
            async for outcome in ended:
                endpoint = endpoints[outcome.index]
                line = outcome_line(
                    outcome,
                    model=endpoint.ai_model.model_name,
                    provider=str(endpoint.api.provider),
                    structured=structured,
                    priced=not question.loopback,
                )
                failed += line["error"] is not None
                if question.json:
                    write_line(line)
                else:
                    _show(screen, label(endpoint, stand_in=question.loopback), outcome)
    if failed:
        raise typer.Exit(1)


def _show(screen: Screen, heading: str, outcome: Outcome) -> None:
    screen.say("")
    screen.say(heading, style="bold")
    response = outcome.response or outcome.partial
    if response is not None and (text := response.text() or response.chat_response.refusal()):
        screen.whole(text)
    if isinstance(outcome.error, DhenaraError):
        screen.problem(outcome.error)
    elif outcome.error is not None:
        screen.complain(f"error: {type(outcome.error).__name__}")
    elif response is not None:
        screen.usage(response.chat_response.usage, seconds=response.latency.total)
