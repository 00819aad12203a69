"""Reasoning of another model, sent as text under the policy for it: which origins count as another model."""

import pytest
from pydantic import JsonValue

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelEndpoint,
    ConversionPolicy,
    Message,
    PromptFormatter,
    ReasoningPart,
    Role,
    TextPart,
)
from dhenara_async.hosts.registry import expected_origin

_Provider = AIModelAPIProviderEnum
AS_TEXT = ConversionPolicy(foreign_reasoning="as_text")


def endpoint(provider: AIModelAPIProviderEnum, model: str, *, key: str = "key") -> AIModelEndpoint:
    return AIModelEndpoint(api=AIModelAPI(provider=provider, api_key=key), ai_model=AIModel(model_name=model))


CLAUDE = endpoint(_Provider.ANTHROPIC, "claude-opus-5-5")
DEEPSEEK = endpoint(_Provider.DEEPSEEK, "deepseek-v4-pro")


def thought(who: AIModelEndpoint | None, *, signed: bool) -> list[Message]:
    """A conversation with an answer of ``who`` that has a reasoning part."""
    origin = None if who is None else expected_origin(who)
    state: dict[str, JsonValue] | None = {"type": "thinking", "signature": "sealed"} if signed else None
    return [
        Message.user("Well?"),
        Message(
            role=Role.ASSISTANT,
            parts=(
                ReasoningPart(text="Hm.", origin=origin, provider_state=state),
                TextPart(text="Yes.", origin=origin),
            ),
        ),
        Message.user("Why?"),
    ]


@pytest.mark.parametrize(
    ("who", "target", "told"),
    [
        (None, CLAUDE, True),
        (DEEPSEEK, CLAUDE, True),
        (endpoint(_Provider.ANTHROPIC, "claude-sonnet-5-5"), CLAUDE, True),  # another model of the same account
        (endpoint(_Provider.ANTHROPIC, "claude-opus-5-5", key="another"), CLAUDE, True),
        (CLAUDE, CLAUDE, False),  # the model's own reasoning is sent unchanged or dropped
        (endpoint(_Provider.OPEN_AI, "gpt-6-sol"), endpoint(_Provider.OPEN_AI, "gpt-6.2-sol"), True),
    ],
)
@pytest.mark.parametrize("signed", [True, False])
def test_reasoning_of_another_model_becomes_text(
    who: AIModelEndpoint | None, target: AIModelEndpoint, *, signed: bool, told: bool
) -> None:
    formatted = PromptFormatter.format_messages(thought(who, signed=signed), target, policy=AS_TEXT)
    answer = formatted.messages[1]
    codes = [entry.code for entry in formatted.report.entries if entry.part == 0]
    assert ("reasoning_as_text" in codes) is told
    if told:
        assert [part.type for part in answer.parts] == ["text", "text"]
        assert answer.parts[0].get_text() == "Hm."
        assert answer.parts[0].provider_state is None
    else:
        assert [part.type for part in answer.parts] == (["reasoning", "text"] if signed else ["text"])
    omitted = PromptFormatter.format_messages(thought(who, signed=signed), target).messages[1]
    assert "Hm." not in [part.get_text() for part in omitted.parts if isinstance(part, TextPart)]
