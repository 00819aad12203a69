"""What a model made comes home to it as it left, whoever has answered in between.

The property. A model A has answered, and was told the results of its calls and asked on; call that request *first*.
Others have answered since, any number of them, with thoughts and calls and seals of their own. When A is asked again,
its request begins with every turn of *first*, byte for byte: exactly as if A had answered those turns itself in plain
words. In these bytes is every seal that A set on its answer, verbatim, and storing the conversation as JSON in between
changes none of them.

It is tried on every recorded answer that thinks, calls, is sealed or has tools that the provider ran; on answers by
hand with every kind of part, for the kinds that nobody recorded; and in turns at the strict loopback server.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import cast

import orjson
import pytest

from dhenara_async import (
    AIModel,
    AIModelCallConfig,
    AIModelEndpoint,
    ChatResponse,
    ConversationManager,
    ConversationNode,
    ConversionPolicy,
    FinishReason,
    HostedToolPart,
    PromptFormatter,
    ReasoningPart,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.conversation import question
from dhenara_async.downloads.inlining import inlined, key_of, stand_in, to_download
from dhenara_async.hosts.registry import driver_for
from dhenara_async.messages.messages import Part
from dhenara_async.request import ChatRequest
from dhenara_async.response import Choice
from dhenara_async.testing import Answer, ProviderServer, ScriptedToolCall, SeenRequest
from tests import recordings
from tests.cases import cases, sample
from tests.histories import SOURCES, History, Speaker, decoded, histories, sealed, thought
from tests.raw_json import leaves, objects, turns

JSON = dict[str, object]

VISITS: Sequence[tuple[str, ...]] = (
    ("anthropic",),
    ("responses",),
    ("gemini",),
    ("deepseek",),
    ("mistral",),
    ("gemini", "responses"),
    ("openrouter", "anthropic"),
)
"""Who answers in between, one behind the other."""

# Hosts of Chat Completions to which earlier thoughts go back, and under which key; OpenRouter has one for bare words.
REASONING_FIELDS: Mapping[str, tuple[str, ...]] = {
    "deepseek": ("reasoning_content",),
    "fireworks": ("reasoning_content",),
    "groq": ("reasoning",),
    "cerebras": ("reasoning",),
    "openrouter": ("reasoning_details", "reasoning"),
    "mistral": ("thinking",),
}


# ---------------------------------------------------------------------------------------------------- at home


@dataclass(frozen=True, slots=True)
class Home:
    """What a model has answered, and what it is told and asked next.

    Attributes:
        name: Where it is from.
        speaker: Who answered.
        nodes: The turns.
        asked: The results of the last one's calls, and words.
        seals: What is sealed in it, by the judgement of somebody else than the driver.
    """

    name: str
    speaker: Speaker
    nodes: tuple[ConversationNode, ...]
    results: tuple[ToolResultPart, ...]
    seals: frozenset[str]


@cache
def _recorded(source: str) -> tuple[Home, ...]:
    """Every recorded answer of a source's that has something to bring home."""
    return tuple(
        home
        for row in recordings.index()
        if row["kind"] == "message"
        and source_of(str(row["api"]), str(row["provider"])) == source
        and (home := _home(str(row["id"]), SOURCES[source])) is not None
    )


def source_of(api: str, provider: str) -> str:
    """Who speaks like a provider; hosts that have no row of their own answer in OpenRouter's fields."""
    of_provider = next((name for name, speaker in SOURCES.items() if (api, provider) in speaker.recorded), None)
    others = {"openai_responses": "responses", "gemini_generate": "gemini", "anthropic_messages": "anthropic"}
    return of_provider or others.get(api, "openrouter")


def _home(recording_id: str, speaker: Speaker) -> Home | None:
    recording = recordings.load(recording_id)
    response, whole = decoded(recording, speaker)
    parts = response.choices[0].parts
    seals = frozenset(_sealed(recording)) if whole and recording_id not in _KNOWN else frozenset[str]()
    if not whole or not (
        seals or any(isinstance(part, ReasoningPart | ToolCallPart | HostedToolPart) for part in parts)
    ):
        return None
    node = ConversationNode(user_query="Begin.", response=response, origin=speaker.origin)
    return Home(recording_id, speaker, (node,), _results(parts), seals)


def _results(parts: Sequence[Part]) -> tuple[ToolResultPart, ...]:
    calls = (part for part in parts if isinstance(part, ToolCallPart))
    return tuple(ToolResultPart.of(call, f"result {at}") for at, call in enumerate(calls))


