"""The ``ask`` command: streams the answer of one model, or shows the answers of several as they are completed."""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import typer

from dhenara_async.calls.stream import ResponseStream
from dhenara_async.cli.conversations import STORE_VARIABLE, last_conversation, model_of, title_of
from dhenara_async.cli.endpoints import check_reachable, default_model, endpoint_of, stand_in_server
from dhenara_async.cli.lines import cost_of, outcome_line, write_line
from dhenara_async.cli.screen import Screen, label
from dhenara_async.client import AIModelClient
from dhenara_async.config import AIModelCallConfig
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import ConfigurationError, DhenaraError, StructuredOutputError
from dhenara_async.fanout import as_completed
from dhenara_async.fanout.values import ModelCall, Outcome
from dhenara_async.hosts.names import meaning
from dhenara_async.manager import ConversationManager
from dhenara_async.messages.messages import FilePart, Message
from dhenara_async.response import AIModelCallResponse, FinishReason
from dhenara_async.tools.declarations import JsonSchema
from dhenara_async.turns.turn import Turn


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
        store: The file or database that keeps the question and its answer; None = nothing is kept.
        continued: Whether the conversation that was changed last goes on.
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
    store: str | None
    continued: bool


async def ask(screen: Screen, question: Question, models: Sequence[str]) -> None:
    """Ask every model, and show the answers.

    Args:
        screen: Where answers are shown.
        question: The question.
        models: Names of models; a name that is repeated is asked again. Empty = the model of the conversation that
            goes on, else the default model.

    Raises:
        ConfigurationError: A name cannot be resolved, or a key is missing; nothing was sent.
        DhenaraError: The only model has not answered.
        typer.Exit: At least one of several models has not answered.
    """
    if question.loopback:
        screen.complain("Loopback: as asked. Stand-in servers on this computer answer, not models.")
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(stand_in_server(delay=question.delay)) if question.loopback else None

        def endpoints_of(names: Sequence[str]) -> list[AIModelEndpoint]:
            named = [meaning(name) for name in names]
            if server is None:
                check_reachable(named, base_url=question.base_url)
            return [endpoint_of(model, server, base_url=question.base_url) for model in named]

        if question.store is not None:
            await _ask_kept(screen, question, models, endpoints_of)
            return
        endpoints = endpoints_of(models or [default_model(loopback=question.loopback)])
        if len(endpoints) == 1 and not question.json:
            client = AIModelClient(endpoints[0], AIModelCallConfig(structured_output=question.schema))
            await _stream(screen, question, client.stream(question.message, instructions=question.instructions))
        else:
            await _ask_all(screen, question, endpoints)


async def _ask_kept(
    screen: Screen,
    question: Question,
    models: Sequence[str],
    endpoints_of: Callable[[Sequence[str]], list[AIModelEndpoint]],
) -> None:
    """Ask one model, and keep the question and the answer."""
    if len(models) > 1:
        raise ConfigurationError(
            f"--store keeps the answer of one model; name one, or leave out --store and {STORE_VARIABLE}"
        )
    text = question.message.get_text()
    files = [part for part in question.message.parts if isinstance(part, FilePart)]
    config = AIModelCallConfig(structured_output=question.schema)
    async with ConversationManager(store=question.store, config=config) as manager:
        conversation = await last_conversation(manager) if question.continued else None
        [endpoint] = endpoints_of(models or [model_of(conversation, loopback=question.loopback)])
        conversation = conversation or await manager.create(title=title_of(text))
        turn = manager.turn(conversation, text, endpoint, instructions=question.instructions, files=files)
        if not question.json:
            await _stream(screen, question, turn)
            return
        try:
            async with turn:
                outcome = Outcome(0, None, response=await turn.collect())
        except DhenaraError as exc:
            outcome = Outcome(0, None, error=exc)
    if _write(question, endpoint, outcome):
        raise typer.Exit(1)


async def _stream(screen: Screen, question: Question, call: ResponseStream | Turn) -> None:
    """Show the only answer as it comes. Standard output has nothing but the answer, so that it can be piped on."""
    try:
        async with call:
            async for event in call:
                screen.event(event, reasoning=screen.for_a_person)
    finally:
        screen.end_line()
    response = call.response
    for note in _notes(response, usage=question.usage, priced=not question.loopback):
        screen.complain(note)
    if question.schema is not None:
        response.structured()


def _write(question: Question, endpoint: AIModelEndpoint, outcome: Outcome) -> bool:
    """Write an answer as a line; returns whether it is an error."""
    line = outcome_line(
        outcome,
        model=endpoint.ai_model.model_name,
        provider=str(endpoint.api.provider),
        structured=question.schema is not None,
        priced=not question.loopback,
    )
    write_line(line)
    return line["error"] is not None


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
    failed = 0
    with screen.progress() as show:
        async with as_completed(calls, limit=question.limit, config=config, on_progress=show) as ended:
            async for outcome in ended:
                endpoint = endpoints[outcome.index]
                if question.json:
                    failed += _write(question, endpoint, outcome)
                else:
                    failed += _show(screen, question, endpoint, outcome)
    if failed:
        raise typer.Exit(1)


def _show(screen: Screen, question: Question, endpoint: AIModelEndpoint, outcome: Outcome) -> bool:
    """Show an answer; returns whether it is an error."""
    screen.say("")
    screen.say(label(endpoint, stand_in=question.loopback), style="bold")
    response = outcome.response or outcome.partial
    if response is not None and (text := response.text() or response.chat_response.refusal()):
        screen.whole(text)
    error = outcome.error
    if question.schema is not None and outcome.response is not None:
        try:
            outcome.response.structured()
        except StructuredOutputError as exc:
            error = exc
    if isinstance(error, DhenaraError):
        screen.problem(error)
    elif error is not None:
        screen.complain(f"error: {type(error).__name__}")
    elif response is not None:
        screen.usage(response.chat_response.usage, seconds=response.latency.total)
    return error is not None
