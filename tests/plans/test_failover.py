"""``Failover``: the reader's events, the stored node and each host's requests when a target fails."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import anyio
import pytest

from dhenara_async import (
    AIModel,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    Citation,
    ConversationManager,
    ConversationNode,
    Dialect,
    Experiment,
    Failover,
    FetchPolicy,
    FilePart,
    Heartbeat,
    Message,
    Origin,
    PartEnd,
    PartStart,
    Pricing,
    Race,
    Rates,
    ReasoningDelta,
    ReasoningPart,
    RefusalDelta,
    Router,
    SharedResources,
    StreamEnd,
    StreamEvent,
    StreamReset,
    StreamSeam,
    StreamStart,
    TextDelta,
    TextPart,
    Timeouts,
    ToolCallDelta,
    Usage,
    UsageUpdate,
)
from dhenara_async.calls.call import CallRecord
from dhenara_async.calls.health import Cooldowns
from dhenara_async.errors import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    DeadlineError,
    DhenaraError,
    InvalidRequestError,
    OverloadedError,
    ReadError,
)
from dhenara_async.hosts.registry import expected_origin
from dhenara_async.plans.continuation import RestSource, without_start
from dhenara_async.testing import Answer, Fault, ProviderServer, ScriptedError, ScriptedToolCall
from dhenara_async.testing.grammar import check_grammar
from dhenara_async.usage.budget import spent_by, took
from tests.cases import cases
from tests.loopback import (
    SPEAKERS,
    Connection,
    chat_delta,
    chat_endpoint,
    chat_stream,
    endpoint_at,
    event,
    head,
    once,
    replies,
    serve,
    stalling,
    whole,
)
from tests.steady import steady
from tests.virtual_time import Clock

DIALECTS = list(SPEAKERS)
ONCE = AIModelCallConfig(retries=0)
NEXT_ANSWER = Answer(text="and so on.")
PLEASE = "Go on from where that ends."

WORDS = Answer(text="one two three", reasoning="Let me see.")
CALL = Answer(text="one two", tool_calls=(ScriptedToolCall("call_1", "add", '{"a":1,"b":2}'),))
REFUSAL = Answer(refusal="I would rather not.")
MAX_EVENTS = 24
"""An upper bound of the number of events of these answers in any dialect."""


def comparable_fields(event: StreamEvent) -> tuple[object, ...]:
    """Return the fields of an event that are equal in all calls."""
    match event:
        case TextDelta() | ReasoningDelta() | RefusalDelta():
            return event.type, event.part_id, event.text
        case ToolCallDelta():
            return event.type, event.part_id, event.arguments
        case PartStart():
            return event.type, event.part_id, event.kind
        case PartEnd():
            return event.type, event.part_id, event.part.get_text(), event.part.status
        case StreamReset() | StreamSeam():
            assert event.start is not None
            return event.type, event.start.provider, event.start.model
        case _:
            return (event.type,)


@dataclass(slots=True)
class TurnResult:
    """The result of a turn.

    Attributes:
        events: Events that the reader received.
        error: The error that was raised.
        node: The node in the conversation.
    """

    events: list[StreamEvent]
    error: DhenaraError | None
    node: ConversationNode

    @property
    def read(self) -> list[tuple[object, ...]]:
        return [comparable_fields(event) for event in self.events]


async def run_turn(
    plan: Failover | Race | Router | Experiment | AIModelEndpoint, *, config: AIModelCallConfig = ONCE
) -> TurnResult:
    """Run a turn with a plan in a new conversation; check the event grammar and the node's JSON round trip."""
    events: list[StreamEvent] = []
    error = None
    async with ConversationManager(config=config) as manager:
        turn = manager.turn(await manager.create(), "Well?", plan)
        try:
            async with turn:
                async for event in turn:
                    events.append(event)
        except DhenaraError as exc:
            error = exc
    check_grammar(events, complete=error is None)
    assert ConversationNode.model_validate_json(turn.node.model_dump_json()) == turn.node
    return TurnResult(events, error, turn.node)


def without_content(events: Sequence[StreamEvent]) -> bool:
    """Whether ``events`` contain no content."""
    return all(
        isinstance(event, StreamStart | UsageUpdate | Heartbeat)
        or (isinstance(event, PartStart) and event.kind in ("text", "reasoning"))
        for event in events
    )