# ---------------------------------------------------------------------------------------------------- what is sealed

# Google's Chat Completions of 2025 put a signature on the message, which nobody there takes back any more.
_KNOWN = frozenset(
    f"openai_chat/pydantic-ai-models-test_openai-test_compatible_api_with_tool_calls_without_id-{at}" for at in range(2)
)
_SEALS = frozenset({"signature", "thoughtSignature", "thought_signature", "encrypted_content", "encrypted_index"})
# Of an item's states only the one that says that it is done is worth keeping.
_UNSETTLED = frozenset({"response.output_item.added", "response.completed", "response.incomplete"})


def _sealed(recording: recordings.Recording) -> Iterator[str]:
    """The seals in a recorded answer, read from its bytes."""
    documents = [cast(object, orjson.loads(data)) for data in _payloads(recording)]
    called = [found.get("id") for document in documents for found in _objects(document)]
    for document in documents:
        for found in _objects(document):
            # what a provider's tool gave goes back beside its call, which an answer before this one can have made
            if "tool_use_id" not in found or found["tool_use_id"] in called:
                yield from _seals_of(found)


def _payloads(recording: recordings.Recording) -> Iterator[bytes]:
    if recording.framing == "json":
        yield recording.body
        return
    for line in recording.body.splitlines():
        data = line.removeprefix(b"data:").strip()
        if line.startswith(b"data:") and data.startswith(b"{"):
            yield data


def _objects(value: object) -> Iterator[JSON]:
    """The objects of a document, but for those inside a result of a provider's tool, which is one with its seals."""
    if isinstance(value, dict):
        found = cast(JSON, value)
        if str(found.get("type")) in _UNSETTLED:
            return
        yield found
        if "tool_use_id" not in found:
            for item in found.values():
                yield from _objects(item)
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _objects(item)


def _seals_of(found: JSON) -> Iterator[str]:
    if "tool_use_id" in found:
        yield from (text for key, text in leaves(found) if key in _SEALS and isinstance(text, str) and text)
        return
    for key, text in found.items():
        redacted = key == "data" and found.get("type") in {"redacted_thinking", "reasoning.encrypted"}
        if (key in _SEALS or redacted) and isinstance(text, str) and text:
            yield text


# ---------------------------------------------------------------------------------------------------- visits


def _visit(guest: Speaker, results: Sequence[ToolResultPart], at: int, call_id: str) -> ConversationNode:
    """A turn that somebody else answers: it thinks, says something and calls, under an id that is A's already."""
    said = (
        thought(guest, at),
        TextPart(text=f"{guest.provider} has a look."),
        ToolCallPart(call_id=call_id, name="look", arguments='{"where": "there"}'),
        ToolCallPart(call_id=f"{call_id[:20]}_{at}", name="look", arguments="{}"),
    )
    return _answered(guest, said, results, at)


def _stay(host: Speaker, results: Sequence[ToolResultPart], at: int) -> ConversationNode:
    """The same turn, but A answers it in plain words."""
    return _answered(host, (TextPart(text=f"Plain answer {at}."),), results, at)


def _answered(speaker: Speaker, said: Sequence[Part], results: Sequence[ToolResultPart], at: int) -> ConversationNode:
    origin = speaker.origin
    parts = tuple(part.model_copy(update={"origin": origin}) for part in said)
    choice = Choice(parts=parts, finish_reason=FinishReason.STOP)
    response = ChatResponse(choices=(choice,), model=origin.model, provider=origin.provider)
    return ConversationNode(user_query=f"Question {at}?", tool_results=results, response=response, origin=origin)


def _away(home: Home, visits: Sequence[str]) -> tuple[list[ConversationNode], tuple[ToolResultPart, ...]]:
    """A's turns and those of the others, and the results for the last one's calls."""
    nodes, results = [*home.nodes], home.results
    taken = home.results[0].call_id if home.results else "call_1"
    for at, guest in enumerate(visits):
        node = _visit(SOURCES[guest], results, at, taken)
        assert node.response is not None
        nodes.append(node)
        results = _results(node.response.choices[0].parts)
    return nodes, results


def _stayed(home: Home, visits: Sequence[str]) -> list[ConversationNode]:
    """As many turns, all of them A's."""
    told = [home.results, *((),) * len(visits)]
    return [*home.nodes, *(_stay(home.speaker, told[at], at) for at in range(len(visits)))]


