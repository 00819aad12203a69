"""Retries of calls: the number of requests for every status, header and limit of attempts, the waits, the budget."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhenara_async import AIModelCallConfig, AIModelClient, ConversationManager, Dialect
from dhenara_async.calls.retry import RetryBudget, delay
from dhenara_async.calls.shared import SharedResources
from dhenara_async.calls.timing import Timing
from dhenara_async.config import RetryPolicy, Timeouts
from dhenara_async.errors import (
    APIError,
    ConnectError,
    DeadlineError,
    DhenaraError,
    OverloadedError,
    ProtocolError,
    RateLimitError,
    ReadError,
    ServerError,
    TruncatedStreamError,
)
from dhenara_async.events import (
    PartEnd,
    PartStart,
    StreamEvent,
    StreamReset,
    StreamStart,
    TextDelta,
    ToolCallDelta,
)
from dhenara_async.testing import Answer, Fault, ProviderServer, ScriptedError, ScriptedToolCall, check_grammar
from dhenara_async.transport.aiohttp_transport import AiohttpTransport
from tests.cases import sample
from tests.loopback import (
    PATIENCE,
    SPEAKERS,
    chat_endpoint,
    endpoint_at,
    nobody,
)
from tests.steady import steady

DIALECTS = tuple(SPEAKERS)
ANSWER = Answer("One two three.", pieces=("One", " two", " three."))
NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)

STATUSES = {
    400: False,
    401: False,
    402: False,
    403: False,
    404: False,
    408: True,
    409: True,
    413: False,
    422: False,
    429: True,
    500: True,
    502: True,
    503: True,
    504: True,
    529: True,
}
"""Statuses, and whether a call is retried after them if no header decides."""


def _date(seconds: float) -> dict[str, str]:
    """Return ``retry-after`` as a date, and the ``date`` header that it is relative to."""
    there = format_datetime(NOON + timedelta(seconds=seconds), usegmt=True)
    return {"date": format_datetime(NOON, usegmt=True), "retry-after": there}


HEADERS: dict[str, tuple[dict[str, str], bool | None]] = {
    "none": ({}, None),
    "ms": ({"retry-after-ms": "2"}, None),
    "seconds": ({"retry-after": "0"}, None),
    "a date": (_date(0), None),
    "ms before seconds": ({"retry-after-ms": "2", "retry-after": "3600"}, None),
    "nonsense": ({"retry-after": "soon"}, None),
    "ms too long": ({"retry-after-ms": "3600000"}, False),
    "seconds too long": ({"retry-after": "3600"}, False),
    "a date too far": (_date(3600), False),
    "yes": ({"x-should-retry": "true"}, True),
    "no": ({"x-should-retry": "false"}, False),
    "yes, but too long": ({"x-should-retry": "true", "retry-after": "3600"}, False),
}
"""Headers, and whether a call is retried after them; None = the status decides."""


def policy(attempts: int = 3) -> RetryPolicy:
    """Return a policy without waits of its own; a provider may still ask for one."""
    return RetryPolicy(attempts=attempts, first_delay=0)


def config(attempts: int = 3, *, streaming: bool = False, timeouts: Timeouts | None = None) -> AIModelCallConfig:
    """Return the options of a call with at most ``attempts`` requests."""
    return AIModelCallConfig(retries=policy(attempts), streaming=streaming, timeouts=timeouts or Timeouts())


# ---------------------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_each_status_and_header_leads_to_the_expected_number_of_requests(dialect: Dialect, header: str) -> None:
    """The server refuses every attempt, or answers the last one, for each limit of attempts and half of the statuses.

    A soak tries all statuses.
    """
    headers, verdict = HEADERS[header]
    refusals: list[ScriptedError] = []
    transport = AiohttpTransport()  # connections are shared; a budget is each client's own
    try:
        async with ProviderServer(lambda _seen: refusals.pop() if refusals else ANSWER) as server:
            endpoint = endpoint_at(server, dialect)
            first = list(HEADERS).index(header) + DIALECTS.index(dialect)
            for status, by_itself in sample(list(STATUSES.items()), 2, first):
                again = by_itself if verdict is None else verdict
                for attempts in (1, 2, 4):
                    client = AIModelClient(endpoint, config(attempts, streaming=status % 2 == 0), transport=transport)
                    expected = attempts if again else 1
                    before = len(server.requests)
                    refusals[:] = [ScriptedError(status, "No.", headers=headers)] * attempts
                    with pytest.raises(APIError) as caught:
                        await client.generate("Count.")
                    assert len(server.requests) - before == caught.value.attempts == expected, (status, attempts)
                    assert caught.value.status == status
                    before = len(server.requests)
                    refusals[:] = [ScriptedError(status, "No.", headers=headers)] * (expected - 1)
                    response = await client.generate("Count.")
                    assert len(server.requests) - before == response.attempts == len(response.tries) == expected
                    assert [attempt.status for attempt in response.tries] == [status] * (expected - 1) + [200]
                    assert [attempt.error is None for attempt in response.tries] == [False] * (expected - 1) + [True]
            assert {seen.model for seen in server.requests} == {endpoint.ai_model.model_name}
    finally:
        await transport.aclose()


def test_header_cases_cover_retry_no_retry_and_the_default() -> None:
    assert {verdict for _headers, verdict in HEADERS.values()} == {True, False, None}


@pytest.mark.parametrize(("seconds", "requests"), [(0.002, 2), (3600.0, 1)])
async def test_the_retry_info_in_geminis_body_sets_the_delay(seconds: float, requests: int) -> None:
    async with ProviderServer([ScriptedError(429, "No.", retry_info=seconds), ANSWER]) as server:
        client = AIModelClient(endpoint_at(server, Dialect.GEMINI), config())
        if requests == 1:
            with pytest.raises(RateLimitError) as caught:
                await client.generate("Count.")
            assert (caught.value.retry_after, caught.value.attempts) == (seconds, 1)
        else:
            response = await client.generate("Count.")
            assert [attempt.waited for attempt in response.tries] == [0.0, seconds]
        assert len(server.requests) == requests


async def test_the_wait_is_the_retry_after_of_the_provider() -> None:
    """The policy's own backoff is zero here."""
    refusals = [ScriptedError(429, "No.", headers={"retry-after-ms": told}) for told in ("3", "5")]
    async with ProviderServer([*refusals, ANSWER]) as server:
        response = await AIModelClient(endpoint_at(server, Dialect.OPENAI_CHAT), config()).generate("Count.")
    assert [attempt.waited for attempt in response.tries] == [0.0, 0.003, 0.005]