def without_heartbeats(read: Sequence[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Return ``read`` without heartbeats, which are delivered before the first content too."""
    return [event for event in read if event != ("heartbeat",)]


def at_model(server: ProviderServer, provider: AIModelAPIProviderEnum, model: str) -> AIModelEndpoint:
    return AIModelEndpoint(api=server.api(provider), ai_model=AIModel(model_name=model))


def continuing_endpoint(server: ProviderServer, by: str) -> AIModelEndpoint:
    """Return an endpoint that accepts a prefill, or one that does not."""
    if by == "prefill":
        return endpoint_at(server, Dialect.OPENAI_CHAT)
    return endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)


# --------------------------------------------------------------------------------- failures at each event, in each mode


MODES: Sequence[tuple[Literal["restart", "fail", "continue"], str]] = (
    ("restart", "prefill"),
    ("fail", "prefill"),
    ("continue", "prefill"),
    ("continue", "template"),
    ("continue", "nobody"),
)
"""Each mode of a plan, and by what the second target can continue the answer of the first."""


@pytest.mark.parametrize("answer", [WORDS, CALL, REFUSAL], ids=["words", "call", "refusal"])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_failure_at_each_event_is_handled_by_mode(dialect: Dialect, answer: Answer) -> None:
    seen_cases = {mode: set[str]() for mode in MODES}
    lengths: list[int] = []
    faults: list[Fault] = []
    async with (
        ProviderServer(lambda _seen: faults[-1]) as first,
        ProviderServer(lambda _seen: NEXT_ANSWER) as other,
    ):
        alone = {by: await run_turn(continuing_endpoint(other, by)) for by in ("prefill", "template", "nobody")}
        with cases() as case:
            for place in range(MAX_EVENTS):
                faults.append(Fault(answer=answer, error=ScriptedError(503, "busy"), error_at=place))
                begun = await run_turn(endpoint_at(first, dialect))
                lengths.append(len(begun.events))
                if begun.error is None or (len(lengths) > 4 and len({*lengths[-4:]}) == 1):
                    break  # the answer has no further events
                for mode, by in MODES:
                    with case(f"{mode} by {by}, failure at event {place}"):
                        requests, continued = len(first.requests), len(other.requests)
                        plan = Failover(
                            [endpoint_at(first, dialect), continuing_endpoint(other, by)],
                            mode=mode,
                            continuation=PLEASE if by == "template" else None,
                        )
                        got = await run_turn(plan)
                        sent = [request.turns for request in other.requests[continued:]]
                        seen_cases[mode, by].add(_check(got, begun, alone[by], mode=mode, by=by, sent=sent))
                        assert len(first.requests) == requests + 1
            else:
                raise AssertionError("MAX_EVENTS is too small")
    # these two say that they refuse with their very last event, so there is nothing between that and the end
    at_the_end = answer is REFUSAL and dialect in (Dialect.ANTHROPIC_MESSAGES, Dialect.GEMINI)
    for seen in seen_cases.values():
        assert "before" in seen  # and at least one failure after content
        assert len(seen) > 1 or at_the_end


def _check(
    got: TurnResult,
    begun: TurnResult,
    whole: TurnResult,
    *,
    mode: str,
    by: str,
    sent: list[tuple[tuple[str, str], ...]],
) -> str:
    """Compare a turn that failed over with single calls to each of its targets.

    Args:
        got: The turn.
        begun: The first target alone, which fails.
        whole: The second one alone.
        mode: The plan's.
        by: Who could go on.
        sent: What the second host was asked in the turn.

    Returns:
        Which case it was.
    """
    node, question = got.node, ("user", "Well?")
    first_error, second = type(begun.error).__name__, whole.node.origin
    assert second is not None
    reset = ("stream_reset", second.provider, second.model)
    if without_content(begun.events):
        starts = any(isinstance(event, StreamStart) for event in begun.events)
        assert got.read == [*begun.read, *([reset] if starts else whole.read[:1]), *whole.read[1:]]
        _check_whole(node, "and so on.", first_error)
        assert sent == [(question,)]
        return "before"
    texts = [event.text for event in begun.events if isinstance(event, TextDelta)]
    kinds = {event.kind for event in begun.events if isinstance(event, PartStart)}
    if mode == "restart":
        assert got.read == [*begun.read, reset, *whole.read[1:]]
        _check_whole(node, "and so on.", first_error)
        assert sent == [(question,)]
        return "restart"
    goes_on = mode == "continue" and kinds <= {"text", "reasoning"} and not (by == "nobody" and texts)
    if not goes_on:
        assert got.read == begun.read
        assert type(got.error) is type(begun.error)
        assert ("was not continued elsewhere" in str(got.error)) is (mode == "continue")
        assert (node.status, node.attempts, node.seams, sent) == ("interrupted", 1, (), [])
        assert node.response is not None
        assert node.response.text() == "".join(texts)
        return "raised"
    ended = {event.part_id for event in begun.events if isinstance(event, PartEnd)}
    opened = [event for event in begun.events if isinstance(event, PartStart)]
    ends = [
        ("part_end", part.part_id, _said(begun, part.part_id), "interrupted")
        for part in opened
        if part.part_id not in ended
    ]
    rest = [_shifted(read, len(opened)) for read in whole.read[1:]]
    seam_read = ("stream_seam", second.provider, second.model)
    assert without_heartbeats(got.read) == without_heartbeats([*begun.read, *ends, seam_read, *rest])
    _check_whole(node, "".join(texts) + "and so on.", first_error)
    (seam,) = node.seams
    assert (seam.part, seam.before, seam.after) == (len(opened), begun.node.origin, node.origin)
    assert first_error in seam.reason
    assert node.response is not None
    for at, part in enumerate(node.response.choices[0].parts):
        assert part.origin is not None
        assert part.origin.same_model(seam.before if at < seam.part else seam.after)
    handed = ("assistant", "".join(texts))
    if not texts:
        assert sent == [(question,)]
        return "from nothing"
    assert sent == [(question, handed, *([("user", PLEASE)] if by == "template" else []))]
    return "continued"


def _check_whole(node: ConversationNode, text: str, first_error: str) -> None:
    assert node.response is not None
    assert (node.status, node.error, node.response.text(), node.attempts) == ("complete", None, text, 2)
    failed, answered = node.tries
    assert answered.error is None
    assert (failed.error or "").startswith(first_error)
    assert node.origin == answered.endpoint != failed.endpoint
    (decision,) = node.plan
    assert decision.kind == "failover"
    assert first_error in (decision.reason or "")
    assert node.usage.source == "reported"


def _shifted(read: tuple[object, ...], offset: int) -> tuple[object, ...]:
    match read:
        case (kind, int(part_id), *more):
            return kind, part_id + offset, *more
        case _:
            return read


def _said(begun: TurnResult, part_id: int) -> str:
    deltas = (event for event in begun.events if isinstance(event, TextDelta | ReasoningDelta))
    return "".join(event.text for event in deltas if event.part_id == part_id)


# ----------------------------------------------------------------------------------------------- which target is called


@asynccontextmanager
async def two(
    first: ScriptedError | Answer, other: ScriptedError | Answer = NEXT_ANSWER
) -> AsyncGenerator[list[ProviderServer]]:
    async with ProviderServer(lambda _seen: first) as one, ProviderServer(lambda _seen: other) as two:
        yield [one, two]


def plan_of(servers: list[ProviderServer], **more: float) -> Failover:
    return Failover([endpoint_at(server, Dialect.OPENAI_CHAT) for server in servers], **more)  # pyright: ignore[reportArgumentType] - cooldown


@pytest.mark.parametrize("status", [401, 402, 403, 404, 408, 429, 500, 503, 529])
async def test_the_next_target_is_called_after_an_error_that_others_may_not_have(status: int) -> None:
    async with two(ScriptedError(status, "no")) as servers:
        got = await run_turn(plan_of(servers))
        assert got.error is None
        assert [attempt.status for attempt in got.node.tries] == [status, 200]
        assert [len(server.requests) for server in servers] == [1, 1]


async def test_the_refusal_of_an_invalid_request_is_raised_without_failing_over() -> None:
    async with two(ScriptedError(400, "no")) as servers:
        got = await run_turn(plan_of(servers))
        assert isinstance(got.error, InvalidRequestError)
        assert [len(server.requests) for server in servers] == [1, 0]


async def test_the_errors_that_count_can_be_configured() -> None:
    async with two(ScriptedError(400, "no")) as servers:
        targets = plan_of(servers).targets
        assert (await run_turn(Failover(targets, on=InvalidRequestError))).error is None
        assert isinstance((await run_turn(Failover(targets, on=[OverloadedError]))).error, InvalidRequestError)


async def test_if_all_targets_fail_the_first_error_is_raised_with_notes_about_the_others() -> None:
    async with two(ScriptedError(401, "no"), ScriptedError(503, "busy")) as servers:
        got = await run_turn(plan_of(servers))
    assert isinstance(got.error, AuthenticationError)
    assert got.error.attempts == got.node.attempts == 2
    assert any("busy" in note for note in got.error.__notes__)
    assert got.node.status == "failed"


async def test_a_target_that_cannot_be_called_is_skipped() -> None:
    async with ProviderServer([NEXT_ANSWER]) as server:
        keyless = at_model(server, AIModelAPIProviderEnum.GROQ, "m").model_copy(
            update={"api": server.api(AIModelAPIProviderEnum.GROQ).model_copy(update={"api_key": None})}
        )
        got = await run_turn(Failover([keyless, endpoint_at(server, Dialect.GEMINI)]))
        assert got.error is None
        assert got.node.attempts == 1
        assert "ConfigurationError" in (got.node.plan[0].reason or "")
        with pytest.raises(ConfigurationError):
            AIModelClient(Failover([keyless, keyless])).stream("Well?")


async def test_an_unreachable_host_is_failed_over() -> None:
    async with serve(once()) as gone:
        pass
    async with ProviderServer([NEXT_ANSWER]) as server:
        got = await run_turn(Failover([chat_endpoint(gone.url), endpoint_at(server, Dialect.GEMINI)]))
    assert got.error is None
    assert (got.node.tries[0].error or "").startswith(ConnectError.__name__)


async def test_plain_calls_fail_over_and_the_first_connection_is_closed() -> None:
    async with two(ScriptedError(503, "busy")) as servers:
        client = AIModelClient(plan_of(servers), ONCE)
        response = await client.generate("Well?")
        assert (response.text(), response.attempts) == ("and so on.", 2)
        assert [server.requests[0].stream for server in servers] == [False, False]
    assert repr(client) == "AIModelClient(Failover(groq:some-model, groq:some-model))"


async def test_a_stalled_target_is_closed_before_the_next_one_is_read() -> None:
    async with serve(stalling(head(), chat_delta("one "))) as silent, ProviderServer([NEXT_ANSWER]) as server:
        config = ONCE.model_copy(update={"timeouts": Timeouts(between_content=0.05)})
        got = await run_turn(Failover([chat_endpoint(silent.url), endpoint_at(server, Dialect.GEMINI)]), config=config)
        await silent.wait_hung_up()
    assert [event.type for event in got.events].count("stream_reset") == 1
    assert got.node.response is not None
    assert got.node.response.text() == "and so on."


async def test_all_targets_share_the_total_time_limit() -> None:
    async def attempt(limit: float) -> None:
        async with serve(stalling()) as one, serve(stalling(head())) as other:
            config = ONCE.model_copy(update={"timeouts": Timeouts(first_byte=limit / 4, total=limit)})
            got = await run_turn(Failover([chat_endpoint(one.url), chat_endpoint(other.url)]), config=config)
            assert [len(server.requests) for server in (one, other)] == [1, 1]
        assert isinstance(got.error, DeadlineError)
        assert (got.error.limit, got.error.seconds) == ("total", limit)

    await steady(attempt, 0.4)


# ------------------------------------------------------------------------------------------------------------ cooldowns


async def test_a_failed_target_is_called_last_by_all_calls_of_a_manager() -> None:
    async with two(ScriptedError(503, "busy")) as servers, ConversationManager(config=ONCE) as manager:
        for _ in range(3):
            await manager.ask(await manager.create(), "Well?", plan_of(servers))
        node = await manager.ask(await manager.create(), "Well?", plan_of(servers))
        assert [len(server.requests) for server in servers] == [1, 4]
        assert (node.attempts, node.plan[0].reason) == (1, "the targets before it failed recently")


async def test_a_cooldown_ends_after_its_time_or_with_an_answer() -> None:
    clock = Clock()
    answers = [ScriptedError(503, "busy"), NEXT_ANSWER, ScriptedError(503, "busy"), NEXT_ANSWER]
    async with ProviderServer(answers) as one, ProviderServer(lambda _seen: NEXT_ANSWER) as other:
        client = AIModelClient(plan_of([one, other]), ONCE, shared=SharedResources(cooldowns=Cooldowns(clock)))
        counts = list[tuple[int, int]]()
        for wait in (0, 29, 2, 0, 1):
            clock.now += wait
            await client.generate("Well?")
            counts.append((len(one.requests), len(other.requests)))
    #                 fails    left alone  asked   fails   left alone
    assert counts == [(1, 1), (1, 2), (2, 2), (3, 3), (3, 4)]


async def test_refusing_an_invalid_request_starts_no_cooldown() -> None:
    async with two(ScriptedError(400, "no")) as servers, ConversationManager(config=ONCE) as manager:
        for _ in range(2):
            plan = Failover(plan_of(servers).targets, on=APIError)
            await manager.ask(await manager.create(), "Well?", plan)
        assert [len(server.requests) for server in servers] == [2, 2]


async def test_a_request_that_cannot_be_prepared_starts_no_cooldown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file cannot be downloaded for the first target, and the second one fetches it itself."""

    async def at_home(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    monkeypatch.setattr("dhenara_async.downloads.fetch.addresses_of", at_home)
    config = ONCE.model_copy(update={"fetch": FetchPolicy(allow_http=True, allow_private=True)})
    async with serve(replies(whole(b"", content_type="image/png"))) as files, ProviderServer([NEXT_ANSWER]) as server:
        needs_it, fetches = endpoint_at(server, Dialect.GEMINI), endpoint_at(server, Dialect.OPENAI_RESPONSES)
        shared = SharedResources()
        client = AIModelClient(Failover([needs_it, fetches]), config, shared=shared)
        picture = FilePart.from_url(f"http://files.test:{files.port}/cat.png")
        response = await client.generate(messages=[Message.user("What is it?", picture)])
        assert len(files.requests) == 1
    assert (response.tries[0].error or "").startswith(ConfigurationError.__name__)
    assert response.text() == "and so on."
    assert not shared.cooldowns.any


async def test_cooling_targets_are_called_if_there_are_no_others() -> None:
    async with two(ScriptedError(503, "busy"), ScriptedError(503, "busy")) as servers:
        client = AIModelClient(plan_of(servers), ONCE)
        for _ in range(2):
            with pytest.raises(DhenaraError):
                await client.generate("Well?")
        assert [len(server.requests) for server in servers] == [2, 2]


# ----------------------------------------------------------------------------------------- nested plans and other cases


async def test_each_target_is_retried_before_the_next_one_is_called() -> None:
    config = AIModelCallConfig.model_validate({"retries": {"attempts": 3, "first_delay": 0}})
    async with two(ScriptedError(503, "busy")) as servers:
        got = await run_turn(plan_of(servers), config=config)
        assert [len(server.requests) for server in servers] == [3, 1]
    assert got.node.attempts == 4


async def test_three_targets_continue_one_answer() -> None:
    cut = b"".join((head(), chat_delta("two ")))
    async with (
        serve(once(head(), chat_delta("one "))) as one,
        serve(once(cut)) as two,
        serve(once(head(), *chat_stream("three"))) as three,
    ):
        inner = Failover([chat_endpoint(two.url), chat_endpoint(three.url)], mode="continue")
        got = await run_turn(Failover([chat_endpoint(one.url), inner], mode="continue"))
        assert [len(server.requests) for server in (one, two, three)] == [1, 1, 1]
        assert b"one two " in three.requests[0].body
    assert got.error is None
    assert got.node.response is not None
    assert got.node.response.text() == "one two three"
    assert [seam.part for seam in got.node.seams] == [1, 2]
    assert [part.status for part in got.node.response.choices[0].parts] == ["interrupted", "interrupted", "complete"]
    assert [decision.kind for decision in got.node.plan] == ["failover", "failover"]


async def test_a_nested_failover_does_not_take_back_the_continued_text() -> None:
    """A plan with mode ``restart`` inside one with ``continue`` fails, and the outer plan continues the text."""
    async with (
        serve(once(head(), chat_delta("one "))) as one,
        serve(once(head(), chat_delta("two "))) as two,
        serve(once(head(), *chat_stream("three"))) as three,
    ):
        inner = Failover([chat_endpoint(two.url), chat_endpoint(three.url)], mode="restart")
        got = await run_turn(Failover([chat_endpoint(one.url), inner, chat_endpoint(three.url)], mode="continue"))
    assert "stream_reset" not in [event.type for event in got.events]
    assert got.node.response is not None
    assert got.node.response.text() == "one two three"


async def test_events_of_a_continuing_target_are_held_until_its_first_content() -> None:
    async with (
        serve(once(head(), chat_delta("one "))) as one,
        serve(once(head(), chat_delta(""))) as mute,
        serve(once(head(), *chat_stream("two"))) as two,
    ):
        targets = [chat_endpoint(server.url) for server in (one, mute, two)]
        got = await run_turn(Failover(targets, mode="continue"))
    assert [event.type for event in got.events].count("stream_seam") == 1
    (seam,) = got.node.seams
    assert [seam.before, seam.after] == [got.node.tries[0].endpoint, got.node.tries[2].endpoint]
    assert got.node.attempts == 3


async def test_events_of_a_retried_attempt_are_dropped_at_the_seam() -> None:
    used = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
    told = event({"id": "x", "object": "chat.completion.chunk", "model": "first try", "choices": [], "usage": used})
    config = AIModelCallConfig.model_validate({"retries": {"attempts": 2, "first_delay": 0}})
    answers = [told, b"".join(chat_stream("two"))]

    async def twice(connection: Connection) -> None:
        if await connection.request() is not None:
            await connection.send(head(), answers.pop(0))

    async with serve(once(head(), chat_delta("one "))) as one, serve(twice) as two:
        got = await run_turn(Failover([chat_endpoint(one.url), chat_endpoint(two.url)], mode="continue"), config=config)
    (seam,) = (event for event in got.events if isinstance(event, StreamSeam))
    assert seam.start.model == "served"
    assert not any(isinstance(event, UsageUpdate) for event in got.events)
    assert got.node.usage == Usage()  # no usage was reported
    assert got.node.tries[1].usage.input_tokens == 1000
    assert got.node.response is not None
    assert got.node.response.text() == "one two"


async def test_the_usage_of_a_response_is_that_of_its_last_target() -> None:
    fault = Fault(answer=WORDS, error=ScriptedError(503, "busy"), error_at=6)
    async with (
        ProviderServer([fault]) as first,
        serve(once(head(), *chat_stream("four"))) as untold,
    ):
        plan = Failover([endpoint_at(first, Dialect.ANTHROPIC_MESSAGES), chat_endpoint(untold.url)], mode="continue")
        got = await run_turn(plan)
    assert got.node.status == "complete"
    assert got.node.tries[0].usage.input_tokens is not None
    assert got.node.usage == Usage()


@pytest.mark.parametrize("mode", ["restart", "continue"])
async def test_delivered_content_is_attributed_to_its_own_target(mode: str) -> None:
    """The next target fails before its content: the delivered text and its cost belong to the first target."""
    rates = Pricing(rates=Rates(input=Decimal(1_000), output=Decimal(1_000)))
    words = Answer(text="one two three four", usage=Usage(input_tokens=59, output_tokens=1))
    async with (
        ProviderServer([Fault(answer=words, error=ScriptedError(503, "busy"), error_at=5)]) as first,
        ProviderServer([ScriptedError(503, "busy")]) as other,
    ):
        who = endpoint_at(first, Dialect.ANTHROPIC_MESSAGES).model_copy(update={"pricing": rates})
        plan = Failover(
            [who, endpoint_at(other, Dialect.OPENAI_CHAT)],
            mode=mode,  # pyright: ignore[reportArgumentType] - parametrized
        )
        got = await run_turn(plan)
    node = got.node
    assert node.response is not None
    assert (node.status, node.response.text(), len(node.tries)) == ("interrupted", "one two", 2)
    assert node.origin == node.tries[0].endpoint == expected_origin(who)
    assert node.usage.input_tokens == node.tries[0].usage.input_tokens == 59
    assert node.cost == node.tries[0].cost
    assert spent_by([node]) == took(node.usage, node.cost)  # counted once, although both records contain it


# ----------------------------------------------------------------------------------------------- whitespace at the seam


BLANKS = [
    ("one two ", " three", "one two three"),
    ("one two ", "three", "one two three"),
    ("one two", " three", "one two three"),
    ("one two \n\n", "\n\n    three", "one two \n\n    three"),
    ("one two\n", "\n\nthree", "one two\n\nthree"),
    ("one two\n\n", "\nthree", "one two\n\nthree"),
    ("one two\n\n", " three", "one two\n\nthree"),
    ("one two ", "\n\nthree", "one two \n\nthree"),
    ("one two ", " ", "one two "),
    (" \n", "\nthree", " \nthree"),
]


@pytest.mark.parametrize("cut", ["letters", "words"])
@pytest.mark.parametrize(("before", "after", "whole"), BLANKS)
@pytest.mark.parametrize("dialect", [Dialect.ANTHROPIC_MESSAGES, Dialect.OPENAI_CHAT])
async def test_trailing_whitespace_that_the_next_target_was_not_shown_is_delivered_once(
    dialect: Dialect, before: str, after: str, whole: str, cut: str
) -> None:
    """One host refuses a prefill with trailing whitespace; the other accepts it."""
    rest = Answer(text=after, pieces=tuple(after) if cut == "letters" else None)
    async with serve(once(head(), chat_delta(before))) as first, ProviderServer([rest]) as other:
        who = endpoint_at(other, dialect)
        if dialect is Dialect.ANTHROPIC_MESSAGES:
            who = at_model(other, AIModelAPIProviderEnum.ANTHROPIC, "claude-haiku-4-5")
        got = await run_turn(Failover([chat_endpoint(first.url), who], mode="continue"))
        (sent,) = other.requests
    assert got.error is None
    assert got.node.response is not None
    handed = [text for role, text in sent.turns if role == "assistant"]
    told_all = handed == [before]
    assert told_all or handed == ([before.rstrip()] if before.strip() else [])
    assert got.node.response.text() == (before + after if told_all else whole)
    assert got.node.seams[0].part == 1
    texts = [event.text for event in got.events if isinstance(event, TextDelta)]
    assert "".join(texts) == got.node.response.text()
    assert "" not in texts


class ScriptedSource:
    """An event source that plays given batches."""

    repeatable = True

    def __init__(self, *batches: list[StreamEvent]) -> None:
        self._left = list(batches)

    @property
    def over(self) -> bool:
        return not self._left

    @property
    def origin(self) -> Origin:
        raise NotImplementedError

    @property
    def account(self) -> CallRecord:
        raise NotImplementedError

    async def receive(self) -> list[StreamEvent]:
        return self._left.pop(0)

    async def close(self, *, lost: bool = False) -> None:
        self._left.clear()


async def test_only_the_first_text_of_the_last_attempt_has_its_whitespace_removed() -> None:
    start, ended = StreamStart(model="m", provider="p"), TextPart(text=" \nthree")
    source = RestSource(
        ScriptedSource(
            [start, PartStart(0, "text")],
            [TextDelta(0, " ")],
            [StreamReset("busy", start)],
            [PartStart(0, "reasoning"), ReasoningDelta(0, " "), PartEnd(0, ReasoningPart(text=" "))],
            [PartStart(1, "text"), TextDelta(1, " ")],
            [TextDelta(1, "\nth"), TextDelta(1, "ree")],
            [PartEnd(1, ended)],
            [PartStart(2, "text"), TextDelta(2, " \nfour"), PartEnd(2, TextPart(text=" \nfour"))],
        ),
        "\n ",
    )
    events: list[StreamEvent] = []
    while not source.over:
        events += await source.receive()
    texts = [(event.part_id, event.text) for event in events if isinstance(event, TextDelta | ReasoningDelta)]
    assert texts == [(0, " "), (1, "\nth"), (1, "ree"), (2, " \nfour")]
    ends = [event.part.get_text() for event in events if isinstance(event, PartEnd)]
    assert ends == [" ", "\nthree", " \nfour"]


def test_citations_keep_pointing_at_their_text() -> None:
    cited = TextPart(text=" three", citations=(Citation(url="https://a.test", start=1, end=6), Citation(title="b")))
    left = without_start(cited, 1)
    assert (left.text, [(one.start, one.end) for one in left.citations]) == ("three", [(0, 5), (None, None)])


async def test_nested_decisions_are_recorded_outermost_first() -> None:
    async with two(ScriptedError(503, "busy")) as servers:
        plan = Experiment({"a": Router(strengths={"anything": plan_of(servers)})}, name="greeting")
        async with ConversationManager(config=ONCE) as manager:
            conversation = await manager.create()
            assert manager.check(conversation, plan, query="Well?").input_tokens > 0
            node = await manager.ask(conversation, "Well?", plan)
    experiment, router, failover = node.plan
    assert (experiment.name, experiment.choice, experiment.unit) == ("greeting", "a", conversation.id)
    assert (router.reason, failover.kind) == ("for anything", "failover")


async def test_variants_stick_to_a_conversation_but_not_between_nodes() -> None:
    async with ProviderServer(lambda _seen: NEXT_ANSWER) as server, ConversationManager() as manager:
        chat, gemini = endpoint_at(server, Dialect.OPENAI_CHAT), endpoint_at(server, Dialect.GEMINI)
        for _ in range(4):
            conversation = await manager.create()
            nodes = [await manager.ask(conversation, "Well?", Experiment({"a": chat, "b": gemini})) for _ in range(4)]
            assert len({node.plan[0].choice for node in nodes}) == 1
            assert all(node.origin == nodes[0].origin for node in nodes)
        conversation = await manager.create()
        node = await manager.ask(conversation, "Well?", Experiment({"a": chat, "b": gemini}, sticky_by="node"))
        assert node.plan[0].unit == node.id


async def test_a_router_receives_the_whole_conversation() -> None:
    async with ProviderServer(lambda _seen: NEXT_ANSWER) as server, ConversationManager() as manager:
        few, many = endpoint_at(server, Dialect.OPENAI_CHAT), endpoint_at(server, Dialect.GEMINI)
        plan = Router(lambda said, _config: "many" if len(said) > 1 else "few", {"few": few, "many": many})
        conversation = await manager.create()
        nodes = [await manager.ask(conversation, "Well?", plan) for _ in range(2)]
    assert [node.plan[0].choice for node in nodes] == ["few", "many"]


async def test_leaving_during_the_second_answer_closes_its_connection() -> None:
    async with serve(once()) as one, serve(stalling(head(), chat_delta("one "))) as other:
        client = AIModelClient(Failover([chat_endpoint(one.url), chat_endpoint(other.url)]), ONCE)
        async with client.stream("Well?") as stream:
            async for event in stream:
                if isinstance(event, TextDelta):
                    break
        await other.wait_hung_up()
        assert stream.partial.text() == "one "
        assert stream.partial.attempts == 2


async def test_cancellation_does_not_fail_over() -> None:
    async with serve(stalling(head())) as one, ProviderServer([NEXT_ANSWER]) as other:
        client = AIModelClient(Failover([chat_endpoint(one.url), endpoint_at(other, Dialect.GEMINI)]), ONCE)
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                async with client.stream("Well?") as stream:
                    await stream.collect()

            tasks.start_soon(read)
            await one.asked.wait()
            tasks.cancel_scope.cancel()
        await one.wait_hung_up()
        assert other.requests == []


async def test_test_mode_names_the_chosen_target() -> None:
    async with ProviderServer() as server:
        plan = Failover([endpoint_at(server, dialect) for dialect in DIALECTS])
        response = await AIModelClient(plan, AIModelCallConfig(test_mode=True)).generate("Well?")
        assert server.requests == []
    assert "some-model was not called" in response.text()


async def test_the_blocking_client_takes_a_plan() -> None:
    async with two(ScriptedError(503, "busy")) as servers:
        client = AIModelClient(plan_of(servers), ONCE, is_async=False)
        response = await anyio.to_thread.run_sync(lambda: client.generate("Well?"))
    assert response.text() == "and so on."


async def test_an_error_event_in_a_started_answer_keeps_its_class() -> None:
    async with serve(once(head(), chat_delta("one "))) as one, ProviderServer([NEXT_ANSWER]) as other:
        targets = [chat_endpoint(one.url), endpoint_at(other, Dialect.GEMINI)]
        got = await run_turn(Failover(targets, mode="fail"))
    assert not isinstance(got.error, ReadError)  # the error event came before the end of the body
    assert isinstance(got.events[-1], TextDelta)
    assert not any(isinstance(event, StreamEnd) for event in got.events)
