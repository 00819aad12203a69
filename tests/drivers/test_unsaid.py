"""What a driver is handed it says or refuses: nothing is left out silently, even of what no formatter lets through.

Here drivers encode histories that nobody made legal. Whatever part stands wherever in them, its words are in the body,
or an error names the model.
"""

import base64
from collections.abc import Mapping
from itertools import product

import orjson
import pytest
from chat_hosts import MODELS, PNG, endpoint_at

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelEndpoint,
    FilePart,
    HostedToolPart,
    JsonPart,
    Message,
    ReasoningPart,
    RefusalPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.errors import UnsupportedError
from dhenara_async.hosts.registry import driver_for, expected_origin
from dhenara_async.messages.messages import Part, PartBase
from dhenara_async.request import ChatRequest

_Provider = AIModelAPIProviderEnum


def _endpoint(provider: AIModelAPIProviderEnum, model: str) -> AIModelEndpoint:
    return AIModelEndpoint(api=AIModelAPI(provider=provider, api_key="key"), ai_model=AIModel(model_name=model))


_TARGETS: Mapping[str, AIModelEndpoint] = {
    "responses": _endpoint(_Provider.OPEN_AI, "gpt-6.2-sol"),
    "messages": _endpoint(_Provider.ANTHROPIC, "claude-sonnet-5-5"),
    "gemini 2.5": _endpoint(_Provider.GOOGLE_AI, "gemini-2.5-flash"),
    "gemini 3.8": _endpoint(_Provider.GOOGLE_AI, "gemini-3.8-flash"),
    **{f"chat {host.value}": endpoint_at(host) for host in MODELS},
}

# Twelve letters: they stay whole in base64, where they begin at a multiple of three bytes.
_WORDS = "canarycanary"
_IN_BASE64 = base64.b64encode(_WORDS.encode())
_PDF = FilePart(media_type="application/pdf", data=b"%PDF-1.7 " + _WORDS.encode(), filename="a.pdf")
_PICTURE = FilePart(media_type="image/png", data=PNG + b"." * (-len(PNG) % 3) + _WORDS.encode())
_SOUND = FilePart(media_type="audio/wav", data=b"RIFF.." + _WORDS.encode())
_FILES = {
    "picture": _PICTURE,
    "sound": _SOUND,
    "pdf": _PDF,
    "text file": FilePart(media_type="text/plain", data=_WORDS.encode()),
    "video": FilePart(media_type="video/mp4", data=_WORDS.encode()),
    "archive": FilePart(media_type="application/zip", data=_WORDS.encode()),
    "picture by url": FilePart.from_url(f"https://host.test/{_WORDS}.png"),
    "pdf by id": FilePart(media_type="application/pdf", file_id=_WORDS),
}
_PARTS: Mapping[str, Part] = {
    **_FILES,
    "text": TextPart(text=_WORDS),
    "refusal": RefusalPart(text=_WORDS),
    "bare thought": ReasoningPart(text=_WORDS),
    "sealed thought": ReasoningPart(
        text=_WORDS,
        provider_state={
            "type": "thinking",
            "signature": _WORDS,
            "encrypted_content": _WORDS,
            "thoughtSignature": _WORDS,
            "reasoning_details": [{"type": "reasoning.text", "text": _WORDS}],
        },
    ),
    "call": ToolCallPart(call_id="call_1", name="f", arguments=f'{{"a": "{_WORDS}"}}'),
    "broken call": ToolCallPart(call_id="call_1", name="f", arguments=f'{{"a": "{_WORDS}'),
    "call with a list": ToolCallPart(call_id="call_1", name="f", arguments=f'["{_WORDS}"]'),
    "result": ToolResultPart(call_id="call_1", name="f", content=[TextPart(text=_WORDS)]),
    "failed result": ToolResultPart(call_id="call_1", name="f", content=[JsonPart(value=[_WORDS])], is_error=True),
    **{f"result with {kind}": ToolResultPart(call_id="call_1", name="f", content=[f]) for kind, f in _FILES.items()},
    "foreign tool": HostedToolPart(name=_WORDS, input=_WORDS, output=_WORDS),
    "report": HostedToolPart(name="input_transformations", output=_WORDS, report=True),
}


def _body(endpoint: AIModelEndpoint, message: Message) -> bytes:
    history = (Message.user("so?"), message, Message.user("and?"))
    request = ChatRequest(messages=history, instructions=(), config=AIModelCallConfig(), stream=False)
    return driver_for(endpoint).encode(request, endpoint).body