# ---------------------------------------------------------------------------------------------------- no retry


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("retries", "timeouts"),
    [
        (RetryPolicy(longest_wait=19.0), Timeouts()),
        (RetryPolicy(longest_wait=60.0), Timeouts(total=19.0)),
        (RetryPolicy(longest_wait=60.0), Timeouts(first_content=19.0)),
    ],
)
async def test_a_wait_beyond_a_limit_fails_at_once(dialect: Dialect, retries: RetryPolicy, timeouts: Timeouts) -> None:
    refusal = ScriptedError(429, "No.", headers={"retry-after": "20"})
    async with ProviderServer([refusal, ANSWER]) as server:
        client = AIModelClient(endpoint_at(server, dialect), AIModelCallConfig(retries=retries, timeouts=timeouts))
        with anyio.fail_after(PATIENCE), pytest.raises(RateLimitError) as caught:
            await client.generate("Count.")
        assert (caught.value.retry_after, caught.value.attempts, len(server.requests)) == (20.0, 1, 1)


def _has_content(event: StreamEvent) -> bool:
    """Whether an event holds content of the answer; the start of a text part does not."""
    match event:
        case PartStart():
            return event.kind == "tool_call"
        case TextDelta() | ToolCallDelta() | PartEnd():
            return True
        case _:
            return False


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("answer", [ANSWER, Answer(tool_calls=(ScriptedToolCall("call_1", "add", '{"a":1}'),))])
async def test_an_error_after_content_is_not_retried(dialect: Dialect, answer: Answer) -> None:
    """The reader keeps the content that came before the error, whatever its kind."""
    async with ProviderServer([answer]) as server:
        client = AIModelClient(endpoint_at(server, dialect), config())
        async with client.stream("Count.") as stream:
            whole = [event async for event in stream]
    said = 0
    for events_before in range(12):
        error = ScriptedError(500, "No.", code="server_error")
        fault = Fault(answer=answer, error=error, error_at=events_before)
        seen: list[StreamEvent] = []
        async with ProviderServer([fault] * 3) as server:
            client = AIModelClient(endpoint_at(server, dialect), config())
            async with client.stream("Count.") as stream:
                try:
                    async for event in stream:
                        seen.append(event)
                except ServerError as exc:
                    content = any(map(_has_content, seen))
                    assert exc.attempts == len(server.requests) == (1 if content else 3), events_before
                    said += content
                else:  # the error came behind the end
                    assert len(seen) == len(whole)
                    assert len(server.requests) == 1
    assert said or (dialect is Dialect.GEMINI and answer.tool_calls)  # Gemini calls a tool with its last event


