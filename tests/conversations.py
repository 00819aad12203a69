"""Random conversations, as hypothesis strategies, and the targets they are sent to.

A conversation is made of a few drawn turns in a drawn order, so that sixty of them cost no more than a handful, shrink
well, and repeat ids by themselves. Everything opaque carries a mark of its own (``SEALED000007``), and so does every
piece of thinking (``musing000007``): who finds a mark in a request body knows what was let out.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Literal, TypeVar, cast
from urllib.parse import parse_qsl, urlsplit

import orjson
from hypothesis import strategies as st
from pydantic import JsonValue

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelEndpoint,
    ChatResponse,
    Citation,
    ConversationNode,
    Dialect,
    FilePart,
    FinishReason,
    HostedToolPart,
    Message,
    Origin,
    ReasoningPart,
    RefusalPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.downloads.inlining import inlined, key_of, stand_in, to_download
from dhenara_async.drivers.rules import Rules
from dhenara_async.hosts.registry import driver_for, expected_origin
from dhenara_async.hosts.table import HOSTS
from dhenara_async.messages.messages import JsonPart, Part, PartBase, ProviderState
from dhenara_async.request import ChatRequest, WireRequest
from dhenara_async.response import Choice
from dhenara_async.testing.dialects import WIRE_DIALECTS
from dhenara_async.testing.dialects.base import Arrived, Refusal

_Provider = AIModelAPIProviderEnum

# ---------------------------------------------------------------------------------------------------- who is asked


@dataclass(frozen=True, slots=True)
class Target:
    """Somebody a conversation is sent to.

    Attributes:
        endpoint: The same, to be called.
        origin: What its answers are marked with.
        rules: What it demands of a history.
    """

    endpoint: AIModelEndpoint
    origin: Origin
    rules: Rules


def _target(provider: AIModelAPIProviderEnum, model: str, dialect: Dialect | None = None) -> Target:
    base_url = "https://host.test/v1" if HOSTS[provider].base_url is None else None
    api = AIModelAPI.model_validate({"provider": provider, "dialect": dialect, "base_url": base_url, "api_key": "key"})
    endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name=model))
    return Target(endpoint, expected_origin(endpoint), driver_for(endpoint).rules(endpoint))


TARGETS: Mapping[str, Target] = {
    "anthropic sonnet-5-5": _target(_Provider.ANTHROPIC, "claude-sonnet-5-5"),
    "anthropic haiku-4-5": _target(_Provider.ANTHROPIC, "claude-haiku-4-5"),
    "anthropic fable-5-1": _target(_Provider.ANTHROPIC, "claude-fable-5-1"),
    "responses gpt-6.2-sol": _target(_Provider.OPEN_AI, "gpt-6.2-sol"),
    "responses gpt-4o-mini": _target(_Provider.OPEN_AI, "gpt-4o-mini"),
    "chat gpt-5": _target(_Provider.OPEN_AI, "gpt-5", Dialect.OPENAI_CHAT),
    "gemini 3.8": _target(_Provider.GOOGLE_AI, "gemini-3.8-flash"),
    "gemini 2.0": _target(_Provider.GOOGLE_AI, "gemini-2.0-flash"),
    "deepseek": _target(_Provider.DEEPSEEK, "deepseek-v4-pro"),
    "groq": _target(_Provider.GROQ, "openai/gpt-oss-120b"),
    "mistral": _target(_Provider.MISTRAL, "mistral-large-4"),
    "xai": _target(_Provider.XAI, "grok-4.7"),
    "openrouter": _target(_Provider.OPENROUTER, "anthropic/claude-sonnet-5.5"),
    "together": _target(_Provider.TOGETHER, "zai-org/GLM-5"),
    "fireworks": _target(_Provider.FIREWORKS, "accounts/fireworks/models/kimi-k3"),
    "cerebras": _target(_Provider.CEREBRAS, "gpt-oss-120b"),
    "ollama": _target(_Provider.OLLAMA, "qwen3:8b"),
    "vllm": _target(_Provider.VLLM, "Qwen/Qwen3-8B"),
    "lm_studio": _target(_Provider.LM_STUDIO, "qwen3"),
    "llama_cpp": _target(_Provider.LLAMA_CPP, "gemma-4"),
    "compatible": _target(_Provider.OPENAI_COMPATIBLE, "anything"),
}


def encoded(
    messages: Iterable[Message],
    target: Target,
    config: AIModelCallConfig | None = None,
    instructions: Sequence[str] = (),
) -> WireRequest:
    """The request for messages that are legal already, every file that has to be downloaded replaced by a stand-in."""
    knobs = config or AIModelCallConfig()
    request = ChatRequest.of(messages, instructions=instructions, config=knobs, stream=False)
    links = {key_of(link): stand_in(link) for link in to_download(request.messages, target.endpoint)}
    request = replace(request, messages=inlined(request.messages, links))
    return driver_for(target.endpoint).encode(request, target.endpoint)


def refusal(wire: WireRequest, target: Target, issued: Iterable[str] = ()) -> str | None:
    """What the loopback provider has against a request; None if it takes it.

    Args:
        wire: The request.
        target: Who is asked.
        issued: The seals that the target has given out.
    """
    dialect = WIRE_DIALECTS[Dialect(target.origin.dialect)]
    provider = "google" if target.origin.provider == _Provider.GOOGLE_AI else target.origin.provider
    bare = dialect.dialect in (Dialect.ANTHROPIC_MESSAGES, Dialect.GEMINI)
    address = urlsplit(wire.path if bare else f"/v1{wire.path}")
    headers = {name.lower(): value for name, value in wire.headers.items()} | {"authorization": "Bearer key"}
    body = cast("dict[str, object]", orjson.loads(wire.body))
    seals = frozenset((target.origin.model, seal) for seal in issued)
    arrived = Arrived(provider, address.path, dict(parse_qsl(address.query)), headers, body, seals)
    try:
        for rule in dialect.rules:
            rule(arrived)
    except Refusal as refused:
        return refused.message
    return None


def wire_turns(wire: WireRequest) -> list[object]:
    """The conversation in a request body, an entry a message or an item, without what leads it."""
    body = cast("dict[str, list[dict[str, object]]]", orjson.loads(wire.body))
    turns = next(body[key] for key in ("messages", "input", "contents") if key in body)
    led = bool(turns) and turns[0].get("role") in ("system", "developer") and "messages" in body
    return cast("list[object]", turns[1:] if led else turns)


# ---------------------------------------------------------------------------------------------------- what is opaque

_NUMBERS = count(1)


def seals(value: object) -> Iterator[str]:
    """Every marked text inside a native state."""
    if isinstance(value, str):
        if "SEALED" in value:
            yield value
    elif isinstance(value, Mapping):
        for item in cast("Mapping[str, object]", value).values():
            yield from seals(item)
    elif isinstance(value, list | tuple):
        for item in cast("Sequence[object]", value):
            yield from seals(item)


def _seal() -> str:
    """Base64 of a length that decodes, and unlike all others."""
    return f"SEALED{next(_NUMBERS) % 1_000_000:06d}"


def _musing() -> str:
    return f"musing{next(_NUMBERS) % 1_000_000:06d}"


# ---------------------------------------------------------------------------------------------------- small things

_PNG = b"\x89PNG\r\n\x1a\npixels"
_NAMES = st.sampled_from(("get_weather", "get-time", "functions.search:0", "9lives", "", "ümläut", "n" * 200, "a b"))
_CALL_IDS = st.sampled_from(
    (
        "toolu_01ABCdef",
        "call_abc",
        "call_abc|fc_0123",
        "a1B2c3D4e",
        "",
        " ",
        "same",
        "functions.x:0",
        "srvtoolu_01",
        "é\u2028\x00",
        "x" * 500,
    )
)
_ARGUMENTS = st.sampled_from(
    (
        "{}",
        "",
        "  ",
        '{"city": "Zürich", "n": 1.50, "n": 2}',
        '{"deep":' * 100 + "1" + "}" * 100,
        "[1, 2]",
        '"text"',
        "null",
        '{"city": "Zü',
        "not JSON at all",
        '{"big": 123456789012345678901234567890, "tiny": 1e-400}',
        '{"\\u0000": "\\ud83d\\ude00\u2028"}',
    )
)
TEXTS = st.one_of(
    st.sampled_from(
        (
            "Hello.",
            "Yes.\n",
            "",
            " ",
            "\n\t",
            "\u00a0",
            "\u2028",
            "\x00",
            "\ufeff",
            "e\u0301 \u202e",
            "\U0001d54f\U0001f600",
        )
    ),
    st.text(max_size=12),
    st.just("long " * 50),
)
_JSON: st.SearchStrategy[JsonValue] = st.sampled_from(
    cast(
        "tuple[JsonValue, ...]",
        (None, True, 7, 2.5, "", "text", [], {}, {"output": 1}, [{"a": [None]}], {"": "\u2028"}),
    )
)
_STATUSES: tuple[Literal["complete", "interrupted"], ...] = ("complete",) * 9 + ("interrupted",)
_ROUGHLY = st.sampled_from(_STATUSES)
_FILES: tuple[tuple[str, bytes], ...] = (
    ("image/png", _PNG),
    ("image/jpeg", b"\xff\xd8\xffpixels"),
    ("image/svg+xml", b"<svg/>"),
    ("application/pdf", b"%PDF-1.7 words"),
    ("text/plain", "plain wörds".encode()),
    ("text/markdown", b"# Notes"),
    ("application/json", b'{"a": 1}'),
    ("audio/wav", b"RIFF\0\0\0\0WAVEfmt "),
    ("audio/mpeg", b"ID3 sound"),
    ("audio/ogg", b"OggS"),
    ("video/mp4", b"\0\0\0\x18ftypmp42"),
    ("application/zip", b"PK\x03\x04"),
    ("application/x-unheard-of", b"\x00\x01"),
)


@st.composite
def _files(draw: st.DrawFn, origin: Origin | None) -> FilePart:
    """A file of any kind, by any of the three ways, unlike all others."""
    media_type, data = draw(st.one_of(st.sampled_from(_FILES[:2]), st.sampled_from(_FILES)))
    number = next(_NUMBERS)
    name = draw(st.sampled_from((None, None, "notes.txt", "naïve \u2028 name", "")))
    match draw(st.sampled_from(("data", "data", "data", "url", "file_id"))):
        case "data":
            if origin is not None and draw(st.booleans()):
                data = b"\xff\xfe\x00 not what it says"  # a provider is not checked
            return FilePart(media_type=media_type, data=data + b" %d" % number, filename=name, origin=origin)
        case "url":
            scheme = draw(st.sampled_from(("https", "https", "http", "gs")))
            return FilePart(media_type=media_type, url=f"{scheme}://files.test/{number}", filename=name, origin=origin)
        case _:
            return FilePart(media_type=media_type, file_id=f"file-{number}", filename=name, origin=origin)


# ---------------------------------------------------------------------------------------------------- what models say


@dataclass(frozen=True, slots=True)
class _Voice:
    """Somebody who answers.

    Attributes:
        origin: Who; None for a part of which nobody knows.
        faithful: Whether it is exactly one of the targets, to whom its state goes back: that is then never nonsense.
    """

    origin: Origin | None
    faithful: bool = False

    @property
    def dialect(self) -> str:
        return "" if self.origin is None else self.origin.dialect

    @property
    def provider(self) -> str:
        return "" if self.origin is None else self.origin.provider


_OWN = tuple(_Voice(target.origin, faithful=True) for target in TARGETS.values())
_VOICES = st.one_of(
    st.sampled_from(_OWN),
    st.sampled_from(_OWN).map(lambda voice: _changed(voice, model="another-model")),
    st.sampled_from(_OWN).map(lambda voice: _changed(voice, account="another-account")),
    st.sampled_from(_OWN).map(lambda voice: _changed(voice, endpoint="elsewhere.test")),
    st.just(_Voice(None)),
    st.just(_Voice(Origin(provider="unheard", dialect="of", endpoint="", account=None, model=""))),
)

# Of a target itself only what a stream that broke off can leave behind; of others anything at all.
_HALF: Mapping[str, ProviderState] = {
    Dialect.ANTHROPIC_MESSAGES: {"type": "thinking", "signature": ""},
    Dialect.OPENAI_RESPONSES: {"encrypted_content": ""},
    Dialect.OPENAI_CHAT: {"reasoning_details": []},
    Dialect.GEMINI: {"thoughtSignature": ""},
}
_BROKEN: tuple[Callable[[], ProviderState], ...] = (
    dict,
    lambda: {"type": "thinking", "signature": ""},
    lambda: {"junk": [None, {"deep": _seal()}]},
    lambda: {"type": None, "signature": 5},
    lambda: {"type": ["list"], "data": _seal()},
    lambda: {"thoughtSignature": {"not": _seal()}},
    lambda: {"encrypted_content": [_seal()], "summary": "no list"},
    lambda: {"reasoning_details": {"no": "list"}, "extra_content": _seal()},
    lambda: {"type": "custom_tool_call", "id": 7, "citations": _seal()},
    lambda: {"executableCode": _seal(), "server_tool_use": {}},
)


def _changed(voice: _Voice, **changes: str) -> _Voice:
    assert voice.origin is not None
    return _Voice(voice.origin.model_copy(update=changes))


def _state(draw: st.DrawFn, voice: _Voice, realistic: ProviderState | None) -> ProviderState | None:
    """The state that belongs there, none, or a broken one."""
    match draw(st.sampled_from(("right", "right", "right", "none", "broken"))):
        case "right":
            return realistic
        case "none":
            return None
        case _:
            return (
                draw(st.sampled_from(_BROKEN))()
                if not voice.faithful
                else draw(st.sampled_from(({}, _HALF[voice.dialect])))
            )


@st.composite
def _text(draw: st.DrawFn, voice: _Voice) -> TextPart:
    text, sources = draw(TEXTS), tuple[Citation, ...]()
    state: ProviderState | None = None
    match voice.dialect:
        case Dialect.ANTHROPIC_MESSAGES if draw(st.booleans()):
            cited: JsonValue = {
                "type": "web_search_result_location",
                "url": "https://a.test",
                "title": "A",
                "cited_text": "a",
                "encrypted_index": _seal(),
            }
            state = {"type": "text", "citations": [cited]}
            sources = (Citation(url="https://a.test", title="A"),)
        case Dialect.OPENAI_RESPONSES:
            state = {"id": f"msg_{_seal()}", "phase": "final_answer"}
        case Dialect.GEMINI if draw(st.booleans()):
            state = {"thoughtSignature": _seal()}
        case _:
            sources = (Citation(title="B", start=0, end=1),) if draw(st.integers(0, 4)) == 0 else ()
    return TextPart(
        text=text,
        citations=sources,
        origin=voice.origin,
        provider_state=_state(draw, voice, state),
        status=draw(_ROUGHLY),
    )


@st.composite
def _reasoning(draw: st.DrawFn, voice: _Voice) -> ReasoningPart:
    text = draw(st.sampled_from(("", *[_musing()] * 5)))
    state: ProviderState | None = None
    match voice.dialect, voice.provider:
        case Dialect.ANTHROPIC_MESSAGES, _:
            hidden = draw(st.integers(0, 3)) == 0
            text = "" if hidden else text
            state = {"type": "redacted_thinking", "data": _seal()} if hidden else _signed()
        case Dialect.OPENAI_RESPONSES, _:
            summary: list[JsonValue] = [{"type": "summary_text", "text": text}] if text else []
            state = {"id": f"rs_{_seal()}", "summary": summary, "encrypted_content": _seal()}
        case Dialect.GEMINI, _:
            state = {"thoughtSignature": _seal()} if draw(st.booleans()) else None
        case _, _Provider.OPENROUTER:
            details: list[JsonValue] = [
                {"type": "reasoning.text", "text": text, "signature": _seal(), "index": 0},
                {"type": "reasoning.encrypted", "data": _seal(), "index": 1},
            ]
            state = {"reasoning_details": details}
        case _, _Provider.MISTRAL:
            state = {"signature": _seal()} if draw(st.booleans()) else None
        case _:
            pass
    kept = _state(draw, voice, state)
    return ReasoningPart(text=text, origin=voice.origin, provider_state=kept, status=draw(_ROUGHLY))


def _signed() -> ProviderState:
    return {"type": "thinking", "signature": _seal()}


@st.composite
def _call(draw: st.DrawFn, voice: _Voice) -> ToolCallPart:
    state: ProviderState | None = None
    match voice.dialect:
        case Dialect.ANTHROPIC_MESSAGES:
            state = {"type": "tool_use"}
        case Dialect.OPENAI_RESPONSES:
            custom = draw(st.integers(0, 4)) == 0
            state = {"id": f"fc_{_seal()}", **({"type": "custom_tool_call"} if custom else {})}
        case Dialect.GEMINI:
            state = {"thoughtSignature": _seal()}
        case Dialect.OPENAI_CHAT:
            sealed: ProviderState = {"extra_content": {"google": {"thought_signature": _seal()}}}
            state = draw(st.sampled_from((None, sealed)))
        case _:
            pass
    call_id, name, arguments = draw(_CALL_IDS), draw(_NAMES), draw(_ARGUMENTS)
    kept = _state(draw, voice, state)
    return ToolCallPart(
        call_id=call_id,
        name=name,
        arguments=arguments,
        origin=voice.origin,
        provider_state=kept,
        status=draw(_ROUGHLY),
    )


@st.composite
def _hosted(draw: st.DrawFn, voice: _Voice) -> tuple[HostedToolPart, ...]:
    """What a provider ran itself: mostly both halves of it, now and then one, or a mere report."""
    blocks: tuple[HostedToolPart, ...]
    said = {"query": draw(st.sampled_from(("weather", "", "x" * 300)))}
    found: list[JsonValue] = [{"title": "A", "encrypted_content": _seal()}]
    match voice.dialect:
        case Dialect.ANTHROPIC_MESSAGES:
            name = f"srvtoolu_{_seal()}"
            asked: ProviderState = {"type": "server_tool_use", "id": name, "name": "web_search", "input": {**said}}
            gave: ProviderState = {"type": "web_search_tool_result", "tool_use_id": name, "content": found}
            report: ProviderState = {"type": "stop_details", "stop_details": {"category": _seal()}}
            blocks = (
                HostedToolPart(name="server_tool_use", call_id=name, input={**said}, provider_state=asked),
                HostedToolPart(name="web_search_tool_result", call_id=name, output=found, provider_state=gave),
            )
            if draw(st.integers(0, 4)) == 0:
                blocks = (HostedToolPart(name="stop_details", report=True, output={}, provider_state=report),)
        case Dialect.OPENAI_RESPONSES:
            action: ProviderState = {"type": "search", **said}
            state: ProviderState = {"type": "web_search_call", "id": f"ws_{_seal()}", "status": "completed"}
            state["action"] = action
            blocks = (HostedToolPart(name="web_search_call", input=action, provider_state=state),)
        case Dialect.GEMINI:
            code: ProviderState = {"executableCode": {"language": "PYTHON", "code": "1"}, "thoughtSignature": _seal()}
            result: ProviderState = {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}
            blocks = (
                HostedToolPart(name="executableCode", input="1", provider_state=code),
                HostedToolPart(name="codeExecutionResult", output="1", provider_state=result),
            )
        case _:
            unnamed: ProviderState = {"type": "something", "data": _seal()}
            blocks = (HostedToolPart(name="executed_tools", output=draw(_JSON), provider_state=unnamed),)
    status = draw(_ROUGHLY)
    cut = draw(st.sampled_from((slice(None), slice(None), slice(1), slice(1, None))))
    return tuple(block.model_copy(update={"origin": voice.origin, "status": status}) for block in blocks[cut])


@st.composite
def _made(draw: st.DrawFn, voice: _Voice) -> FilePart:
    """A file that a model made."""
    part = draw(_files(voice.origin or Origin(provider="", dialect="", endpoint="", account=None, model="")))
    state: ProviderState | None = None
    match voice.dialect:
        case Dialect.OPENAI_RESPONSES if part.data is not None and part.kind == "image":
            state = {"type": "image_generation_call", "id": f"ig_{_seal()}", "status": "completed"}
        case Dialect.GEMINI if part.data is not None:
            state = {"mimeType": part.media_type, "thoughtSignature": _seal()}
        case Dialect.OPENAI_CHAT if part.kind == "audio":
            state = {"id": f"audio_{_seal()}"}
        case _:
            pass
    return part.model_copy(update={"provider_state": _state(draw, voice, state), "status": draw(_ROUGHLY)})


# Letters for kinds of parts: as models answer, and in any order.
_SHAPES = st.one_of(
    st.sampled_from(("rt", "rc", "rtcc", "rht", "rcrc", "t", "tf", "R", "rccf")),
    st.text(alphabet="ttrrccchfR", max_size=5),
)


@st.composite
def answers(draw: st.DrawFn, *, home: Target | None = None) -> tuple[Part, ...]:
    """The parts of one answer, in any order, mostly of one voice; every other one of ``home``, if anybody's."""

    def somebody() -> _Voice:
        at_home = home is not None and draw(st.booleans())
        return _Voice(home.origin, faithful=True) if home is not None and at_home else draw(_VOICES)

    voice = somebody()
    parts: list[Part] = []
    for kind in draw(_SHAPES):
        if draw(st.integers(0, 9)) == 0:
            voice = somebody()
        match kind:
            case "t":
                parts.append(draw(_text(voice)))
            case "r":
                parts.append(draw(_reasoning(voice)))
            case "c":
                parts.append(draw(_call(voice)))
            case "h":
                parts += draw(_hosted(voice))
            case "f":
                parts.append(draw(_made(voice)))
            case _:
                parts.append(RefusalPart(text=draw(TEXTS), origin=voice.origin, status=draw(_ROUGHLY)))
    return tuple(parts)


