"""Every request we send fits the vendor's own SDK types, is accepted by a strict host, and says what was asked."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import cast

import orjson
import pytest
from sdk_types import problems

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    Dialect,
    FilePart,
    Message,
    Origin,
    PromptFormatter,
    ReasoningPart,
    RefusalPart,
    Role,
    TextPart,
)
from dhenara_async.downloads.inlining import inlined, key_of, to_download
from dhenara_async.drivers.anthropic_messages.driver import VERSION, VERSION_WITH_SAMPLING
from dhenara_async.errors import ConfigurationError, UnsupportedError
from dhenara_async.hosts.registry import dialect_of, driver_for
from dhenara_async.hosts.table import HOSTS
from dhenara_async.models.anthropic import Claude35Haiku
from dhenara_async.request import ChatRequest, WireRequest
from dhenara_async.testing import ProviderServer

_Provider = AIModelAPIProviderEnum

_PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
_ELSEWHERE = Origin(provider="elsewhere", dialect="unheard_of", endpoint="host.test", account=None, model="m-1")


@dataclass(frozen=True, slots=True)
class _Target:
    """Somebody to ask; ``extras`` are the host's own top-level knobs, which OpenAI's types do not have."""

    provider: AIModelAPIProviderEnum
    model: str
    dialect: Dialect | None = None
    extras: frozenset[str] = frozenset()

    def at(self, api: AIModelAPI | None = None) -> AIModelEndpoint:
        base_url = "https://host.test/v1" if HOSTS[self.provider].base_url is None else None
        here = api or AIModelAPI(provider=self.provider, dialect=self.dialect, base_url=base_url)
        return AIModelEndpoint(api=here, ai_model=AIModel(model_name=self.model))


_TARGETS: Mapping[str, _Target] = {
    "responses gpt-4o-mini": _Target(_Provider.OPEN_AI, "gpt-4o-mini"),
    "responses o3-mini": _Target(_Provider.OPEN_AI, "o3-mini"),
    "responses gpt-6.2-sol": _Target(_Provider.OPEN_AI, "gpt-6.2-sol"),
    "chat gpt-4o-mini": _Target(_Provider.OPEN_AI, "gpt-4o-mini", Dialect.OPENAI_CHAT),
    "chat o3-mini": _Target(_Provider.OPEN_AI, "o3-mini", Dialect.OPENAI_CHAT),
    "chat gpt-6.2-sol": _Target(_Provider.OPEN_AI, "gpt-6.2-sol", Dialect.OPENAI_CHAT),
    "chat compatible": _Target(_Provider.OPENAI_COMPATIBLE, "qwen-3.8-27b", extras=frozenset({"top_k"})),
    "chat groq": _Target(_Provider.GROQ, "openai/gpt-oss-120b"),
    "chat mistral": _Target(_Provider.MISTRAL, "mistral-large-4", extras=frozenset({"random_seed", "top_k"})),
    "messages claude-3-5": _Target(_Provider.ANTHROPIC, "claude-3-5-haiku-20241022"),
    "messages claude-4-5": _Target(_Provider.ANTHROPIC, "claude-sonnet-4-5"),
    "messages claude-5-5": _Target(_Provider.ANTHROPIC, "claude-sonnet-5-5"),
    "gemini 2.0": _Target(_Provider.GOOGLE_AI, "gemini-2.0-flash"),
    "gemini 3.8": _Target(_Provider.GOOGLE_AI, "gemini-3.8-flash"),
}


def _talk(turns: int) -> list[Message]:
    said: list[Message] = []
    for turn in range(1, turns):
        said += [Message.user(f"question {turn}"), Message.assistant(f"answer {turn}")]
    return [*said, Message.user(f"question {turns}")]


_IMAGE_URL = FilePart.from_url("https://host.test/cat.jpg")
_IMAGE_OF_ANY_KIND = FilePart.from_url("https://host.test/picture?id=7")
_IMAGE_BYTES = FilePart(media_type="image/png", data=_PNG)
_DOCUMENT = FilePart(media_type="text/markdown", data="# Zürich\n".encode(), filename="notes.md")
_NAMELESS = FilePart(media_type="text/plain", data=b"plain words")

_HISTORIES: Mapping[str, list[Message]] = {
    **{f"{turns} turns": _talk(turns) for turns in range(1, 6)},
    "parts": [Message.user("first", "second", "third"), Message.assistant("fourth", "fifth"), Message.user("sixth")],
    "images": [Message.user("look", _IMAGE_URL, "and", _IMAGE_BYTES), Message.assistant("seen"), Message.user("so?")],
    "only an image": [Message.user(_IMAGE_OF_ANY_KIND)],
    "documents": [Message.user(_DOCUMENT, _NAMELESS, "what is it?")],
    "system in between": [
        Message.user("first"),
        Message.system("from now on in French"),
        Message.assistant("deuxième"),
        Message.user("third"),
        Message.system("and briefly"),
    ],
    "system leads": [Message.system("be kind"), Message.system("be brief"), Message.user("who?")],
    "system, then assistant": [Message.system("be kind"), Message.assistant("welcome"), Message.user("who?")],
    "blank parts": [
        Message.user(" ", "first", ""),
        Message.assistant("\n"),
        Message.user("second"),
        Message.system(" "),
        Message.assistant("third", "  "),
        Message.user("fourth"),
    ],
    "assistant begins": [Message.assistant("welcome"), Message.user("who?")],
    "assistant ends": [Message.user("who?"), Message.assistant("welcome, it is \n")],
    "neighbours": [Message.user("first"), Message.user("second"), Message.assistant("a"), Message.assistant("b")],
    "from elsewhere": [
        Message.user("who?"),
        Message.assistant(
            ReasoningPart(text="hm", origin=_ELSEWHERE, provider_state={"signature": "abc"}),
            TextPart(text="well", origin=_ELSEWHERE, provider_state={"opaque": [1]}),
            RefusalPart(text="no more", origin=_ELSEWHERE),
        ),
        Message.user("why?"),
    ],
    "quotes": [
        Message.user('a "quoted" \\ back\u2028slash\x00 \U0001f60a'),
        Message.assistant("é"),
        Message.user("日"),
    ],
}

_INSTRUCTIONS = ((), ("lead one",), ("lead one", "lead two"))

_KNOBS: Mapping[str, AIModelCallConfig] = {
    "none": AIModelCallConfig(),
    "max_output_tokens": AIModelCallConfig(max_output_tokens=100),
    "fewest tokens": AIModelCallConfig(max_output_tokens=1),
    "temperature": AIModelCallConfig(temperature=0.5),
    "hot": AIModelCallConfig(temperature=5),
    "top_p": AIModelCallConfig(top_p=0.5),
    "top_k": AIModelCallConfig(top_k=5),
    "stop": AIModelCallConfig(stop=("END",)),
    "many stops": AIModelCallConfig(stop=("a", "b", "c", "d", "e", "f")),
    "seed": AIModelCallConfig(seed=7),
    "all": AIModelCallConfig(max_output_tokens=100, temperature=0, top_p=1, top_k=1, stop=("END", "FIN"), seed=0),
}


def _encoded(
    endpoint: AIModelEndpoint,
    history: list[Message],
    *,
    instructions: tuple[str, ...] = (),
    config: AIModelCallConfig | None = None,
    stream: bool = False,
) -> WireRequest:
    formatted = PromptFormatter.format_messages(history, endpoint)
    request = ChatRequest.of(
        formatted.messages, instructions=instructions, config=config or AIModelCallConfig(), stream=stream
    )
    return driver_for(endpoint).encode(request, endpoint)


def _body(wire: WireRequest) -> dict[str, object]:
    return orjson.loads(wire.body)


def _problems(target: _Target, wire: WireRequest, *, stream: bool) -> list[str]:
    extras = target.extras
    if wire.headers.get("anthropic-version") == VERSION_WITH_SAMPLING:
        # The SDK speaks the newest version only, which has no sampling; the older one has.
        extras |= {"temperature", "top_p", "top_k"}
    found = problems(Dialect(dialect_of(target.at())), wire.body, stream=stream, extras=extras)
    if target.provider is _Provider.MISTRAL:  # whose last assistant message has to say that it is to be continued
        found = [problem for problem in found if ".prefix: unknown" not in problem]
    return found


# ---------------------------------------------------------------------------------------------------- SDK types


@pytest.mark.parametrize("history", _HISTORIES)
@pytest.mark.parametrize("name", _TARGETS)
def test_histories_fit_the_sdk(name: str, history: str) -> None:
    target = _TARGETS[name]
    for instructions, stream in product(_INSTRUCTIONS, (False, True)):
        wire = _encoded(target.at(), _HISTORIES[history], instructions=instructions, stream=stream)
        assert _problems(target, wire, stream=stream) == []


@pytest.mark.parametrize("knobs", _KNOBS)
@pytest.mark.parametrize("name", _TARGETS)
def test_knobs_fit_the_sdk(name: str, knobs: str) -> None:
    target = _TARGETS[name]
    for stream in (False, True):
        wire = _encoded(target.at(), _talk(2), instructions=("lead",), config=_KNOBS[knobs], stream=stream)
        assert _problems(target, wire, stream=stream) == []


_GOOD: Mapping[Dialect, dict[str, object]] = {
    Dialect.OPENAI_RESPONSES: {"input": "hi"},
    Dialect.OPENAI_CHAT: {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    Dialect.ANTHROPIC_MESSAGES: {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]},
}


@pytest.mark.parametrize("dialect", _GOOD)
def test_validator_knows_a_good_body(dialect: Dialect) -> None:
    good, odd = orjson.dumps(_GOOD[dialect]), orjson.dumps(_GOOD[dialect] | {"top_k": 1})
    assert problems(dialect, good, stream=False) == []
    assert ["stream: missing" in problem for problem in problems(dialect, good, stream=True)] == [True]
    assert ["top_k: unknown" in problem for problem in problems(dialect, odd, stream=False)] == [True]
    assert problems(dialect, odd, stream=False, extras={"top_k"}) == []


_WRONG: tuple[tuple[Dialect, dict[str, object], str], ...] = (
    (Dialect.OPENAI_RESPONSES, {"input": [{"role": "tool", "content": "x"}]}, "body.input[0].role"),
    (Dialect.OPENAI_RESPONSES, {"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, "type"),
    (
        Dialect.OPENAI_RESPONSES,
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
        "detail: missing",
    ),
    (Dialect.OPENAI_RESPONSES, {"input": "x", "max_output_tokens": "5"}, "body.max_output_tokens"),
    (Dialect.OPENAI_RESPONSES, {"input": "x", "include": ["everything"]}, "body.include[0]"),
    (Dialect.OPENAI_RESPONSES, {"input": "x", "reasoning": {"budget": 5}}, "body.reasoning.budget: unknown"),
    (Dialect.OPENAI_CHAT, {"messages": [{"role": "user", "content": "x", "extra": 1}]}, "extra: unknown"),
    (
        Dialect.OPENAI_CHAT,
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "extra": 1}]}]},
        "extra: unknown",
    ),
    (
        Dialect.OPENAI_CHAT,
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": 1}}]}]},
        "image_url.url",
    ),
    (Dialect.OPENAI_CHAT, {"messages": [{"role": "system", "content": [{"type": "image_url"}]}]}, "content[0]"),
    (Dialect.OPENAI_CHAT, {"messages": [], "temperature": True}, "body.temperature"),
    (
        Dialect.ANTHROPIC_MESSAGES,
        {"max_tokens": 1, "messages": [{"role": "user", "content": [{"type": "text", "text": "x", "id": 1}]}]},
        "body.messages[0].content[0].id: unknown",
    ),
    (Dialect.ANTHROPIC_MESSAGES, {"max_tokens": 1.5, "messages": []}, "body.max_tokens"),
    (Dialect.ANTHROPIC_MESSAGES, {"max_tokens": 1, "messages": [], "temperature": 1}, "body.temperature: unknown"),
    (
        Dialect.ANTHROPIC_MESSAGES,
        {"max_tokens": 1, "messages": [], "system": [{"type": "text"}]},
        "body.system[0].text: missing",
    ),
    (Dialect.GEMINI, {}, "contents"),
    (Dialect.GEMINI, {"contents": [], "system_instruction": {"parts": []}}, "system_instruction"),
    (Dialect.GEMINI, {"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}, "'assistant'"),
    (Dialect.GEMINI, {"contents": [{"role": "user", "parts": [{"text": "x", "fileData": {}}]}]}, "exactly one"),
    (Dialect.GEMINI, {"contents": [{"role": "user", "parts": []}]}, "exactly one"),
    (Dialect.GEMINI, {"contents": [{"role": "user", "parts": [{"words": "x"}]}]}, "words"),
    (
        Dialect.GEMINI,
        {"contents": [{"role": "user", "parts": [{"inline_data": {"mimeType": "image/png", "data": "eA=="}}]}]},
        "inline_data",
    ),
    (Dialect.GEMINI, {"contents": [], "generationConfig": {"topP": "0.5"}}, "topP"),
    (Dialect.GEMINI, {"contents": [], "generationConfig": {"max_output_tokens": 5}}, "max_output_tokens"),
)


@pytest.mark.parametrize(("dialect", "body", "where"), _WRONG)
def test_the_validator_finds_errors(dialect: Dialect, body: dict[str, object], where: str) -> None:
    whole = body if dialect is Dialect.GEMINI else {"model": "m", **body}
    found = problems(dialect, orjson.dumps(whole), stream=False)
    assert any(where in problem for problem in found), found


# ---------------------------------------------------------------------------------------------------- strict host


@pytest.mark.parametrize("name", _TARGETS)
async def test_a_strict_host_accepts_the_requests_of_the_client(name: str) -> None:
    target = _TARGETS[name]
    async with ProviderServer() as server:
        endpoint = target.at(server.api(target.provider, dialect=target.dialect))
        async with AIModelClient(endpoint) as client:
            histories = {kind: _within_reach(endpoint, history) for kind, history in _HISTORIES.items()}
            for history, instructions in product(histories.values(), _INSTRUCTIONS):
                response = await client.generate(messages=history, instructions=instructions)
                assert response.text()
            for config, streaming in product(_KNOBS.values(), (False, True)):
                knobs = config.model_copy(update={"streaming": streaming})
                await client.generate(messages=histories["parts"], config=knobs)
        assert len(server.requests) == len(_HISTORIES) * len(_INSTRUCTIONS) + len(_KNOBS) * 2
        assert {(seen.status, seen.error) for seen in server.requests} == {(200, None)}
        assert {seen.model for seen in server.requests} == {target.model}
        assert sum(seen.stream for seen in server.requests) == len(_KNOBS)


def _within_reach(endpoint: AIModelEndpoint, history: Sequence[Message]) -> tuple[Message, ...]:
    """``history`` with bytes in the place of what would have to be downloaded for ``endpoint``."""
    return inlined(history, {key_of(part): _IMAGE_BYTES for part in to_download(history, endpoint)})


# ---------------------------------------------------------------------------------------------------- what is said


@pytest.mark.parametrize("history", _HISTORIES)
@pytest.mark.parametrize("name", _TARGETS)
def test_every_word_arrives_once_and_in_order(name: str, history: str) -> None:
    wire = _encoded(_TARGETS[name].at(), _HISTORIES[history], instructions=("lead one", "lead two"))
    said = list(_strings(_body(wire)))
    spoken = [message for message in _HISTORIES[history] if message.role is not Role.SYSTEM]
    parts = [part for message in spoken for part in message.parts if isinstance(part, TextPart | RefusalPart)]
    words = [part.text for part in parts if part.text.strip()]
    places = [_place(said, text.rstrip()) for text in words]
    assert places == sorted(places)
    system = [message.get_text() for message in _HISTORIES[history] if message.role is Role.SYSTEM]
    for text in ("lead one", "lead two", *filter(str.strip, system)):
        _place(said, text)


def _strings(value: object) -> list[str]:
    match value:
        case str():
            return [value]
        case dict():
            return [text for item in cast("dict[str, object]", value).values() for text in _strings(item)]
        case list():
            return [text for item in cast("list[object]", value) for text in _strings(item)]
        case _:
            return []


def _place(said: list[str], text: str) -> int:
    """Where ``text`` is said: as a whole, or on lines of its own, or in the mark of a system message."""
    marked = {text, f"<system>{text}</system>"}
    found = [index for index, whole in enumerate(said) if marked & {whole, whole.rstrip(), *whole.split("\n\n")}]
    assert len(found) == 1, (text, said)
    return found[0]


_LEADERS = {
    "responses gpt-4o-mini": {"instructions": "lead one\n\nlead two"},
    "chat gpt-4o-mini": {"role": "system", "content": "lead one\n\nlead two"},
    "chat o3-mini": {"role": "developer", "content": "lead one\n\nlead two"},
    "chat gpt-6.2-sol": {"role": "developer", "content": "lead one\n\nlead two"},
    "chat compatible": {"role": "system", "content": "lead one\n\nlead two"},
    "chat groq": {"role": "system", "content": "lead one\n\nlead two"},
    "messages claude-5-5": {"system": [{"type": "text", "text": "lead one"}, {"type": "text", "text": "lead two"}]},
    "gemini 3.8": {"systemInstruction": {"parts": [{"text": "lead one"}, {"text": "lead two"}]}},
}


@pytest.mark.parametrize("name", _LEADERS)
def test_instructions_have_their_own_place(name: str) -> None:
    endpoint = _TARGETS[name].at()
    body = _body(_encoded(endpoint, _talk(1), instructions=_INSTRUCTIONS[2]))
    bare = _body(_encoded(endpoint, _talk(1)))
    if name.startswith("chat"):
        assert body["messages"] == [_LEADERS[name], {"role": "user", "content": "question 1"}]
        assert bare["messages"] == [{"role": "user", "content": "question 1"}]
    else:
        assert body == bare | _LEADERS[name]


def test_developer_role_is_for_hosts_that_know_it() -> None:
    """A reasoning model's id at a compatible host does not bring OpenAI's role with it."""
    elsewhere = _Target(_Provider.GROQ, "o3-mini").at()
    history = [*_talk(1), Message.system("later")]
    messages = _body(_encoded(elsewhere, history, instructions=("lead",)))["messages"]
    assert messages == [
        {"role": "system", "content": "lead"},
        {"role": "user", "content": "question 1"},
        {"role": "system", "content": "later"},
    ]


@pytest.mark.parametrize("name", _LEADERS)
def test_leading_system_messages_are_instructions(name: str) -> None:
    endpoint = _TARGETS[name].at()
    history = [Message.system("lead one"), Message.system(" "), Message.system("lead two"), *_talk(2)]
    assert _body(_encoded(endpoint, history)) == _body(_encoded(endpoint, _talk(2), instructions=_INSTRUCTIONS[2]))


@pytest.mark.parametrize("name", ["messages claude-3-5", "messages claude-5-5", "gemini 3.8"])
def test_user_speaks_first_where_that_is_the_rule(name: str) -> None:
    endpoint = _TARGETS[name].at()
    silent = _encoded(endpoint, [Message.assistant("welcome"), Message.user("who?")], instructions=("be kind",))
    wire = _encoded(endpoint, _HISTORIES["system, then assistant"])
    assert wire.body == silent.body
    assert b"(conversation start)" in wire.body


def test_answer_to_be_continued_ends_without_white_space() -> None:
    """The host refuses it; elsewhere, and in answers that are not the last, every byte stays."""
    history = [Message.user("who?"), Message.assistant("I \n"), Message.user("?"), Message.assistant("am", "it \n")]
    formatted = PromptFormatter.format_messages(history, _TARGETS["messages claude-3-5"].at())
    assert [message.get_text() for message in formatted.messages] == ["who?", "I \n", "?", "amit"]
    assert [entry.code for entry in formatted.report.entries] == ["blank_text_dropped"]
    untouched = PromptFormatter.format_messages(history, _TARGETS["gemini 3.8"].at())
    assert untouched.messages == tuple(history)


_LATER = {
    "responses gpt-4o-mini": {"role": "developer", "content": [{"type": "input_text", "text": "later"}]},
    "chat gpt-4o-mini": {"role": "system", "content": "later"},
    "chat o3-mini": {"role": "developer", "content": "later"},
    "messages claude-5-5": {"type": "text", "text": "<system>later</system>"},
    "gemini 3.8": {"text": "<system>later</system>"},
}


@pytest.mark.parametrize("name", _LATER)
def test_system_message_stays_in_its_place(name: str) -> None:
    body = _body(_encoded(_TARGETS[name].at(), [Message.user("first"), Message.system("later")]))
    text = orjson.dumps(body.get("input") or body.get("messages") or body.get("contents"))
    entry = orjson.dumps(_LATER[name])
    assert text.index(b"first") < text.index(entry)
    assert text.count(b"later") == 1


_ENCODED = base64.b64encode(_PNG).decode()
_DOCUMENT_TEXT = "# Zürich\n"
_FILES: Mapping[str, tuple[FilePart, dict[str, object]]] = {
    "responses gpt-4o-mini, bytes": (
        _IMAGE_BYTES,
        {"type": "input_image", "image_url": f"data:image/png;base64,{_ENCODED}", "detail": "auto"},
    ),
    "responses gpt-4o-mini, url": (
        _IMAGE_URL,
        {"type": "input_image", "image_url": "https://host.test/cat.jpg", "detail": "auto"},
    ),
    "responses gpt-4o-mini, text": (_DOCUMENT, {"type": "input_text", "text": f"notes.md:\n{_DOCUMENT_TEXT}"}),
    "chat gpt-4o-mini, bytes": (
        _IMAGE_BYTES,
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_ENCODED}"}},
    ),
    "chat gpt-4o-mini, url": (_IMAGE_URL, {"type": "image_url", "image_url": {"url": "https://host.test/cat.jpg"}}),
    "chat gpt-4o-mini, text": (_NAMELESS, {"type": "text", "text": "Attached text:\nplain words"}),
    "messages claude-5-5, bytes": (
        _IMAGE_BYTES,
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": _ENCODED}},
    ),
    "messages claude-5-5, url": (
        _IMAGE_URL,
        {"type": "image", "source": {"type": "url", "url": "https://host.test/cat.jpg"}},
    ),
    "messages claude-5-5, text": (
        _DOCUMENT,
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": _DOCUMENT_TEXT},
            "title": "notes.md",
        },
    ),
    "messages claude-5-5, nameless": (
        _NAMELESS,
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain words"}},
    ),
    "gemini 3.8, bytes": (_IMAGE_BYTES, {"inlineData": {"mimeType": "image/png", "data": _ENCODED}}),
    "gemini 3.8, url": (_IMAGE_URL, {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://host.test/cat.jpg"}}),
    "gemini 3.8, unknown kind": (_IMAGE_OF_ANY_KIND, {"fileData": {"fileUri": "https://host.test/picture?id=7"}}),
    "gemini 3.8, text": (
        _DOCUMENT,
        {"inlineData": {"mimeType": "text/plain", "data": base64.b64encode(_DOCUMENT_TEXT.encode()).decode()}},
    ),
}


@pytest.mark.parametrize("case", _FILES)
def test_files_are_spelled(case: str) -> None:
    part, spelled = _FILES[case]
    wire = _encoded(_TARGETS[case.partition(",")[0]].at(), [Message.user(part)])
    assert orjson.dumps([spelled]) in wire.body


@pytest.mark.parametrize("name", _TARGETS)
def test_content_that_a_dialect_lacks_is_refused(name: str) -> None:
    unknown = FilePart(media_type="application/x-unheard-of", data=b"?")
    with pytest.raises(UnsupportedError, match=_TARGETS[name].model):
        _encoded(_TARGETS[name].at(), [Message.user("look", unknown)])


@pytest.mark.parametrize("name", _TARGETS)
def test_file_in_a_system_message_is_reported(name: str) -> None:
    history = [Message(role=Role.SYSTEM, parts=(TextPart(text="kind"), _IMAGE_BYTES)), Message.user("who?")]
    formatted = PromptFormatter.format_messages(history, _TARGETS[name].at())
    (entry,) = formatted.report.entries
    assert (entry.code, entry.severity, entry.message, entry.part) == ("media_dropped", "lossy", 0, 1)


async def test_nothing_but_blanks_is_no_question() -> None:
    client = AIModelClient(_TARGETS["gemini 3.8"].at(), AIModelCallConfig(test_mode=True))
    with pytest.raises(ConfigurationError, match="nothing to ask"):
        await client.generate(messages=[Message.user(" "), Message.system("lead")])


# ---------------------------------------------------------------------------------------------------- knobs


@dataclass(frozen=True, slots=True)
class _Knob:
    """What a config adds to a bare request (or changes in it), and which warnings it brings."""

    names: str
    config: AIModelCallConfig
    added: dict[str, object]
    dropped: tuple[str, ...] = ()
    adjusted: tuple[str, ...] = ()
    headers: dict[str, str] = field(default_factory=dict[str, str])


def _config(**knobs: object) -> AIModelCallConfig:
    return AIModelCallConfig.model_validate(knobs)


_SAMPLED = {"anthropic-version": VERSION_WITH_SAMPLING}
_UNSAMPLED = {"anthropic-version": VERSION}
_REASONING = "responses o3-mini,responses gpt-6.2-sol,chat o3-mini,chat gpt-6.2-sol"
_RESPONSES = "responses gpt-4o-mini,responses o3-mini,responses gpt-6.2-sol"
_PLAIN_OPENAI = "responses gpt-4o-mini,chat gpt-4o-mini"
_CHAT = "chat gpt-4o-mini,chat compatible,chat groq,chat mistral"
_CLAUDE = "messages claude-3-5,messages claude-4-5,messages claude-5-5"
_OLD_CLAUDE = "messages claude-3-5,messages claude-4-5"
_NEW_CLAUDE = "messages claude-5-5"
_GEMINI = "gemini 2.0,gemini 3.8"
_SIX = ("a", "b", "c", "d", "e", "f")

_MEANINGS = (
    _Knob(_RESPONSES, _config(max_output_tokens=100), {"max_output_tokens": 100}),
    _Knob(_RESPONSES, _config(max_output_tokens=16), {"max_output_tokens": 16}),
    _Knob(_RESPONSES, _config(max_output_tokens=15), {"max_output_tokens": 16}, adjusted=("max_output_tokens",)),
    _Knob("chat gpt-4o-mini,chat o3-mini,chat groq", _config(max_output_tokens=9), {"max_completion_tokens": 9}),
    _Knob("chat compatible,chat mistral", _config(max_output_tokens=9), {"max_tokens": 9}),
    _Knob(_CLAUDE, _config(max_output_tokens=9), {"max_tokens": 9}, headers=_UNSAMPLED),
    _Knob(_GEMINI, _config(max_output_tokens=9), {"generationConfig": {"maxOutputTokens": 9}}),
    _Knob(_PLAIN_OPENAI + ",chat mistral", _config(temperature=0), {"temperature": 0.0}),
    _Knob(_PLAIN_OPENAI, _config(temperature=2), {"temperature": 2.0}),
    _Knob(_PLAIN_OPENAI, _config(temperature=3), {"temperature": 2.0}, adjusted=("temperature",)),
    _Knob(_PLAIN_OPENAI, _config(temperature=1, top_p=0.5), {"temperature": 1.0, "top_p": 0.5}),
    _Knob(_REASONING, _config(temperature=1, top_p=0.5), {}, dropped=("temperature", "top_p")),
    _Knob(_OLD_CLAUDE, _config(temperature=0), {"temperature": 0.0}, headers=_SAMPLED),
    _Knob(_OLD_CLAUDE, _config(temperature=1.5), {"temperature": 1.0}, adjusted=("temperature",), headers=_SAMPLED),
    _Knob(_OLD_CLAUDE, _config(top_p=0.5, top_k=3), {"top_p": 0.5, "top_k": 3}, headers=_SAMPLED),
    _Knob(_OLD_CLAUDE, _config(temperature=1, top_p=0.5), {"temperature": 1.0}, dropped=("top_p",), headers=_SAMPLED),
    _Knob(
        _NEW_CLAUDE,
        _config(temperature=1, top_p=1, top_k=1),
        {},
        dropped=("temperature", "top_p", "top_k"),
        headers=_UNSAMPLED,
    ),
    _Knob(
        _GEMINI,
        _config(temperature=1, top_p=0.5, top_k=3, seed=7, stop=("END",)),
        {"generationConfig": {"temperature": 1.0, "topP": 0.5, "topK": 3, "seed": 7, "stopSequences": ["END"]}},
    ),
    _Knob(_GEMINI, _config(temperature=3), {"generationConfig": {"temperature": 2.0}}, adjusted=("temperature",)),
    _Knob("chat compatible,chat mistral", _config(top_k=3), {"top_k": 3}),
    _Knob("chat gpt-4o-mini,chat o3-mini,chat groq", _config(top_k=3), {}, dropped=("top_k",)),
    _Knob(_RESPONSES, _config(top_k=3, seed=7, stop=("E",)), {}, dropped=("top_k", "stop", "seed")),
    _Knob("chat gpt-4o-mini,chat compatible,chat groq", _config(seed=0), {"seed": 0}),
    _Knob("chat mistral", _config(seed=0), {"random_seed": 0}),
    _Knob("chat o3-mini", _config(seed=0, stop=("E",)), {"stop": ["E"], "seed": 0}),
    _Knob("chat gpt-6.2-sol", _config(seed=0, stop=("E",)), {"seed": 0}, dropped=("stop",)),
    _Knob(_CLAUDE, _config(seed=0), {}, dropped=("seed",), headers=_UNSAMPLED),
    _Knob(_CHAT, _config(stop=_SIX[:4]), {"stop": ["a", "b", "c", "d"]}),
    _Knob(_CHAT, _config(stop=_SIX[:5]), {"stop": ["a", "b", "c", "d"]}, adjusted=("stop",)),
    _Knob(_GEMINI, _config(stop=_SIX[:5]), {"generationConfig": {"stopSequences": ["a", "b", "c", "d", "e"]}}),
    _Knob(
        _GEMINI,
        _config(stop=_SIX),
        {"generationConfig": {"stopSequences": ["a", "b", "c", "d", "e"]}},
        adjusted=("stop",),
    ),
    _Knob(_CLAUDE, _config(stop=_SIX), {"stop_sequences": list(_SIX)}, headers=_UNSAMPLED),
    _Knob(_CLAUDE, _config(extra_body={"metadata": {"user_id": "u"}}), {"metadata": {"user_id": "u"}}),
    _Knob(
        _GEMINI,
        _config(top_k=3, extra_body={"generationConfig": {"candidateCount": 1}}),
        {"generationConfig": {"topK": 3, "candidateCount": 1}},
    ),
    _Knob(
        "chat groq", _config(max_output_tokens=5, extra_body={"max_completion_tokens": 6}), {"max_completion_tokens": 6}
    ),
)


@pytest.mark.parametrize(
    ("name", "knob"),
    [
        pytest.param(name, knob, id=f"{name} {knob.config.model_dump(exclude_defaults=True)}")
        for knob in _MEANINGS
        for name in knob.names.split(",")
    ],
)
def test_knob_reaches_the_wire(name: str, knob: _Knob) -> None:
    endpoint = _TARGETS[name].at()
    bare = _body(_encoded(endpoint, _talk(1)))
    wire = _encoded(endpoint, _talk(1), config=knob.config)
    body = _body(wire)
    assert {key: value for key, value in body.items() if bare.get(key) != value} == knob.added
    assert bare.keys() <= body.keys()
    warned = {(warning.code, warning.knob) for warning in wire.warnings}
    assert warned == {("param_dropped", at) for at in knob.dropped} | {("param_adjusted", at) for at in knob.adjusted}
    assert all(_TARGETS[name].model in warning.message for warning in wire.warnings)
    assert knob.headers.items() <= wire.headers.items()


async def test_warnings_reach_the_response() -> None:
    async with ProviderServer() as server:
        endpoint = _TARGETS["chat o3-mini"].at(server.api(_Provider.OPEN_AI, dialect=Dialect.OPENAI_CHAT))
        response = await AIModelClient(endpoint, AIModelCallConfig(temperature=1, top_k=2)).generate("hi")
    assert [warning.knob for warning in response.warnings] == ["temperature", "top_k"]


def test_anthropic_always_has_a_limit() -> None:
    unknown = _TARGETS["messages claude-5-5"].at()
    small = AIModelEndpoint(api=unknown.api, ai_model=Claude35Haiku)
    assert _body(_encoded(unknown, _talk(1)))["max_tokens"] == 16_384
    assert _body(_encoded(small, _talk(1)))["max_tokens"] == 8_192


_PATHS = {
    "responses gpt-4o-mini": ("/responses", "/responses"),
    "chat gpt-4o-mini": ("/chat/completions", "/chat/completions"),
    "messages claude-5-5": ("/v1/messages", "/v1/messages"),
    "gemini 3.8": (
        "/v1beta/models/gemini-3.8-flash:generateContent",
        "/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse",
    ),
}


@pytest.mark.parametrize("name", _PATHS)
def test_plain_and_streamed_differ_only_in_how_they_say_so(name: str) -> None:
    endpoint = _TARGETS[name].at()
    plain, streamed = _encoded(endpoint, _talk(2)), _encoded(endpoint, _talk(2), stream=True)
    assert (plain.path, streamed.path) == _PATHS[name]
    difference: dict[str, object] = {} if name.startswith("gemini") else {"stream": True}
    if name.startswith("chat"):
        difference["stream_options"] = {"include_usage": True}
    assert _body(streamed) == _body(plain) | difference


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("tunedModels/mine", "/v1beta/tunedModels/mine:generateContent"),
        ("odd name?#", "/v1beta/models/odd%20name%3F%23:generateContent"),
    ],
)
def test_gemini_model_is_a_path(model: str, path: str) -> None:
    assert _encoded(_Target(_Provider.GOOGLE_AI, model).at(), _talk(1)).path == path


def test_responses_are_not_stored_at_the_provider() -> None:
    body = _body(_encoded(_TARGETS["responses o3-mini"].at(), _talk(2)))
    assert (body["store"], body["include"]) == (False, ["reasoning.encrypted_content"])


@pytest.mark.parametrize("name", _TARGETS)
def test_longer_histories_begin_with_the_same_bytes(name: str) -> None:
    """What turn n sent is the beginning of what turn n+1 sends, or no cache of the provider's would ever hit."""
    endpoint = _TARGETS[name].at()
    key = {"responses": "input", "chat": "messages", "messages": "messages", "gemini": "contents"}[name.split()[0]]
    sent = [orjson.dumps(_body(_encoded(endpoint, _talk(turns)))[key]) for turns in range(1, 6)]
    assert all(later.startswith(earlier[:-1]) for earlier, later in pairwise(sent))