async def test_a_retry_resets_a_start_that_was_handed_over() -> None:
    """An answer without content is retried; each further request sends the reader one ``StreamReset``."""
    fault = Fault(answer=ANSWER, error=ScriptedError(529, "No."), error_at=1, stall=1, seconds=0.02)
    async with ProviderServer([fault, fault, ANSWER]) as server:
        client = AIModelClient(endpoint_at(server, Dialect.ANTHROPIC_MESSAGES), config())
        async with client.stream("Count.") as stream:
            events = [event async for event in stream]
    check_grammar(events)
    starts = [event.request_id for event in events if isinstance(event, StreamStart)]
    resets = [event for event in events if isinstance(event, StreamReset)]
    assert starts == ["req_loopback000001"]
    assert [reset.start and reset.start.request_id for reset in resets] == ["req_loopback000002", "req_loopback000003"]
    assert all(reset.reason.startswith("OverloadedError") for reset in resets)
    assert [attempt.request_id for attempt in stream.response.tries] == [
        "req_loopback000001",
        "req_loopback000002",
        "req_loopback000003",
    ]
    assert stream.response.text() == "One two three."


@pytest.mark.parametrize("dialect", [Dialect.ANTHROPIC_MESSAGES, Dialect.OPENAI_RESPONSES])
async def test_a_retry_resets_a_part_without_content(dialect: Dialect) -> None:
    """Two dialects announce a text part before its first word; the host fails between the two."""
    before = {Dialect.ANTHROPIC_MESSAGES: 2, Dialect.OPENAI_RESPONSES: 4}[dialect]
    error = ScriptedError(500, "No.", code="server_error")
    fault = Fault(answer=ANSWER, error=error, error_at=before, stall=before, seconds=0.02)
    async with ProviderServer([fault, ANSWER]) as server:
        client = AIModelClient(endpoint_at(server, dialect), config())
        async with client.stream("Count.") as stream:
            events = [event async for event in stream]
    check_grammar(events)
    reset = next(index for index, event in enumerate(events) if isinstance(event, StreamReset))
    assert isinstance(events[reset - 1], PartStart)
    assert (stream.response.text(), len(stream.response.chat_response.choices[0].parts)) == ("One two three.", 1)


