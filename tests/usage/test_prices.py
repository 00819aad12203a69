"""What calls cost: by list prices, asked once more with the same numbers by hand, and by rates of one's own."""

import subprocess
import sys
import threading
from decimal import Decimal
from typing import cast

import anyio
import genai_prices
import pytest
from pydantic import ValidationError

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelCallResponse,
    AIModelClient,
    AIModelEndpoint,
    ChatResponse,
    Choice,
    ConversationManager,
    ConversationNode,
    Dialect,
    FinishReason,
    Latency,
    Origin,
    Pricing,
    Rates,
    Usage,
)
from dhenara_async.errors import ProtocolError
from dhenara_async.testing import Answer, ProviderServer, ReplayTransport
from dhenara_async.usage import prices
from tests import recordings

_Provider = AIModelAPIProviderEnum
_MILLION = Decimal(1_000_000)
_TOLD = Usage(input_tokens=1000, output_tokens=200, source="reported")
_CONTRACT = Rates.model_validate({"input": "3", "output": "15", "cache_read": "0.3", "web_search": "0.01"})


def _answer(provider: str, model: str, usage: Usage) -> ChatResponse:
    return ChatResponse(choices=(Choice(finish_reason=FinishReason.STOP),), usage=usage, model=model, provider=provider)


def _call(answer: ChatResponse, *, asked: str = "m", pricing: Pricing | None = None) -> AIModelCallResponse:
    origin = Origin(provider=answer.provider, dialect="openai_chat", endpoint="host", account=None, model=asked)
    latency = Latency(first_event=None, total=1.0)
    return AIModelCallResponse(
        chat_response=answer, endpoint=origin, latency=latency, pricing=Pricing() if pricing is None else pricing
    )


# ---------------------------------------------------------------------------------------------------- list prices


@pytest.mark.parametrize(
    ("provider", "listed", "model", "usage", "spent"),
    [
        pytest.param(
            *("openai", "openai", "gpt-6-sol"),
            Usage(input_tokens=1000, output_tokens=200),
            {"input_tokens": 1000, "output_tokens": 200},
            id="input and output",
        ),
        pytest.param(
            *("openai", "openai", "gpt-6-sol"),
            Usage(
                input_tokens=5000,
                cache_read_tokens=3000,
                cache_write_tokens=1000,
                cache_write_30m_tokens=1000,
                output_tokens=200,
                reasoning_tokens=150,
            ),
            {
                "input_tokens": 5000,
                "cache_read_tokens": 3000,
                "cache_write_tokens": 1000,
                "output_tokens": 200,
                "output_reasoning_tokens": 150,
            },
            id="cache and reasoning",
        ),
        pytest.param(
            *("openai", "openai", "gpt-6-sol"),
            Usage(input_tokens=300_000, output_tokens=200),
            {"input_tokens": 300_000, "output_tokens": 200},
            id="a long prompt is dearer",
        ),
        pytest.param(
            *("anthropic", "anthropic", "claude-sonnet-5-5"),
            Usage(
                input_tokens=9000,
                cache_read_tokens=4000,
                cache_write_tokens=3000,
                cache_write_5m_tokens=1000,
                cache_write_1h_tokens=2000,
                output_tokens=500,
                web_searches=3,
            ),
            {
                "input_tokens": 9000,
                "cache_read_tokens": 4000,
                "cache_write_tokens": 3000,
                "cache_write_1h_tokens": 2000,
                "output_tokens": 500,
                "web_searches": 3,
            },
            id="both caches and searches",
        ),
        pytest.param(
            *("google_ai", "google", "gemini-2.5-flash"),
            Usage(input_tokens=2000, input_audio_tokens=1500, output_tokens=100),
            {"input_tokens": 2000, "input_audio_tokens": 1500, "output_tokens": 100},
            id="audio",
        ),
        pytest.param(
            *("xai", "x-ai", "grok-4.6"), _TOLD, {"input_tokens": 1000, "output_tokens": 200}, id="another name for xAI"
        ),
        pytest.param(
            *("groq", "groq", "openai/gpt-oss-120b"),
            _TOLD,
            {"input_tokens": 1000, "output_tokens": 200},
            id="a host of other people's models",
        ),
    ],
)
def test_list_price(provider: str, listed: str, model: str, usage: Usage, spent: dict[str, int]) -> None:
    expected = genai_prices.calc_price(genai_prices.Usage(**spent), model, provider_id=listed).total_price
    assert expected > 0
    cost = _answer(provider, model, usage).cost()
    assert (cost, str(cost)) == (expected, str(expected))


