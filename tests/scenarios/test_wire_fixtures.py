"""Answers of our own words in the bytes of each dialect, for shapes that recordings test too.

``tests/fixtures/<dialect>/<shape>.sse`` is a stream, ``.json`` a plain body; both forms share one expectation.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from dhenara_async import AIModel, AIModelAPI, AIModelAPIProviderEnum, AIModelClient, AIModelEndpoint, Dialect
from dhenara_async.testing import ReplayTransport, check_grammar

FOLDER = Path(__file__).parent.parent / "fixtures"
_PROVIDERS = {
    Dialect.ANTHROPIC_MESSAGES: AIModelAPIProviderEnum.ANTHROPIC,
    Dialect.GEMINI: AIModelAPIProviderEnum.GOOGLE_AI,
    Dialect.OPENAI_CHAT: AIModelAPIProviderEnum.OPENAI_COMPATIBLE,
    Dialect.OPENAI_RESPONSES: AIModelAPIProviderEnum.OPENAI_COMPATIBLE,
}


@dataclass(frozen=True, slots=True)
class Expected:
    """The content of an answer: for each choice its text, the types of its parts and its finish reason."""

    texts: tuple[str, ...]
    parts: tuple[tuple[str, ...], ...]
    finish: tuple[str, ...]
    input_tokens: int
    output_tokens: int


EXPECTED = {
    "anthropic_messages/code_execution": Expected(
        ("Two leaves.",), (("hosted_tool", "hosted_tool", "text"),), ("stop",), 12, 9
    ),
    "openai_responses/code_execution": Expected(("Two leaves.",), (("hosted_tool", "text"),), ("stop",), 6, 5),
    "openai_responses/refusal_after_reasoning": Expected(("",), (("reasoning", "refusal"),), ("refusal",), 6, 5),
    "anthropic_messages/redacted_thinking": Expected(
        ("Moss grows slowly.",), (("reasoning", "text"),), ("stop",), 12, 9
    ),
    "gemini/code_execution": Expected(("Two leaves.",), (("hosted_tool", "hosted_tool", "text"),), ("stop",), 5, 8),
    "gemini/image_output": Expected(("A leaf:",), (("text", "file"),), ("stop",), 5, 8),
    "openai_chat/logprobs": Expected(("Moss",), (("text",),), ("stop",), 7, 1),
    "openai_chat/multi_choice": Expected(("Moss", "Fern leaf"), (("text",), ("text",)), ("stop", "length"), 7, 4),
}
_FILES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.*"))


def _client(name: str) -> AIModelClient:
    dialect = Dialect(name.split("/")[0])
    api = AIModelAPI.model_validate(
        {"provider": _PROVIDERS[dialect], "dialect": dialect, "base_url": "http://127.0.0.1", "api_key": "key"}
    )
    kind = "text/event-stream" if name.endswith(".sse") else "application/json"
    transport = ReplayTransport((FOLDER / name).read_bytes(), headers={"content-type": kind})
    return AIModelClient(AIModelEndpoint(api=api, ai_model=AIModel(model_name="fern")), transport=transport)


@pytest.mark.parametrize("name", _FILES)
async def test_a_wire_fixture_is_read_as_expected(name: str) -> None:
    if name.endswith(".sse"):
        async with _client(name).stream("Go on.") as stream:
            events = [event async for event in stream]
        check_grammar(events)
        response = stream.response.chat_response
    else:
        response = (await _client(name).generate("Go on.")).chat_response
    found = Expected(
        texts=tuple(choice.text() for choice in response.choices),
        parts=tuple(tuple(part.type for part in choice.parts) for choice in response.choices),
        finish=tuple(choice.finish_reason for choice in response.choices),
        input_tokens=response.usage.input_tokens or 0,
        output_tokens=response.usage.output_tokens or 0,
    )
    assert found == EXPECTED[name.rsplit(".", 1)[0]]


def test_every_expectation_has_a_fixture() -> None:
    assert EXPECTED.keys() == {name.rsplit(".", 1)[0] for name in _FILES}