@pytest.mark.parametrize("target", _TARGETS)
def test_every_part_is_encoded_or_refused(target: str) -> None:
    endpoint = _TARGETS[target]
    outcomes: set[tuple[Role, str, bool]] = set()
    for role, (kind, part) in product(Role, _PARTS.items()):
        for origin in (None, expected_origin(endpoint)):
            message = Message(role=role, parts=[part.model_copy(update={"origin": origin}), TextPart(text="too")])
            try:
                body = _body(endpoint, message)
            except UnsupportedError as refused:
                assert endpoint.ai_model.model_name in str(refused), (role, kind)
                outcomes.add((role, kind, False))
                continue
            orjson.loads(body)
            assert _WORDS.encode() in body or _IN_BASE64 in body, (role, kind)
            outcomes.add((role, kind, True))
    # both occur, and each where it must
    assert {(Role.USER, "text", True), (Role.ASSISTANT, "text", True), (Role.ASSISTANT, "call", True)} <= outcomes
    assert {(Role.USER, "call", False), (Role.ASSISTANT, "result", False), (Role.SYSTEM, "call", False)} <= outcomes


def test_a_stand_in_for_silence_would_be_seen() -> None:
    """The words are looked for where they would be: a body without them does not pass for one that has them."""
    said = _body(_TARGETS["messages"], Message.user(_PICTURE))
    assert _IN_BASE64 in said
    assert _WORDS.encode() not in said
    assert _IN_BASE64 not in _body(_TARGETS["messages"], Message.user("too"))


_NEVER: list[tuple[str, Role, Part]] = [
    ("responses", Role.ASSISTANT, ReasoningPart(text="hm", provider_state={"id": "rs_1", "summary": []})),
    ("responses", Role.ASSISTANT, HostedToolPart(name="input_transformations", report=True)),
    ("responses", Role.ASSISTANT, FilePart(media_type="audio/wav", data=b"RIFF")),
    ("responses", Role.ASSISTANT, RefusalPart(text="no")),
    ("messages", Role.ASSISTANT, ReasoningPart(text="hm", provider_state={"type": "thinking", "signature": ""})),
    ("messages", Role.ASSISTANT, HostedToolPart(name="container", provider_state={"type": "container"}, report=True)),
    ("messages", Role.ASSISTANT, HostedToolPart(name="web_search_call")),
    ("messages", Role.ASSISTANT, ToolCallPart(call_id="c", name="f", arguments="{")),
    ("messages", Role.ASSISTANT, FilePart(media_type="image/png", data=PNG)),
    ("messages", Role.SYSTEM, TextPart(text="later")),
    ("gemini 3.8", Role.SYSTEM, TextPart(text="later")),
    ("gemini 3.8", Role.ASSISTANT, HostedToolPart(name="web_search_call", provider_state={"type": "web_search_call"})),
    ("gemini 3.8", Role.ASSISTANT, ToolCallPart(call_id="c", name="f", arguments="[1]")),
    ("gemini 3.8", Role.USER, ToolResultPart(call_id="c", name="f", content=[_SOUND])),
    ("gemini 2.5", Role.USER, ToolResultPart(call_id="c", name="f", content=[_PICTURE])),
    ("chat groq", Role.ASSISTANT, RefusalPart(text="no")),
    ("chat groq", Role.ASSISTANT, HostedToolPart(name="executed_tools")),
    ("chat xai", Role.ASSISTANT, ReasoningPart(text="hm")),
    ("chat openai", Role.USER, ToolResultPart(call_id="c", name="f", content=[_PICTURE])),
    ("chat openai", Role.SYSTEM, _PICTURE),
]


@pytest.mark.parametrize(("target", "role", "part"), _NEVER)
def test_parts_that_a_formatter_removes_are_refused(target: str, role: Role, part: PartBase) -> None:
    endpoint = _TARGETS[target]
    own = part.model_copy(update={"origin": expected_origin(endpoint)})
    with pytest.raises(UnsupportedError, match=endpoint.ai_model.model_name):
        _body(endpoint, Message.model_validate({"role": role, "parts": [own]}))


def test_thoughts_with_and_without_details_all_go_back() -> None:
    """The host takes details instead of words, so words alone become a detail."""
    detailed = ReasoningPart(text="one", provider_state={"reasoning_details": [{"type": "reasoning.text", "index": 1}]})
    body = orjson.loads(
        _body(_TARGETS["chat openrouter"], Message.assistant(detailed, ReasoningPart(text="two"), "so"))
    )
    said = body["messages"][1]
    assert said["reasoning_details"] == [
        {"type": "reasoning.text", "index": 1},
        {"type": "reasoning.text", "text": "two"},
    ]
    assert "reasoning" not in said