def test_list_price_in_figures() -> None:
    """Of models whose price has not moved in years, so that a wrong unit cannot agree with itself."""
    assert _answer("openai", "gpt-4o-mini", _TOLD).cost() == Decimal("0.00027")
    assert _answer("anthropic", "claude-haiku-4-5", _TOLD).cost() == Decimal("0.002")


@pytest.mark.parametrize(
    ("provider", "model", "usage"),
    [
        pytest.param("openai", "model-of-nobody", _TOLD, id="unknown model"),
        pytest.param("openai_compatible", "gpt-4o", _TOLD, id="a host of one's own"),
        pytest.param("ollama", "llama3", _TOLD, id="a computer of one's own"),
        pytest.param("openai", "gpt-4o", Usage(), id="nothing told"),
        pytest.param("openai", "gpt-4o", Usage(input_tokens=5), id="no output told"),
        pytest.param("openai", "gpt-4o", Usage(output_tokens=5), id="no input told"),
        pytest.param(
            "anthropic",
            "claude-haiku-4-5",
            Usage(input_tokens=5, cache_read_tokens=9, output_tokens=1),
            id="more from the cache than at all",
        ),
        pytest.param(
            "google_ai",
            "gemini-2.5-flash",
            Usage(input_tokens=50, cache_read_tokens=9, input_audio_tokens=9, output_tokens=1),
            id="how much audio was cached decides the price, and was not told",
        ),
    ],
)
def test_what_has_no_price(provider: str, model: str, usage: Usage) -> None:
    assert _answer(provider, model, usage).cost() is None
    call = _call(_answer(provider, model, usage))
    assert (call.cost(), call.charge()) == (None, None)


def test_the_model_that_was_asked_for_has_a_price_too() -> None:
    """Some hosts report an id of their own."""
    answer = _answer("openai", "a-snapshot-of-this-morning", _TOLD)
    assert _call(answer).cost() is None
    assert _call(answer, asked="gpt-4o-mini").cost() == Decimal("0.00027")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    answer = _answer("openai", "gpt-4o-mini", _TOLD)
    for ask in (answer.cost, _call(answer).cost, _call(answer, pricing=Pricing(mark_up=Decimal(1))).charge):
        assert ask() is None
    assert answer.cost(_CONTRACT) == Decimal("0.006")
    assert _call(answer, pricing=Pricing(rates=_CONTRACT)).cost() == Decimal("0.006")
    assert _call(answer, pricing=Pricing(price_list=_CONTRACT)).charge() == Decimal("0.006")
    assert _answer("ollama", "llama3", _TOLD).cost() is None


def test_prices_are_loaded_by_the_first_question() -> None:
    script = (
        "import sys\n"
        "from dhenara_async import *\n"
        "import dhenara_async.calls.stream, dhenara_async.turns.turn\n"
        "choice = ChatResponse.model_validate({'choices': [{'finish_reason': 'stop'}], 'model': 'gpt-4o-mini',"
        " 'provider': 'openai', 'usage': {'input_tokens': 1000, 'output_tokens': 200}})\n"
        "before = 'genai_prices' in sys.modules\n"
        "print(before, choice.cost(), 'genai_prices' in sys.modules)"
    ).replace("import *", "import ChatResponse")
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "0.00027", "True"]


# ---------------------------------------------------------------------------------------------------- own rates