@pytest.mark.parametrize("dialect", [Dialect.ANTHROPIC_MESSAGES, Dialect.OPENAI_RESPONSES])
async def test_an_empty_text_part_is_not_content(dialect: Dialect) -> None:
    before = {Dialect.ANTHROPIC_MESSAGES: 2, Dialect.OPENAI_RESPONSES: 4}[dialect]

    async def attempt(limit: float) -> None:
        async with ProviderServer([Fault(answer=ANSWER, stall=before)]) as server:
            client = AIModelClient(endpoint_at(server, dialect), config(timeouts=Timeouts(first_content=limit)))
            seen: list[StreamEvent] = []
            with anyio.fail_after(PATIENCE), pytest.raises(DeadlineError) as caught:
                async with client.stream("Count.") as stream:
                    async for event in stream:
                        seen.append(event)
            assert (caught.value.limit, caught.value.seconds) == ("first_content", limit)
            assert isinstance(seen[-1], PartStart)
            await server.wait_closed(1)

    await steady(attempt, 0.06)


async def test_timeouts_of_the_whole_call_are_not_retried() -> None:
    """A further request would have no time left either."""
    async with ProviderServer(lambda _seen: Fault(answer=ANSWER, stall="head")) as server:
        for timeouts, limit in ((Timeouts(total=0.05), "total"), (Timeouts(first_content=0.05), "first_content")):
            before = len(server.requests)
            client = AIModelClient(endpoint_at(server, Dialect.OPENAI_CHAT), config(timeouts=timeouts))
            with pytest.raises(DeadlineError) as caught:
                await client.generate("Count.")
            assert (caught.value.limit, caught.value.attempts) == (limit, 1)
            assert len(server.requests) - before <= 1  # none if the machine was too slow to send it


@pytest.mark.parametrize("attempts", [1, 2, 4])
async def test_connect_errors_are_retried(attempts: int) -> None:
    with nobody() as url, pytest.raises(ConnectError) as caught:
        await AIModelClient(chat_endpoint(url), config(attempts)).generate("Count.")
    assert caught.value.attempts == attempts


async def test_a_node_records_every_attempt() -> None:
    refusals = [ScriptedError(503, "No."), ScriptedError(429, "No.", headers={"retry-after-ms": "1"})]
    async with ProviderServer([*refusals, ANSWER, *refusals, refusals[0]]) as server, ConversationManager() as manager:
        conversation = await manager.create()
        endpoint = endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        node = await manager.ask(conversation, "Count.", endpoint, config=config())
        assert [attempt.status for attempt in node.tries] == [503, 429, 200]
        assert [(attempt.error or "").partition(":")[0] for attempt in node.tries] == [
            "OverloadedError",
            "RateLimitError",
            "",
        ]
        with pytest.raises(OverloadedError) as caught:
            await manager.ask(conversation, "Again.", endpoint, config=config())
        failed = (await manager.store.load(conversation.id)).nodes[-1]
        assert caught.value.attempts == len(failed.tries) == 3
        assert [attempt.status for attempt in failed.tries] == [503, 429, 503]
        assert len(server.requests) == 6


# ---------------------------------------------------------------------------------------------------- retry budget


@pytest.mark.parametrize("at_once", [False, True])
async def test_the_retry_budget_bounds_requests_during_an_outage(at_once: bool) -> None:
    calls = 100
    async with ProviderServer(lambda _seen: ScriptedError(503, "Down.")) as server:
        async with AIModelClient(endpoint_at(server, Dialect.OPENAI_CHAT), config(10)) as client:

            async def fail() -> None:
                with pytest.raises(OverloadedError):
                    await client.generate("Count.")

            async with anyio.create_task_group() as tasks:
                for _ in range(calls):
                    if at_once:
                        tasks.start_soon(fail)
                    else:
                        await fail()
        assert calls + 20 <= len(server.requests) <= calls + 20 + 0.2 * calls
        before = len(server.requests)
        with pytest.raises(OverloadedError):  # another client has a budget of its own
            await AIModelClient(endpoint_at(server, Dialect.OPENAI_CHAT), config(10)).generate("Count.")
        assert len(server.requests) - before == 10


