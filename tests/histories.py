"""Histories for hops: what fourteen sources have said, as conversation nodes, and what each must not tell others.

Where a source's traffic was recorded, its answers are the recorded ones, decoded by the driver of their dialect; every
other kind of part is made by hand in the shape that the source sends, so that each source has every kind.
"""

import base64
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from pydantic import JsonValue

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelEndpoint,
    ChatResponse,
    ConversationNode,
    Dialect,
    FinishReason,
    Message,
)
from dhenara_async.calls.accumulator import Accumulator
from dhenara_async.errors import DhenaraError
from dhenara_async.framing.sse import SSEFramer
from dhenara_async.hosts.registry import driver_for, expected_origin
from dhenara_async.messages.messages import (
    Citation,
    FilePart,
    HostedToolPart,
    JsonPart,
    Origin,
    Part,
    ProviderState,
    ReasoningPart,
    RefusalPart,
    TextPart,
    TokenLogprob,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.request import ChatRequest
from dhenara_async.response import Choice
from tests import recordings

_Provider = AIModelAPIProviderEnum
_Wire = Literal["anthropic", "responses", "gemini", "chat"]


@dataclass(frozen=True, slots=True)
class Speaker:
    """A model at a host, spoken with in one dialect.

    Attributes:
        provider: Whose host.
        dialect: Its wire.
        model: An id such as it serves.
        recorded: Where its recordings are: API and provider, in the index's words. Hosts that nobody recorded have
            those of hosts that answer in the same fields.
    """

    provider: AIModelAPIProviderEnum
    dialect: Dialect
    model: str
    recorded: tuple[tuple[str, str], ...] = ()

    @property
    def endpoint(self) -> AIModelEndpoint:
        base_url = "https://host.test/v1" if self.provider is _Provider.OPENAI_COMPATIBLE else None
        api = AIModelAPI(provider=self.provider, dialect=self.dialect, base_url=base_url, api_key="key")
        return AIModelEndpoint(api=api, ai_model=AIModel(model_name=self.model))

    @property
    def origin(self) -> Origin:
        return expected_origin(self.endpoint)

    @property
    def wire(self) -> _Wire:
        return _WIRES[self.dialect]


_WIRES: Mapping[Dialect, _Wire] = {
    Dialect.ANTHROPIC_MESSAGES: "anthropic",
    Dialect.OPENAI_RESPONSES: "responses",
    Dialect.GEMINI: "gemini",
    Dialect.OPENAI_CHAT: "chat",
}


def _chat(provider: AIModelAPIProviderEnum, model: str, *recorded: str) -> Speaker:
    return Speaker(provider, Dialect.OPENAI_CHAT, model, tuple(("openai_chat", name) for name in recorded))


_ANTHROPIC = (("anthropic_messages", "anthropic"), ("anthropic_messages", "vertex"))
_GOOGLE = (("gemini_generate", "google"), ("gemini_generate", "vertex"))

SOURCES: Mapping[str, Speaker] = {
    "anthropic": Speaker(_Provider.ANTHROPIC, Dialect.ANTHROPIC_MESSAGES, "claude-sonnet-5-5", _ANTHROPIC),
    "responses": Speaker(_Provider.OPEN_AI, Dialect.OPENAI_RESPONSES, "gpt-6.2-sol", (("openai_responses", "openai"),)),
    "gemini": Speaker(_Provider.GOOGLE_AI, Dialect.GEMINI, "gemini-3.8-flash", _GOOGLE),
    "chat": _chat(_Provider.OPEN_AI, "gpt-5", "openai", "azure"),
    "deepseek": _chat(_Provider.DEEPSEEK, "deepseek-v4-pro", "deepseek", "zai"),
    "groq": _chat(_Provider.GROQ, "openai/gpt-oss-120b", "groq"),
    "mistral": Speaker(_Provider.MISTRAL, Dialect.OPENAI_CHAT, "mistral-large-4", (("mistral_chat", "mistral"),)),
    "xai": _chat(_Provider.XAI, "grok-4.7", "xai"),
    "openrouter": _chat(_Provider.OPENROUTER, "anthropic/claude-sonnet-5.5", "openrouter", "vercel"),
    "together": _chat(_Provider.TOGETHER, "zai-org/GLM-5", "together", "crusoe"),
    "fireworks": _chat(_Provider.FIREWORKS, "accounts/fireworks/models/kimi-k3", "avian", "huggingface"),
    "cerebras": _chat(_Provider.CEREBRAS, "gpt-oss-120b", "cerebras"),
    "ollama": _chat(_Provider.OLLAMA, "qwen3:8b", "ollama", "local"),
    "vllm": _chat(_Provider.VLLM, "Qwen/Qwen3-8B", "local"),
}
"""Who has said something before."""

TARGETS: Mapping[str, Speaker] = {
    **SOURCES,
    "claude-haiku-4-5": Speaker(_Provider.ANTHROPIC, Dialect.ANTHROPIC_MESSAGES, "claude-haiku-4-5"),
    "claude-fable-5-1": Speaker(_Provider.ANTHROPIC, Dialect.ANTHROPIC_MESSAGES, "claude-fable-5-1"),
    "gemini-2.5": Speaker(_Provider.GOOGLE_AI, Dialect.GEMINI, "gemini-2.5-flash"),
    "lm_studio": _chat(_Provider.LM_STUDIO, "qwen3"),
    "llama_cpp": _chat(_Provider.LLAMA_CPP, "gemma-4"),
    "compatible": _chat(_Provider.OPENAI_COMPATIBLE, "anything"),
}
"""Who is asked next: every source, older models of their makers, and hosts that are only ever hopped to."""


@dataclass(frozen=True, slots=True)
class History:
    """Something to go on with.

    Attributes:
        nodes: The turns so far.
        asked: What is asked behind them; it can end with an answer that is to be gone on with.
    """

    nodes: tuple[ConversationNode, ...]
    asked: tuple[Message, ...]

    def messages(self) -> Iterator[Message]:
        for node in self.nodes:
            yield from node.as_messages()
        yield from self.asked

    def parts(self) -> Iterator[Part]:
        for message in self.messages():
            yield from message.parts


@cache
def histories(source: str) -> Mapping[str, History]:
    """The histories of a source, by name; ``recorded`` only where there are recordings."""
    speaker = SOURCES[source]
    made = {
        "every kind": _every_kind(speaker),
        "strange ids": _strange_ids(speaker),
        "torn": _torn(speaker),
        "open loop": _open_loop(speaker),
        "to be continued": _to_be_continued(speaker),
    }
    recorded = _recorded(speaker)
    return made if recorded is None else {"recorded": recorded, **made}


# ---------------------------------------------------------------------------------------------------- putting together


@dataclass(slots=True)
class _Writer:
    """Puts nodes one behind the other."""

    speaker: Speaker
    nodes: list[ConversationNode]

    def turn(
        self,
        *said: Part,
        query: str = "Go on.",
        files: Sequence[FilePart] = (),
        results: Sequence[ToolResultPart] = (),
        status: Literal["complete", "interrupted", "failed"] = "complete",
    ) -> None:
        origin = self.speaker.origin
        parts = tuple(part.model_copy(update={"origin": origin}) for part in said)
        choice = Choice(parts=parts, finish_reason=FinishReason.STOP)
        self.nodes.append(
            ConversationNode(
                id=f"node-{len(self.nodes)}",
                parent_id=self.nodes[-1].id if self.nodes else None,
                user_query=query,
                attached_files=files,
                tool_results=results,
                response=ChatResponse(choices=(choice,), model=origin.model, provider=origin.provider)
                if parts
                else None,
                timestamp="2026-11-22T12:00:00+00:00",
                origin=origin,
                status=status,
            )
        )


# ---------------------------------------------------------------------------------------------------- recorded answers

_MOST_RECORDED = 48
_LARGEST_BYTES = 120_000


def decoded(recording: recordings.Recording, speaker: Speaker) -> tuple[ChatResponse, bool]:
    """A recorded answer as if ``speaker`` had given it, and whether it is whole."""
    streamed = recording.framing == "sse"
    request = ChatRequest.of([Message.user("Go on.")], instructions=(), config=AIModelCallConfig(), stream=streamed)
    decoder = driver_for(speaker.endpoint).decoder(request, speaker.origin)
    accumulator = Accumulator(provider=speaker.origin.provider, model=speaker.model)
    framer = SSEFramer()
    frames = [*framer.feed(recording.body), *framer.finish()] if streamed else [recording.body]
    try:
        for frame in frames:
            accumulator.feed(decoder.feed(frame))
        accumulator.feed(decoder.finish())
    except DhenaraError:
        return accumulator.partial(), False
    return accumulator.response(), True


def _recorded(speaker: Speaker) -> History | None:
    """The first recorded answer of every shape, with results for its calls: of many kinds, and some of none."""
    shapes: set[object] = set()
    writer = _Writer(speaker, [])
    open_calls: list[ToolCallPart] = []
    for row in recordings.index():
        if (row["api"], row["provider"]) not in speaker.recorded or row["kind"] != "message":
            continue
        recording = recordings.load(str(row["id"]))
        if len(recording.body) > _LARGEST_BYTES:
            continue
        response, whole = decoded(recording, speaker)
        parts = response.choices[0].parts
        shape = whole, tuple((part.type, getattr(part, "name", ""), *(part.provider_state or ())) for part in parts)
        if not parts or shape in shapes:
            continue
        shapes.add(shape)
        at = len(writer.nodes)
        results = [_result(call, at + number) for number, call in enumerate(open_calls)]
        status = "complete" if whole else "interrupted"
        writer.turn(
            *parts,
            query="" if results and at % 2 else f"Question {at}?",
            results=[result for result in results if result is not None],
            status=status,
        )
        open_calls = [part for part in parts if isinstance(part, ToolCallPart)]
        if len(writer.nodes) == _MOST_RECORDED:
            break
    if not writer.nodes:
        return None
    results = [ToolResultPart.of(call, "22 degrees") for call in open_calls]
    return History(tuple(writer.nodes), (Message.user(*results, "And now?"),))


def _result(call: ToolCallPart, number: int) -> ToolResultPart | None:
    match number % 6:
        case 0:
            return ToolResultPart.of(call, {"degrees": 22})
        case 1:
            return ToolResultPart.of(call, "no such place", is_error=True)
        case 2:
            return ToolResultPart.of(call, "A chart:", PNG)
        case 3:
            return None
        case 4:
            return ToolResultPart.of(call)
        case _:
            return ToolResultPart.of(call, "22 degrees")


# ---------------------------------------------------------------------------------------------------- parts by hand

PNG = FilePart(media_type="image/png", data=b"\x89PNG\r\n\x1a\npixels", filename="chart.png")
PDF = FilePart(media_type="application/pdf", data=b"%PDF-1.7 words", filename="paper.pdf")
NOTES = FilePart(media_type="text/plain", data="Notes: é \U0001f600".encode(), filename="notes.txt")
_WAV = FilePart(media_type="audio/wav", data=b"RIFF\x24\0\0\0WAVEfmt sound")
_MP4 = FilePart(media_type="video/mp4", data=b"\0\0\0\x18ftypmp42film")
_DOCX = FilePart(
    media_type="application/vnd.openxmlformats-officedocument.wordprocessingml.document", data=b"PK\x03\x04 words"
)
_FILES = (
    PNG,
    FilePart.from_url("https://files.test/chart.png"),
    FilePart.from_url("https://files.test/chart"),
    PDF,
    FilePart.from_url("https://files.test/paper.pdf"),
    NOTES,
    _WAV,
    _MP4,
    FilePart.from_url("https://files.test/film.mp4"),
    _DOCX,
)


def seal(speaker: Speaker, what: str) -> str:
    """Opaque state that can be told when it turns up where it must not."""
    return base64.b64encode(f"sealed by {speaker.provider}/{speaker.model} for its {what}".encode()).decode()


def _state(speaker: Speaker, what: str, text: str = "") -> ProviderState | None:
    """The native side of a part by hand, as the source's driver keeps it."""
    sealed = seal(speaker, what)
    name = what.replace(" ", "")
    match speaker.wire, what.split()[0]:
        case "anthropic", "thought":
            return {"type": "thinking", "signature": sealed}
        case "anthropic", "hidden":
            return {"type": "redacted_thinking", "data": sealed}
        case "anthropic", "cited":
            found: JsonValue = {
                "type": "web_search_result_location",
                "url": "https://news.test/rain",
                "title": "Rain",
                "cited_text": "It rains.",
                "encrypted_index": sealed,
            }
            return {"type": "text", "citations": [found]}
        case "responses", "thought" | "hidden":
            summary: list[JsonValue] = [{"type": "summary_text", "text": text}] if text else []
            return {"id": f"rs_{name}", "summary": summary, "encrypted_content": sealed}
        case "responses", "bare":
            return {"id": f"rs_{name}", "summary": [{"type": "summary_text", "text": text}]}
        case "responses", "cited":
            note: JsonValue = {
                "type": "url_citation",
                "url": "https://news.test/rain",
                "title": "Rain",
                "start_index": 0,
                "end_index": 8,
            }
            return {"id": f"msg_{name}", "annotations": [note]}
        case "responses", "refusal" | "text":
            return {"id": f"msg_{name}"}
        case "responses", "call":
            return {"id": f"fc_{name}"}
        case "responses", "picture":
            return {"id": f"ig_{name}", "type": "image_generation_call", "status": "completed"}
        case "gemini", "thought" | "hidden" | "picture" | "call":
            return {"thoughtSignature": sealed}
        case "gemini", "cited":
            return {"groundingMetadata": {"webSearchQueries": ["rain"]}}
        case _ if speaker.provider is _Provider.MISTRAL and what.startswith("thought"):
            return {"signature": sealed}
        case _ if speaker.provider is _Provider.OPENROUTER and what.startswith(("thought", "hidden")):
            detail: JsonValue = (
                {"type": "reasoning.text", "text": text, "signature": sealed, "format": "anthropic-claude-v1"}
                if text
                else {"type": "reasoning.encrypted", "data": sealed, "format": "openai-responses-v1"}
            )
            return {"reasoning_details": [detail]}
        case _ if speaker.provider is _Provider.OPENROUTER and what.startswith("call"):
            return {"extra_content": {"google": {"thought_signature": sealed}}}
        case _:
            return None


def thought(speaker: Speaker, number: int) -> ReasoningPart:
    """Thinking that is shown, sealed where the source seals it."""
    text = f"Secret thought {number} of {speaker.provider}."
    return ReasoningPart(text=text, provider_state=_state(speaker, f"thought {number}", text))


def _call(speaker: Speaker, number: int, arguments: str = '{"city": "Paris"}') -> ToolCallPart:
    call_id = f"{ {'anthropic': 'toolu_', 'gemini': ''}.get(speaker.wire, 'call_') }{number:024d}"
    if speaker.provider is _Provider.MISTRAL:
        call_id = f"{number:09d}"
    # of parallel calls Gemini signs the first, which here are those with even numbers
    state = _state(speaker, f"call {number}") if speaker.wire != "gemini" or number % 2 == 0 else None
    return ToolCallPart(call_id=call_id, name="weather", arguments=arguments, provider_state=state)


def _hosted(speaker: Speaker) -> tuple[Part, ...]:
    """A search and what it found, then one that nothing is known of, then a report."""
    sealed = seal(speaker, "search")
    match speaker.wire:
        case "anthropic":
            search: ProviderState = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search"}
            search["input"] = {"query": "rain"}
            found: JsonValue = {
                "type": "web_search_result",
                "url": "https://news.test/rain",
                "title": "Rain",
                "encrypted_content": sealed,
                "page_age": None,
            }
            kind = "web_search_tool_result"
            result: ProviderState = {"type": kind, "tool_use_id": "srvtoolu_1", "content": [found]}
            again: ProviderState = {**search, "id": "srvtoolu_2", "input": {"query": "snow"}}
            return (
                HostedToolPart(
                    name="server_tool_use",
                    tool="web_search",
                    call_id="srvtoolu_1",
                    input={"query": "rain"},
                    provider_state=search,
                ),
                HostedToolPart(
                    name=kind, tool="web_search", call_id="srvtoolu_1", output=[found], provider_state=result
                ),
                HostedToolPart(name="compaction", provider_state={"type": "compaction", "encrypted_content": sealed}),
                # one that nothing came of, because the turn was paused
                HostedToolPart(
                    name="server_tool_use",
                    tool="web_search",
                    call_id="srvtoolu_2",
                    input={"query": "snow"},
                    provider_state=again,
                ),
                _report(sealed),
            )
        case "responses":
            action: JsonValue = {"type": "search", "query": "rain"}
            call: ProviderState = {"id": "ws_search", "type": "web_search_call", "status": "completed"}
            call["action"] = action
            compaction: ProviderState = {"id": "cmp_1", "type": "compaction", "encrypted_content": sealed}
            return (
                HostedToolPart(
                    name="web_search_call", tool="web_search", call_id="ws_search", input=action, provider_state=call
                ),
                HostedToolPart(name="compaction", provider_state=compaction),
                _report(sealed),
            )
        case "gemini":
            code: JsonValue = {"language": "PYTHON", "code": "print(1)"}
            gave: JsonValue = {"outcome": "OUTCOME_OK", "output": "1\n"}
            nameless: ProviderState = {"thoughtSignature": sealed, "toolCall": {"toolType": "GOOGLE_SEARCH_WEB"}}
            return (
                HostedToolPart(
                    name="executableCode", tool="code_execution", input=code, provider_state={"executableCode": code}
                ),
                HostedToolPart(
                    name="codeExecutionResult",
                    tool="code_execution",
                    output=gave,
                    provider_state={"codeExecutionResult": gave},
                ),
                HostedToolPart(name="toolCall", provider_state=nameless),
                _report(sealed),
            )
        case "chat":
            executed: ProviderState = {"executed_tools": [{"type": "search", "encrypted_content": sealed}]}
            return (
                HostedToolPart(
                    name="executed_tools",
                    tool="web_search",
                    input={"query": "rain"},
                    output={"results": ["It rains."]},
                    provider_state=executed,
                ),
                HostedToolPart(name="executed_tools", provider_state=executed),
                _report(sealed),
            )


def _report(sealed: str) -> HostedToolPart:
    return HostedToolPart(name="input_transformations", report=True, provider_state={"data": sealed})


def _every_kind(speaker: Speaker) -> History:
    """Each kind of part that can be said or attached, in answers that are whole."""
    writer = _Writer(speaker, [])
    cited = TextPart(
        text="It rains in Paris.",
        citations=[Citation(url="https://news.test/rain", title="Rain", cited_text="It rains.", start=0, end=8)],
        provider_state=_state(speaker, "cited text"),
    )
    uncertain = TextPart(
        text=" Probably.",
        provider_state=_state(speaker, "text 1"),
        logprobs=[TokenLogprob(token=" Probably", logprob=-0.5, top=[(" Surely", -1.0)])],
    )
    stored = FilePart(media_type="application/pdf", file_id=f"file-{speaker.provider}-1", filename="stored.pdf")
    picture = stored.model_copy(update={"media_type": "image/png", "file_id": f"file-{speaker.provider}-2"})
    writer.turn(thought(speaker, 0), cited, uncertain, query="How is the weather?", files=_FILES)
    writer.turn(TextPart(text="Seen."), query="Look.", files=[stored, picture])
    hidden = ReasoningPart(provider_state=_state(speaker, "hidden thought"))
    writer.turn(hidden, TextPart(text='{"rain": true}'), query="As JSON, please.")
    calls = [_call(speaker, 0), _call(speaker, 1)]
    writer.turn(thought(speaker, 1), TextPart(text="Let me look."), *calls, query="")
    results = [
        ToolResultPart.of(calls[1], {"degrees": 22}, "and sunny"),
        ToolResultPart.of(calls[0], "no such place", is_error=True),
    ]
    more = [_call(speaker, number) for number in range(2, 10)]
    writer.turn(thought(speaker, 2), *more, query="", results=results)
    of_files = FilePart.from_url("https://files.test/plot.png")
    results = [
        ToolResultPart.of(more[0], "A chart:", PNG),
        ToolResultPart.of(more[1], PNG),
        ToolResultPart.of(more[2], PDF, NOTES),
        ToolResultPart.of(more[3], JsonPart(value=[1, 2.5, None, {"é": "\U0001f600"}])),
        ToolResultPart.of(more[4]),
        ToolResultPart.of(more[5], " \n"),
        ToolResultPart.of(more[6], is_error=True),
        ToolResultPart.of(more[7], of_files, _WAV, stored, _DOCX),
    ]
    writer.turn(TextPart(text="All is well."), query="What about it?", results=results)
    writer.turn(*_hosted(speaker), TextPart(text="Found."), query="Search.")
    writer.turn(thought(speaker, 3), query="Only think.")
    refusal = RefusalPart(text="I will not.", provider_state=_state(speaker, "refusal"))
    writer.turn(refusal, query="Do something bad.")
    drawn = PNG.model_copy(update={"provider_state": _state(speaker, "picture 1"), "filename": None})
    writer.turn(TextPart(text="Here:"), drawn, _WAV, _DOCX, query="Draw and speak.")
    writer.turn(
        ReasoningPart(text="A thought without any seal.", provider_state=_state(speaker, "bare", "A thought")),
        TextPart(text="Good."),
        TextPart(text=" \n"),
        TextPart(text=""),
        query=" ",
    )
    asked = (
        Message.system("From now on be brief."),
        Message.user(PNG, NOTES, "What is on it?", " "),
    )
    return History(tuple(writer.nodes), asked)


_IDS = (
    "",
    "",
    "call_1",
    "call_1",
    "toolu_01AbC",
    "srvtoolu_01AbC",
    "call_1|fc_" + "a" * 73,
    "functions.weather:0",
    "fc_1",
    "é \U0001f600",
    "abcDEF123",
    "x" * 64,
    "x" * 65,
)
_ARGUMENTS = ("", "{}", '{"a": [1, {"b": null}]}', '{"a": 1', "[1]", '"text"', '{"\U0001f600": "\\u2028"}')
_NAMES = ("weather", "get.weather", "9lives", "-dash", "wetter_für_köln", "n" * 80, "")


def _strange_ids(speaker: Speaker) -> History:
    """Ids, names and arguments that one target or another does not take, each in a step of its own and all at once."""
    writer = _Writer(speaker, [])
    calls = [
        ToolCallPart(call_id=call_id, name=_NAMES[at % 7], arguments=_ARGUMENTS[at % 7])
        for at, call_id in enumerate(_IDS)
    ]
    before: list[ToolResultPart] = []
    for call in calls:
        writer.turn(call, query="", results=before)
        before = [ToolResultPart.of(call, f"result of {call.call_id or 'none'}")]
    writer.turn(*calls, query="All of them.", results=before)
    # in another order; those without an id can only be told by their names
    results = [ToolResultPart.of(call, "again") for call in reversed(calls)]
    return History(tuple(writer.nodes), (Message.user(*results, "So?"),))


def _torn(speaker: Speaker) -> History:
    """Answers that broke off, results that are missing, late, double or of nobody, turns of which nothing came."""
    writer = _Writer(speaker, [])
    whole, broken = _call(speaker, 0), _call(speaker, 1, '{"city": "Par').model_copy(update={"status": "interrupted"})
    writer.turn(thought(speaker, 0), TextPart(text="Let me "), query="Begin.", status="interrupted")
    writer.turn(query="Nothing came of this.", status="failed")
    cut = thought(speaker, 1).model_copy(update={"status": "interrupted"})
    writer.turn(cut, query="And of this a thought.", status="interrupted")
    writer.turn(thought(speaker, 2), whole, broken, query="Again.", status="interrupted")
    stray = ToolResultPart(call_id="of_nobody", name="lost", content=[TextPart(text="found it"), PNG])
    alone = _call(speaker, 2)
    writer.turn(thought(speaker, 3), alone, query="Never mind.", results=[stray])
    late = ToolResultPart.of(whole, "too late")
    twice = [ToolResultPart.of(alone, "once"), ToolResultPart.of(alone, "twice")]
    writer.turn(TextPart(text="Well."), query="", results=[late, *twice])
    writer.turn(TextPart(text=" "), query="Say nothing.")
    writer.turn(broken, query="Begin to call.", status="interrupted")
    cited = TextPart(text="Half a sent", status="interrupted", provider_state=_state(speaker, "text 2"))
    writer.turn(*_hosted(speaker)[:1], cited, query="Search.", status="interrupted")
    unanswered = [_call(speaker, 4), _call(speaker, 5)]
    writer.turn(*unanswered, query="Call.")
    return History(tuple(writer.nodes), (Message.user("What now?"),))


def _open_loop(speaker: Speaker) -> History:
    """A tool loop that the next model has to go on with; one result comes late, behind what the user said meanwhile."""
    writer = _Writer(speaker, [])
    first = _call(speaker, 0)
    writer.turn(thought(speaker, 0), first, query="How is the weather in Paris and Rome?")
    calls = [_call(speaker, 2), _call(speaker, 3)]
    writer.turn(thought(speaker, 1), *calls, query="", results=[ToolResultPart.of(first, "22 degrees")])
    asked = (
        Message.user(ToolResultPart.of(calls[1], "30 degrees")),
        Message.user("Hurry."),
        Message.user(ToolResultPart.of(calls[0], PNG)),
    )
    return History(tuple(writer.nodes), asked)


def _to_be_continued(speaker: Speaker) -> History:
    """Messages that end with what the assistant said."""
    writer = _Writer(speaker, [])
    writer.turn(thought(speaker, 0), TextPart(text="Once upon a time "), query="Tell me a story.")
    return History((), tuple(message for node in writer.nodes for message in node.as_messages()))


# ---------------------------------------------------------------------------------------------------- what is in them

_SEALS = frozenset(
    {"signature", "thoughtSignature", "thought_signature", "encrypted_content", "encrypted_index", "data"}
)
_OWN_IDS = ("rs_", "msg_", "fc_", "ws_", "ci_", "ig_", "cmp_", "srvtoolu_", "container_")
_SHORTEST_THOUGHT = 12


def sealed(part: Part) -> Iterator[str]:
    """The opaque strings of a part: seals, and ids that only its provider knows."""
    yield from _sealed(part.provider_state)


def _sealed(value: JsonValue) -> Iterator[str]:
    match value:
        case dict():
            for key, item in value.items():
                is_id = key == "id" and isinstance(item, str) and item.startswith(_OWN_IDS)
                if isinstance(item, str) and item and (key in _SEALS or is_id):
                    yield item
                else:
                    yield from _sealed(item)
        case list():
            for item in value:
                yield from _sealed(item)
        case _:
            pass


def foreign(history: History, target: Origin) -> frozenset[str]:
    """Everything that ``target`` must not be shown: what others sealed, and what they only thought."""
    found: set[str] = set()
    shown = "\n".join(_shown(part) for part in history.parts())
    for part in history.parts():
        if part.origin is None or part.origin.same_model(target):
            continue
        found.update(sealed(part))
        if isinstance(part, ReasoningPart) and len(part.text) >= _SHORTEST_THOUGHT:
            found.add(part.text)
    return frozenset(text for text in found if text not in shown)


def _shown(part: Part) -> str:
    """What of a part anybody may see."""
    match part:
        case ReasoningPart() | HostedToolPart():
            return ""
        case ToolCallPart():
            return f"{part.call_id} {part.name} {part.arguments}"
        case ToolResultPart():
            return f"{part.call_id} {part.get_text()}"
        case _:
            return part.get_text()


def own_seals(history: History, target: Origin) -> frozenset[str]:
    """What ``target`` itself sealed, anywhere in the history."""
    own = (part for part in history.parts() if part.origin is not None and part.origin.same_model(target))
    return frozenset(text for part in own for text in sealed(part))


# ---------------------------------------------------------------------------------------------------- which kinds

CELLS = frozenset(
    {
        *("system inside", "user text", "blank user text", "image bytes", "image url", "pdf bytes", "pdf url"),
        *("text document", "audio", "video bytes", "video url", "other file", "file id"),
        *("assistant text", "blank assistant text", "structured output", "citations", "logprobs", "refusal"),
        *("reasoning", "hidden reasoning", "assistant image", "assistant audio", "assistant file"),
        *("call", "parallel calls", "call without arguments", "call with broken arguments", "illegal name"),
        *("no call id", "repeated call id", "long call id", "hosted tool", "hosted report", "unknown hosted tool"),
        *("result text", "result json", "result image", "result document", "result error", "empty result"),
        *("blank result", "missing result", "stray result", "interrupted part", "interrupted turn", "failed turn"),
    }
)
"""The kinds of content that the rules for replaying tell apart, for every source."""


def cells(history: History) -> Counter[str]:
    """How often each kind of content occurs in a history."""
    found: Counter[str] = Counter(_turn_cells(history))
    call_ids: set[str] = set()
    for message in history.messages():
        found["system inside"] += message.role == "system"
        calls = [part for part in message.parts if isinstance(part, ToolCallPart)]
        found["parallel calls"] += len(calls) > 1
        for call in calls:
            found["repeated call id"] += bool(call.call_id) and call.call_id in call_ids
            call_ids.add(call.call_id)
        for part in message.parts:
            found.update(_part_cells(part, said=message.role == "assistant"))
            found["interrupted part"] += part.status == "interrupted"
    return +found


def _turn_cells(history: History) -> Iterator[str]:
    messages = list(history.messages())
    answers = {part.call_id for part in history.parts() if isinstance(part, ToolResultPart)}
    for message in messages:
        for part in message.parts:
            if isinstance(part, ToolCallPart) and part.call_id not in answers:
                yield "missing result"
    calls = {part.call_id for part in history.parts() if isinstance(part, ToolCallPart)}
    yield from ("stray result" for call_id in answers if call_id not in calls)
    for node in history.nodes:
        if node.status != "complete":
            yield f"{node.status} turn"


def _part_cells(part: Part, *, said: bool) -> Iterator[str]:
    who = "assistant" if said else "user"
    match part:
        case TextPart():
            yield f"{who} text" if part.text.strip() else f"blank {who} text"
            if said and part.text.startswith("{"):
                yield "structured output"
            if part.citations:
                yield "citations"
            if part.logprobs:
                yield "logprobs"
        case RefusalPart():
            yield "refusal"
        case ReasoningPart():
            yield "reasoning" if part.text else "hidden reasoning"
        case HostedToolPart():
            known = part.input is not None or part.output is not None
            yield "hosted report" if part.report else "hosted tool" if known else "unknown hosted tool"
        case FilePart():
            yield _file_cell(part, said=said)
        case ToolCallPart():
            yield from _call_cells(part)
        case ToolResultPart():
            yield from _result_cells(part)


def _file_cell(part: FilePart, *, said: bool) -> str:
    if said:
        return f"assistant {part.kind}" if part.kind in ("image", "audio") else "assistant file"
    if part.file_id is not None:
        return "file id"
    where = "url" if part.url is not None else "bytes"
    match part.kind:
        case "text":
            return "text document"
        case "audio":
            return "audio"
        case "other":
            return "other file"
        case kind:
            return f"{kind} {where}"


def _call_cells(part: ToolCallPart) -> Iterator[str]:
    yield "call"
    try:
        part.parsed()
    except ValueError:
        yield "call with broken arguments"
    if not part.arguments:
        yield "call without arguments"
    if not part.call_id:
        yield "no call id"
    if len(part.call_id) > 64:
        yield "long call id"
    if not part.name.replace("_", "").isalnum():
        yield "illegal name"


def _result_cells(part: ToolResultPart) -> Iterator[str]:
    if part.is_error:
        yield "result error"
    if not part.content:
        yield "empty result"
    elif not part.get_text().strip() and not any(isinstance(item, FilePart) for item in part.content):
        yield "blank result"
    for item in part.content:
        match item:
            case TextPart():
                yield "result text"
            case JsonPart():
                yield "result json"
            case FilePart():
                yield "result image" if item.kind == "image" else "result document"