# ---------------------------------------------------------------------------------------------------- what users say


@dataclass(frozen=True, slots=True)
class _Result:
    """A result to be handed in: of the call at a place of the last answer, or of none at all."""

    of: int
    stray: bool
    named: bool
    content: tuple[TextPart | JsonPart | FilePart, ...]
    is_error: bool

    def made(self, calls: Sequence[ToolCallPart]) -> Iterator[ToolResultPart]:
        """The result; none where there is no call that it could be of."""
        if not (calls or self.stray):
            return
        call = None if self.stray else calls[self.of % len(calls)]
        call_id, name = ("nobody_asked", "elsewhere") if call is None else (call.call_id, call.name)
        yield ToolResultPart(
            call_id=call_id, name=name if self.named else "", content=self.content, is_error=self.is_error
        )


@st.composite
def _results(draw: st.DrawFn) -> _Result:
    item = st.one_of(
        TEXTS.map(lambda text: TextPart(text=text)), _JSON.map(lambda value: JsonPart(value=value)), _files(None)
    )
    return _Result(
        of=draw(st.integers(0, 3)),
        stray=draw(st.integers(0, 6)) == 0,
        named=draw(st.booleans()),
        content=tuple(draw(st.lists(item, max_size=3))),
        is_error=draw(st.booleans()),
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a user says."""

    text: str = ""
    files: tuple[FilePart, ...] = ()
    results: tuple[_Result, ...] = ()


_QUESTIONS = st.builds(
    _Asked,
    text=TEXTS,
    files=st.one_of(st.just(()), st.lists(_files(None), max_size=2).map(tuple)),
    results=st.lists(_results(), max_size=4).map(tuple),
)


# ---------------------------------------------------------------------------------------------------- conversations


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation: turns that are over, and what is asked now.

    Attributes:
        nodes: The turns.
        asked: The question.
    """

    nodes: tuple[ConversationNode, ...] = field(default=())
    asked: tuple[Message, ...] = field(default=())

    def messages(self) -> list[Message]:
        """All of it as messages, as the formatter counts them."""
        return [*(message for node in self.nodes for message in node.as_messages()), *self.asked]


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A turn before it has a place in a conversation."""

    asked: _Asked
    answer: tuple[Part, ...] | None
    status: str

    def node(self, number: int, calls: Sequence[ToolCallPart]) -> ConversationNode:
        origin = next((part.origin for part in self.answer or () if part.origin is not None), None)
        choice = Choice(parts=self.answer or (), finish_reason=FinishReason.STOP)
        response = None if self.answer is None else ChatResponse(choices=(choice,), model="m", provider="p")
        return ConversationNode.model_validate(
            {
                "id": f"n{number}",
                "parent_id": f"n{number - 1}" if number else None,
                "user_query": self.asked.text,
                "attached_files": self.asked.files,
                "tool_results": tuple(part for result in self.asked.results for part in result.made(calls)),
                "response": response,
                "timestamp": "2026-11-22T00:00:00+00:00",
                "origin": origin,
                "status": self.status if response is not None else "failed",
            }
        )


_Mostly = TypeVar("_Mostly")
_Seldom = TypeVar("_Seldom")


@st.composite
def _mostly(draw: st.DrawFn, usual: st.SearchStrategy[_Mostly], seldom: _Seldom) -> _Mostly | _Seldom:
    """Once in eight times something else."""
    return seldom if draw(st.integers(0, 7)) == 7 else draw(usual)


def _turns(home: Target | None) -> st.SearchStrategy[_Drawn]:
    answer = answers(home=home)
    return st.builds(_Drawn, _QUESTIONS, _mostly(answer, None), _ROUGHLY)


# Few turns mostly, as they find most; the many are the few again and again.
_ORDERS = _mostly(
    st.one_of(
        st.lists(st.integers(0, 5), min_size=1, max_size=8), st.lists(st.integers(0, 5), min_size=9, max_size=60)
    ),
    list[int](),
)


@st.composite
def talks(draw: st.DrawFn, *, home: str | None = None) -> Talk:
    """0 to 60 turns, and a question behind them.

    Args:
        draw: Of hypothesis.
        home: Who has given many of the answers; None = anybody.
    """
    palette = draw(st.lists(_turns(None if home is None else TARGETS[home]), min_size=1, max_size=6))
    nodes: list[ConversationNode] = []
    calls: list[ToolCallPart] = []
    for number, at in enumerate(draw(_ORDERS)):
        node = palette[at % len(palette)].node(number, calls)
        nodes.append(node)
        if node.response is not None:
            calls = [part for part in node.response.choices[0].parts if isinstance(part, ToolCallPart)]
    asked = draw(_QUESTIONS)
    parts: list[Part] = [part for result in asked.results for part in result.made(calls)]
    parts += [*asked.files, TextPart(text=asked.text or "?")]
    return Talk(tuple(nodes), (Message(role=Role.USER, parts=tuple(parts)),))


@st.composite
def message_lists(draw: st.DrawFn, *, misplaced: bool = False) -> list[Message]:
    """Messages of any role in any order.

    Args:
        draw: Of hypothesis.
        misplaced: Whether parts may stand in a message of a role that cannot say them.
    """
    results, texts = _results(), TEXTS.map(lambda text: TextPart(text=text))
    palette: list[Message] = []
    calls: list[ToolCallPart] = []
    for role in draw(st.lists(st.sampled_from((*Role, Role.USER, Role.ASSISTANT)), min_size=1, max_size=8)):
        parts: list[Part] = []
        if role is Role.ASSISTANT or (misplaced and draw(st.integers(0, 9)) == 0):
            parts += draw(answers())
            calls = [part for part in parts if isinstance(part, ToolCallPart)] or calls
        if role is Role.USER or (misplaced and draw(st.integers(0, 9)) == 0):
            parts += [part for result in draw(st.lists(results, max_size=3)) for part in result.made(calls)]
            parts += draw(st.lists(_files(None), max_size=1))
        if role is not Role.ASSISTANT:
            parts += draw(st.lists(texts, max_size=2))
        status = draw(_ROUGHLY) if role is Role.ASSISTANT else "complete"
        palette.append(Message.model_validate({"role": role, "parts": tuple(parts), "status": status}))
    order = draw(st.lists(st.integers(0, 7), max_size=60))
    return [*palette, *(palette[at % len(palette)] for at in order)] if draw(st.booleans()) else palette


def parts_of(messages: Iterable[Message]) -> Iterator[tuple[Message, PartBase]]:
    """Every part with its message, those inside results among them."""
    for message in messages:
        for part in message.parts:
            yield message, part
            if isinstance(part, ToolResultPart):
                for item in part.content:
                    yield message, item