@pytest.mark.parametrize(
    ("rates", "usage", "expected"),
    [
        pytest.param({"input": "3", "output": "15"}, _TOLD, "0.006", id="input and output"),
        pytest.param({"input": 3, "output": 0.1}, _TOLD, "0.00302", id="a float is what it reads as"),
        pytest.param({"input": "0", "output": "0"}, _TOLD, "0", id="for nothing"),
        pytest.param(
            {"input": "3", "output": "15"},
            Usage(
                input_tokens=1000, cache_read_tokens=500, cache_write_tokens=200, output_tokens=0, reasoning_tokens=0
            ),
            "0.003",
            id="a cache without a rate costs what input costs",
        ),
        pytest.param(
            {"input": "3", "output": "15", "cache_read": "0.3", "cache_write": "4", "cache_write_1h": "6"},
            Usage(
                input_tokens=1000,
                cache_read_tokens=500,
                cache_write_tokens=300,
                cache_write_1h_tokens=100,
                output_tokens=0,
            ),
            str((200 * 3 + 500 * Decimal("0.3") + 200 * 4 + 100 * 6) / _MILLION),
            id="all of the cache",
        ),
        pytest.param(
            {"input": "3", "output": "15", "cache_write": "4"},
            Usage(input_tokens=100, cache_write_tokens=100, cache_write_1h_tokens=50, output_tokens=0),
            "0.0004",
            id="an hour without a rate costs what a write costs",
        ),
        pytest.param(
            {"input": "3", "output": "15", "reasoning": "1", "output_audio": "80", "input_audio": "40"},
            Usage(
                input_tokens=1000,
                input_audio_tokens=400,
                output_tokens=1000,
                reasoning_tokens=100,
                output_audio_tokens=300,
            ),
            str((600 * 3 + 400 * 40 + 600 * 15 + 100 * 1 + 300 * Decimal(80)) / _MILLION),
            id="reasoning and audio",
        ),
        pytest.param(
            {"input": "3", "output": "15", "input_audio": "40", "cache_read": "0.5"},
            Usage(input_tokens=1000, cache_read_tokens=800, input_audio_tokens=900, output_tokens=0),
            str((800 * Decimal("0.5") + 200 * 40) / _MILLION),
            id="audio from the cache",
        ),
        pytest.param(
            {"input": "3", "output": "15", "web_search": "0.01"},
            Usage(input_tokens=0, output_tokens=0, web_searches=3),
            "0.03",
            id="searches",
        ),
    ],
)
def test_own_rates(rates: dict[str, object], usage: Usage, expected: str) -> None:
    price = Rates.model_validate(rates).price(usage)
    assert price == Decimal(expected)


@pytest.mark.parametrize(
    "usage",
    [
        Usage(),
        Usage(input_tokens=1),
        Usage(output_tokens=1),
        Usage(input_tokens=1, cache_read_tokens=2, output_tokens=1),
        Usage(input_tokens=9, cache_write_tokens=2, cache_write_1h_tokens=3, output_tokens=1),
        Usage(input_tokens=1, output_tokens=1, reasoning_tokens=2),
    ],
)
def test_own_rates_make_nothing_up(usage: Usage) -> None:
    assert _CONTRACT.price(usage) is None


def test_rates_are_exact() -> None:
    rates = Rates(input=Decimal("0.1234567890123456789"), output=Decimal(0))
    assert rates.price(Usage(input_tokens=3, output_tokens=0)) == Decimal("0.0000003703703670370370367")


@pytest.mark.parametrize("wrong", ["-1", "NaN", "Infinity", "dear"])
def test_a_rate_is_a_price(wrong: str) -> None:
    with pytest.raises(ValidationError):
        Rates.model_validate({"input": wrong, "output": "1"})


def test_charge() -> None:
    answer = _answer("openai", "gpt-4o-mini", _TOLD)
    marked_up = _call(answer, pricing=Pricing(mark_up=Decimal("0.2")))
    assert (marked_up.cost(), marked_up.charge()) == (Decimal("0.00027"), Decimal("0.000324"))
    listed = _call(answer, pricing=Pricing(mark_up=Decimal("0.2"), price_list=_CONTRACT))
    assert (listed.cost(), listed.charge()) == (Decimal("0.00027"), Decimal("0.006"))
    both = _call(answer, pricing=Pricing(rates=_CONTRACT, mark_up=Decimal("0.5")))
    assert (both.cost(), both.charge()) == (Decimal("0.006"), Decimal("0.009"))
    plain = _call(answer)
    assert plain.charge() == plain.cost()


