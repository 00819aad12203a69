"""A streamed and a plain answer of the same content fold to equal responses, in every dialect."""

import pytest

from dhenara_async import (
    AIModel,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    ChatResponse,
    Dialect,
    FinishReason,
    TextPart,
)
from dhenara_async.testing import Answer, ProviderServer, ScriptedToolCall

SPEAKERS = {
    Dialect.ANTHROPIC_MESSAGES: (AIModelAPIProviderEnum.ANTHROPIC, "claude-sonnet-5-5"),
    Dialect.OPENAI_RESPONSES: (AIModelAPIProviderEnum.OPEN_AI, "gpt-6.2-sol"),
    Dialect.OPENAI_CHAT: (AIModelAPIProviderEnum.OPEN_AI, "gpt-4o-mini"),
    Dialect.GEMINI: (AIModelAPIProviderEnum.GOOGLE_AI, "gemini-3.8-flash"),
}
PARIS = ScriptedToolCall(call_id="call_1", name="weather", arguments='{"city":"Paris"}')
NOWHERE = ScriptedToolCall(call_id="call_2", name="time", arguments="{}")

ANSWERS = {
    "text": Answer(text="One, two \N{ROBOT FACE}\nthree."),
    "nothing": Answer(text=""),
    "reasoning": Answer(reasoning="Let me think.", text="Four."),
    "call": Answer(tool_calls=(PARIS,)),
    "calls after words": Answer(text="Let me look.", tool_calls=(PARIS, NOWHERE)),
    "calls after thoughts": Answer(reasoning="I need two things.", tool_calls=(PARIS, NOWHERE)),
    "refusal": Answer(refusal="I will not."),
    **{f"ends by {reason}": Answer(text="Five.", finish_reason=reason) for reason in FinishReason if reason != "error"},
}
# What is made anew for each answer, and so differs between two of the same content.
FRESH = frozenset({"id", "signature", "encrypted_content", "thoughtSignature", "call_id"})


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("dialect", SPEAKERS)
async def test_stream_and_plain_are_equal(dialect: Dialect, kind: str) -> None:
    provider, model = SPEAKERS[dialect]
    async with ProviderServer([ANSWERS[kind], ANSWERS[kind]]) as server:
        endpoint = AIModelEndpoint(api=server.api(provider, dialect=dialect), ai_model=AIModel(model_name=model))
        client = AIModelClient(endpoint)
        plain = await client.generate("Go on.")
        streamed = await client.generate("Go on.", config=AIModelCallConfig(streaming=True))
        assert [seen.stream for seen in server.requests] == [False, True]
    assert comparable(plain.chat_response) == comparable(streamed.chat_response)


def comparable(response: ChatResponse) -> object:
    """The response without what is fresh; Gemini signs an answer on an empty text of its own when it streams."""
    choices = tuple(
        choice.model_copy(
            update={"parts": tuple(part for part in choice.parts if not isinstance(part, TextPart) or part.text)}
        )
        for choice in response.choices
    )
    told = response.model_copy(update={"choices": choices}).model_dump(exclude={"response_id"})
    return _without_fresh(told)


def _without_fresh(value: object) -> object:
    match value:
        case dict():
            items: dict[str, object] = value  # pyright: ignore[reportUnknownVariableType] - a model's dump
            return {key: _without_fresh(item) for key, item in items.items() if key not in FRESH} or None
        case list() | tuple():
            values: list[object] | tuple[object, ...] = value  # pyright: ignore[reportUnknownVariableType]
            return [_without_fresh(item) for item in values]
        case _:
            return value