def test_a_retry_budget_shared_by_threads_is_not_overdrawn() -> None:
    budget = RetryBudget(most=50, share=0)
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(budget.spend) for _ in range(4000)]
    granted = [future.result() for future in asked]
    assert sum(granted) == 50
    earning = RetryBudget(most=10_000, share=1)
    while earning.spend():
        pass
    with ThreadPoolExecutor(8) as threads:
        for _ in range(2000):
            threads.submit(earning.earn)
    assert sum(earning.spend() for _ in range(3000)) == 2000


def test_a_retry_budget_is_capped_at_its_maximum() -> None:
    budget = RetryBudget(most=3, share=0.5)
    for _ in range(100):
        budget.earn()
    assert [budget.spend() for _ in range(5)] == [True, True, True, False, False]
    budget.earn()
    assert not budget.spend()
    budget.earn()
    assert budget.spend()


# ---------------------------------------------------------------------------------------------------- delays


def refused(retry_after: float | None = None, *, retryable: bool = True) -> APIError:
    """Return an error as drivers build it."""
    return APIError("No.", provider="p", status=429, retry_after=retry_after, retryable=retryable)


ALWAYS: tuple[DhenaraError, ...] = (
    ConnectError("no"),
    ReadError("no"),
    ProtocolError("no"),
    TruncatedStreamError("no"),
    DeadlineError(limit="first_byte", seconds=1),
    DeadlineError(limit="between_bytes", seconds=1),
    DeadlineError(limit="connect", seconds=1),
    refused(),
)
NEVER: tuple[DhenaraError, ...] = (
    DhenaraError("no"),
    DeadlineError(limit="total", seconds=1),
    DeadlineError(limit="first_content", seconds=1),
    refused(retryable=False),
)


@given(
    attempts=st.integers(1, 12),
    failed=st.integers(1, 20),
    draw=st.floats(0, 1, exclude_max=True),
    told=st.none() | st.floats(0, 200),
    remaining=st.none() | st.floats(0, 200),
)
def test_the_delay_follows_retry_after_backoff_and_the_remaining_time(
    attempts: int, failed: int, draw: float, told: float | None, remaining: float | None
) -> None:
    rule = RetryPolicy(attempts=attempts)
    for error in (*ALWAYS, *NEVER) if told is None else (refused(told),):
        wait = delay(rule, failed, error, remaining=remaining, draw=draw)
        if failed >= attempts or error in NEVER:
            assert wait is None
            continue
        if told is None:
            expected = draw * min(rule.longest_delay, rule.first_delay * 2 ** (failed - 1))
        else:
            expected = told if told <= rule.longest_wait else None
        if expected is not None and remaining is not None and expected >= remaining:
            expected = None
        assert wait == expected


def test_the_delay_of_attempt_zero_is_refused() -> None:
    for failed in (0, -1):
        with pytest.raises(ValueError, match="counts from 1"):
            delay(RetryPolicy(), failed, ReadError("no"), remaining=None, draw=0.5)


def test_a_number_as_retries_is_the_number_of_further_requests() -> None:
    assert [AIModelCallConfig(retries=number).retries.attempts for number in (0, 1, 5)] == [1, 2, 6]


async def test_waits_use_the_timing_of_the_shared_resources() -> None:
    waits: list[float] = []
    ticks = iter(range(100))

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    timing = Timing(clock=lambda: float(next(ticks)), sleep=sleep, draw=lambda: 0.5)
    busy = ScriptedError(503, "Busy.")
    async with ProviderServer([busy, busy, ANSWER]) as server:
        endpoint = endpoint_at(server, Dialect.OPENAI_CHAT)
        response = await AIModelClient(endpoint, shared=SharedResources(timing=timing)).generate("Count.")
    policy = RetryPolicy()
    assert waits == [0.5 * policy.first_delay, policy.first_delay]
    assert [attempt.waited for attempt in response.tries] == [0.0, *waits]
    assert response.latency.total.is_integer()