# ---------------------------------------------------------------------------------------------------- calls and nodes

_SPEAKERS = {
    Dialect.ANTHROPIC_MESSAGES: (_Provider.ANTHROPIC, "claude-sonnet-5-5"),
    Dialect.OPENAI_RESPONSES: (_Provider.OPEN_AI, "gpt-6-sol"),
    Dialect.OPENAI_CHAT: (_Provider.OPEN_AI, "gpt-4o-mini"),
    Dialect.GEMINI: (_Provider.GOOGLE_AI, "gemini-3.8-flash"),
}
_SPENT = Usage(input_tokens=4000, cache_read_tokens=1000, cache_write_tokens=0, output_tokens=300, reasoning_tokens=100)


@pytest.mark.parametrize("dialect", _SPEAKERS)
async def test_stream_and_plain_cost_the_same(dialect: Dialect) -> None:
    provider, model = _SPEAKERS[dialect]
    answer = Answer(text="Four.", reasoning="Two and two.", usage=_SPENT)
    async with ProviderServer([answer, answer]) as server:
        endpoint = AIModelEndpoint(api=server.api(provider, dialect=dialect), ai_model=AIModel(model_name=model))
        client = AIModelClient(endpoint)
        plain = await client.generate("2+2?")
        streamed = await client.generate("2+2?", config=AIModelCallConfig(streaming=True))
    assert plain.cost() == streamed.cost() == _answer(provider, model, _SPENT).cost()
    assert plain.cost() is not None


async def test_a_node_keeps_what_it_cost() -> None:
    pricing = Pricing(mark_up=Decimal("0.25"))
    async with ProviderServer([Answer(text="Fine.", usage=_TOLD)] * 2) as server, ConversationManager() as running:
        conversation = await running.create()
        api = server.api(_Provider.OPEN_AI, dialect=Dialect.OPENAI_CHAT)
        endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name="gpt-4o-mini"), pricing=pricing)
        asked = await running.ask(conversation, "How are you?", endpoint)
        async with running.turn(conversation, "And now?", endpoint) as turn:
            response = await turn.collect()
    assert (asked.cost, asked.charge) == (Decimal("0.00027"), Decimal("0.0003375"))
    assert (turn.node.cost, turn.node.charge) == (response.cost(), response.charge())
    stored = asked.model_dump_json()
    assert '"cost":"0.00027","charge":"0.0003375"' in stored
    assert ConversationNode.model_validate_json(stored).model_dump_json() == stored


@pytest.mark.parametrize("digits", ["0.00027", "1E-7", "0.10", "0E-12", "12345678901234567890.000001"])
def test_money_survives_json_byte_for_byte(digits: str) -> None:
    node = ConversationNode(user_query="?", cost=Decimal(digits))
    again = ConversationNode.model_validate_json(node.model_dump_json())
    assert (again.model_dump_json(), str(again.cost)) == (node.model_dump_json(), digits)


async def test_a_node_by_own_rates_asks_for_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    node = await _one_turn(Pricing(rates=_CONTRACT, mark_up=Decimal(1)))
    assert (node.cost, node.charge) == (Decimal("0.006"), Decimal("0.012"))


async def test_a_node_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn is never lost to its price."""
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    unpriced = await _one_turn(Pricing())
    assert (unpriced.status, unpriced.cost, unpriced.charge) == ("complete", None, None)
    listed = await _one_turn(Pricing(price_list=_CONTRACT))
    assert (listed.cost, listed.charge) == (None, Decimal("0.006"))


async def test_prices_are_loaded_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other streams go on while they load: the loop runs a task that the loading waits for."""
    loop_ran = anyio.Event()
    ready: list[bool] = []

    def load() -> None:
        anyio.from_thread.run(loop_ran.wait)
        ready.append(True)

    monkeypatch.setattr(prices, "load", load)
    monkeypatch.setattr(prices, "loaded", lambda: bool(ready))
    nodes: list[ConversationNode] = []

    async def turn() -> None:
        nodes.append(await _one_turn(Pricing()))

    async def other_stream() -> None:
        loop_ran.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn)
        tasks.start_soon(other_stream)
    assert [node.cost for node in nodes] == [Decimal("0.00027")]