def _request(
    home: Home, nodes: Sequence[ConversationNode], words: str, results: Sequence[ToolResultPart] = ()
) -> bytes:
    """The body of A's request behind ``nodes``; files that it does not fetch have been fetched for it."""
    endpoint, policy = home.speaker.endpoint, ConversionPolicy(media="describe")
    asked = question(words, (), results)
    messages = PromptFormatter.format_conversation(nodes, endpoint, policy=policy, asked=asked).messages
    request = ChatRequest.of(messages, instructions=["Be exact."], config=AIModelCallConfig(), stream=True)
    links = {key_of(part): stand_in(part) for part in to_download(request.messages, endpoint)}
    request = ChatRequest(inlined(request.messages, links), request.instructions, request.config, stream=True)
    return driver_for(endpoint).encode(request, endpoint).body


def _stored(nodes: Sequence[ConversationNode]) -> list[ConversationNode]:
    return [ConversationNode.model_validate_json(node.model_dump_json()) for node in nodes]


def _check(home: Home, visits_tried: Iterable[Sequence[str]]) -> None:
    """Check the property for one home and each of some visits there."""
    first = turns(_request(home, home.nodes, "Question 0?", home.results))
    known = {text for item in objects(first) for _key, text in leaves(item)}
    assert home.seals <= known, home.name
    stays: dict[int, object] = {}
    for visits in visits_tried:
        where = home.name, visits
        nodes, results = _away(home, visits)
        body = _request(home, nodes, "Home again?", results)
        away = turns(body)
        assert away[: len(first)] == first, where
        assert len(away) > len(first), where
        if len(visits) not in stays:
            stayed = turns(_request(home, _stayed(home, visits), "Home again?"))
            assert stayed[: len(first)] == first, where
            stays[len(visits)] = stayed
        assert away != stays[len(visits)], where
        for at, guest in enumerate(visits):
            part = thought(SOURCES[guest], at)
            assert not [text for text in (part.text, *sealed(part)) if text.encode() in body], where
        assert _request(home, _stored(nodes), "Home again?", results) == body, where


# ---------------------------------------------------------------------------------------------------- the property


@pytest.mark.skipif(not recordings.FOUND, reason=recordings.MISSING)
@pytest.mark.parametrize("source", [source for source in SOURCES if source != "vllm"])  # nobody has recorded vLLM
def test_recorded_answers_come_home(source: str) -> None:
    """Each answer is tried with a third of the visits, each visit with a third of the answers; a soak tries all."""
    elsewhere = [visits for visits in VISITS if source not in visits]
    with cases() as case:
        for number, home in enumerate(_recorded(source)):
            with case(home.name):
                _check(home, sample(elsewhere, 3, number))


@pytest.mark.skipif(not recordings.FOUND, reason=recordings.MISSING)
def test_there_is_something_to_bring_home() -> None:
    """Every source has recorded answers of that kind, and every dialect that seals has sealed ones."""
    homes = {source: len(_recorded(source)) for source in SOURCES}
    seals = {source: sum(len(home.seals) for home in _recorded(source)) for source in SOURCES}
    assert min(homes[source] for source in (*REASONING_FIELDS, "anthropic", "responses", "gemini", "chat")) > 0
    assert sum(homes.values()) > 800
    assert min(seals[source] for source in ("anthropic", "responses", "gemini")) > 50
    assert seals["openrouter"] > 10


@pytest.mark.parametrize("source", SOURCES)
def test_every_kind_of_part_comes_home(source: str) -> None:
    """Hidden thinking, searches with their results, pictures, refusals: also where nobody recorded one."""
    speaker = SOURCES[source]
    with cases() as case:
        for name in ("every kind", "open loop", "torn", "strange ids"):
            history = histories(source)[name]
            last = history.nodes[-1].response
            assert last is not None
            seals = _thought_seals(history) if name == "every kind" else frozenset[str]()
            home = Home(name, speaker, history.nodes, _results(last.choices[0].parts), seals)
            with case(name):
                _check(home, [visits for visits in VISITS if source not in visits])


def _thought_seals(history: History) -> frozenset[str]:
    """The seals of what was thought, of parts by hand, where the thought leads to something; ids are none."""
    thoughts = [
        part for message in history.messages() for part in message.parts[:-1] if isinstance(part, ReasoningPart)
    ]
    return frozenset(text for part in thoughts for text in sealed(part) if not text.startswith("rs_"))