async def test_prices_that_never_load_cost_a_turn_nothing_but_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    ended: list[bool] = []

    def load() -> None:
        ended.append(released.wait(60))

    monkeypatch.setattr("dhenara_async.turns.keeping.PRICES_SECONDS", 0.01)
    monkeypatch.setattr(prices, "load", load)
    monkeypatch.setattr(prices, "loaded", lambda: False)
    try:
        node = await _one_turn(Pricing())
        assert (node.status, node.cost, ended) == ("complete", None, [])
    finally:
        released.set()


async def _one_turn(pricing: Pricing) -> ConversationNode:
    async with ProviderServer([Answer(text="Fine.", usage=_TOLD)]) as server, ConversationManager() as running:
        conversation = await running.create()
        api = server.api(_Provider.OPEN_AI, dialect=Dialect.OPENAI_CHAT)
        endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name="gpt-4o-mini"), pricing=pricing)
        return await running.ask(conversation, "How are you?", endpoint)


async def test_an_interrupted_node_costs_what_is_known() -> None:
    """Anthropic tells the prompt's tokens first, so they are known even of an answer that was cut."""
    start = (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","model":"claude-haiku-4-5",'
        b'"usage":{"input_tokens":1000,"output_tokens":1}}}\n\n'
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
        b'"content_block":{"type":"text","text":"hi"}}\n\n'
    )
    transport = ReplayTransport(start, headers={"content-type": "text/event-stream"})
    api = AIModelAPI(provider=_Provider.ANTHROPIC, api_key="a key of no use")
    endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name="claude-haiku-4-5"))
    running = ConversationManager(transport=transport)
    conversation = await running.create()
    with pytest.raises(ProtocolError):
        await running.ask(conversation, "hi", endpoint, config=AIModelCallConfig(streaming=True))
    (node,) = conversation.path()
    assert (node.status, node.usage.source, node.cost) == ("interrupted", "estimated", Decimal("0.001005"))


# ---------------------------------------------------------------------------------------------------- recordings


def _sampled() -> list[str]:
    """Recorded answers that counted something beside input and output, some of each API."""
    wanted = {"cached_tokens", "cache_write", "reasoning_tokens", "web_search", "audio_input"}
    taken: dict[tuple[object, ...], list[str]] = {}
    for row in recordings.index():
        if cast(int, row["status"]) < 300 and row["kind"] == "message":
            features = wanted.intersection(cast(list[str], row["features"]))
            for feature in features:
                taken.setdefault((row["api"], row["stream"], feature), []).append(str(row["id"]))
    return sorted({name for names in taken.values() for name in names[:4]})


def _reasoning_apart(recording: recordings.Recording, usage: Usage) -> bool:
    """A gateway that counts Gemini's thinking beside the answer, so that its numbers contradict each other."""
    return recording.provider == "vercel" and (usage.reasoning_tokens or 0) > (usage.output_tokens or 0)


@pytest.mark.skipif(not recordings.FOUND, reason=recordings.MISSING)
@pytest.mark.parametrize("name", _sampled())
async def test_recorded_answers_have_a_price_or_none(name: str) -> None:
    """The usage of every provider means the same: no count is larger than the one it is part of."""
    recording = recordings.load(name)
    transport = ReplayTransport(recording.body, status=recording.status, headers=recording.headers)
    client = AIModelClient(recording.endpoint("http://host.test"), transport=transport)
    response = await client.generate("hi", config=AIModelCallConfig(streaming=recording.stream))
    usage = response.chat_response.usage
    told = usage.input_tokens is not None and usage.output_tokens is not None
    assert (response.chat_response.cost(_CONTRACT) is not None) == (told and not _reasoning_apart(recording, usage))
    cost = response.cost()
    assert cost is None or cost > 0