def test_seals_by_hand_are_of_every_kind() -> None:
    """Shown thinking, hidden thinking: with whoever seals it."""
    found = {source: len(_thought_seals(histories(source)["every kind"])) for source in SOURCES}
    assert {source for source, count in found.items() if count > 1} == {
        *("anthropic", "responses", "gemini", "openrouter", "mistral")
    }


# ------------------------------------------------------------------------------------- hosts of Chat Completions


@pytest.mark.skipif(not recordings.FOUND, reason=recordings.MISSING)
@pytest.mark.parametrize("source", REASONING_FIELDS)
def test_recorded_thoughts_come_home_in_the_field_of_the_host(source: str) -> None:
    """Their words, which most of these hosts do not seal, behind answers of others."""
    found = 0
    for home in _recorded(source):
        (response,) = [node.response for node in home.nodes]
        assert response is not None
        thoughts = [part.text for part in response.choices[0].parts if isinstance(part, ReasoningPart) and part.text]
        nodes, results = _away(home, ("anthropic", "responses"))
        answers = [turn for turn in objects(turns(_request(home, nodes, "Again?", results))) if _says(turn)]
        told = "".join(_under(answers[0], source))
        assert all(text in told for text in thoughts), home.name
        assert not any(text for answer in answers[1:] for text in _under(answer, source)), home.name
        found += len(thoughts)
    assert found


def _says(turn: JSON) -> bool:
    return turn.get("role") == "assistant"


def _under(turn: JSON, source: str) -> list[str]:
    """The words that a host is told an answer was thought with, in the answer or in a chunk of it."""
    fields = REASONING_FIELDS[source]
    chunks = cast("list[JSON]", turn["content"]) if isinstance(turn.get("content"), list) else []
    told = [item[field] for item in (turn, *chunks) for field in fields if field in item]
    found = (leaf for value in told for leaf in leaves(value))
    return [text for key, text in found if key in ("", "text", "summary") and isinstance(text, str)]


# ---------------------------------------------------------------------------------------------------- in real turns

_CALLS = (ScriptedToolCall("call_home1", "look", '{"where": "here"}'), ScriptedToolCall("call_home2", "look", "{}"))
_AT_HOME = Answer(text="Let me see.", reasoning="A thinks of home.", tool_calls=_CALLS)
_VISITING = Answer(text="I have a look.", reasoning="B thinks of it.", tool_calls=_CALLS[:1])


def _at(server: ProviderServer, speaker: Speaker) -> AIModelEndpoint:
    api = server.api(speaker.provider, dialect=speaker.dialect)
    return AIModelEndpoint(api=api, ai_model=AIModel(model_name=speaker.model))


async def _talk(order: Sequence[Speaker], answers: Sequence[Answer], config: AIModelCallConfig) -> list[SeenRequest]:
    """A conversation in that order, every call answered in the next turn; what the server saw."""
    async with ProviderServer(answers) as server, ConversationManager(config=config) as manager:
        conversation, results = await manager.create(), ()
        for at, speaker in enumerate(order):
            node = await manager.ask(conversation, f"Question {at}?", _at(server, speaker), tool_results=results)
            assert node.response is not None
            results = _results(node.response.choices[0].parts)
            conversation = await manager.open(conversation.id)
        assert [seen.error for seen in server.requests] == [None] * len(order)
        return server.requests


@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("guest", ["anthropic", "responses", "gemini", "deepseek"])
@pytest.mark.parametrize("source", SOURCES)
async def test_turns_come_home_at_the_strict_server(source: str, guest: str, streaming: bool) -> None:
    """A calls, B is told the results and calls as well, A is told those; the other conversation stays with A."""
    host, visitor = SOURCES[source], SOURCES[guest]
    if host is visitor:
        visitor = SOURCES["groq"]
    config = AIModelCallConfig(tools=[Tool(name="look")], streaming=streaming)
    away = await _talk([host, visitor, host], [_AT_HOME, _VISITING, Answer(text="Home.")], config)
    stayed = await _talk([host, host, host], [_AT_HOME, Answer(text="Plain."), Answer(text="Home.")], config)
    first, last = turns(stayed[1].body), turns(away[2].body)
    assert last[: len(first)] == first == turns(stayed[2].body)[: len(first)]
    assert len(last) > len(first)
    assert b"B thinks of it." not in away[2].body
    thinks = source in {*REASONING_FIELDS, "anthropic", "responses", "gemini"}
    assert any(b"A thinks of home." in turn for turn in first) is thinks
