"""A long conversation to format: four providers answer in turn, each with its own native state.

The kinds of turn repeat after five turns, the providers after four: twenty turns have every kind from every provider.
"""

from collections.abc import Mapping
from functools import cache

from pydantic import JsonValue

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelEndpoint,
    ChatResponse,
    ConversationNode,
    Dialect,
    FinishReason,
)
from dhenara_async.hosts.registry import expected_origin
from dhenara_async.messages.messages import (
    Citation,
    FilePart,
    HostedToolPart,
    Origin,
    Part,
    ProviderState,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.response import Choice

_SEAL = "c2VhbGVkIHJlYXNvbmluZyBvZiBzb21lIGh1bmRyZWQgYnl0ZXMu" * 8
_WORDS = "A stream is a series of values in time, and whoever reads it decides how fast it is read. " * 7
_PICTURE = FilePart(media_type="image/png", data=b"\x89PNG\r\n\x1a\n" + bytes(2000), filename="chart.png")


def _endpoint(provider: AIModelAPIProviderEnum, model: str, dialect: Dialect | None = None) -> AIModelEndpoint:
    api = AIModelAPI(provider=provider, api_key="benchmark", dialect=dialect)
    return AIModelEndpoint(api=api, ai_model=AIModel(model_name=model))


_Provider = AIModelAPIProviderEnum
_ORIGINS: Mapping[str, AIModelEndpoint] = {
    "openai_chat": _endpoint(_Provider.OPEN_AI, "gpt-5.6-sol", Dialect.OPENAI_CHAT),
    "openai_responses": _endpoint(_Provider.OPEN_AI, "gpt-6.2-sol"),
    "anthropic_messages": _endpoint(_Provider.ANTHROPIC, "claude-sonnet-5-5"),
    "gemini": _endpoint(_Provider.GOOGLE_AI, "gemini-3.8-flash"),
}

TARGETS: Mapping[str, AIModelEndpoint] = {
    **_ORIGINS,
    # its reasoning is bound to its prefix, which must be hashed
    "anthropic_bound": _endpoint(_Provider.ANTHROPIC, "claude-fable-5-2"),
}
"""Who is asked to go on with it, by the name of the row: those who have said a part of it, and one newcomer."""


@cache
def mixed_history(turns: int) -> tuple[ConversationNode, ...]:
    """Return the first ``turns`` turns, oldest first."""
    nodes: list[ConversationNode] = []
    origins = [(name, expected_origin(endpoint)) for name, endpoint in _ORIGINS.items()]
    calls: list[ToolCallPart] = []
    for number in range(turns):
        name, origin = origins[number % len(origins)]
        parts = [part.model_copy(update={"origin": origin}) for part in _said(number, name)]
        results = [ToolResultPart.of(call, {"degrees": 22, "sky": "clear"}, _WORDS[:200]) for call in calls]
        calls = [part for part in parts if isinstance(part, ToolCallPart)]
        nodes.append(_node(number, nodes[-1].id if nodes else None, origin, parts, results))
    return tuple(nodes)


def _node(
    number: int, parent: str | None, origin: Origin, parts: list[Part], results: list[ToolResultPart]
) -> ConversationNode:
    choice = Choice(parts=tuple(parts), finish_reason=FinishReason.STOP)
    return ConversationNode(
        id=f"node-{number}",
        parent_id=parent,
        user_query="" if results else f"Question {number}: what is a stream, and who decides how fast it is read?",
        attached_files=(_PICTURE,) if number % 5 == 0 else (),
        tool_results=results,
        response=ChatResponse(choices=(choice,), model=origin.model, provider=origin.provider),
        timestamp="2026-11-22T12:00:00+00:00",
        origin=origin,
    )


def _said(number: int, dialect: str) -> list[Part]:
    text = TextPart(text=f"Answer {number}: {_WORDS}")
    match number % 5:
        case 0:
            return [_thought(number, dialect), text]
        case 1:
            calls = (_call(number, place, dialect) for place in range(2))
            return [_thought(number, dialect), TextPart(text="Let me look."), *calls]
        case 2:
            return [text]
        case 3:
            return [*_searched(number, dialect), _cited(number, dialect)]
        case _:
            return [_thought(number, dialect), text]


def _thought(number: int, dialect: str) -> ReasoningPart:
    text = f"Thought {number}: {_WORDS[:300]}"
    summary: JsonValue = {"type": "summary_text", "text": text}
    state: Mapping[str, ProviderState] = {
        "openai_responses": {"id": f"rs_{number}", "summary": [summary], "encrypted_content": _SEAL},
        "anthropic_messages": {"type": "thinking", "signature": _SEAL},
        "gemini": {"thoughtSignature": _SEAL},
    }
    return ReasoningPart(text=text, provider_state=state.get(dialect))


def _call(number: int, place: int, dialect: str) -> ToolCallPart:
    name = {"anthropic_messages": "toolu_", "gemini": ""}.get(dialect, "call_")
    state: ProviderState | None = None
    if dialect == "gemini" and place == 0:
        state = {"thoughtSignature": _SEAL}
    elif dialect == "openai_responses":
        state = {"id": f"fc_{number}_{place}"}
    return ToolCallPart(
        call_id=f"{name}{number:020d}{place:04d}" if name else "",
        name="weather",
        arguments='{"city": "Paris", "days": [1, 2, 3]}',
        provider_state=state,
    )


def _searched(number: int, dialect: str) -> list[Part]:
    """Build the parts of a hosted search."""
    query: JsonValue = {"query": f"rain {number}"}
    if dialect == "openai_responses":
        action: JsonValue = {"type": "search", "query": f"rain {number}"}
        item: ProviderState = {"id": f"ws_{number}", "type": "web_search_call", "status": "completed", "action": action}
        return [
            HostedToolPart(
                name="web_search_call", tool="web_search", call_id=f"ws_{number}", input=action, provider_state=item
            )
        ]
    if dialect == "anthropic_messages":
        call_id = f"srvtoolu_{number}"
        use: ProviderState = {"type": "server_tool_use", "id": call_id, "name": "web_search", "input": query}
        found: JsonValue = [
            {"type": "web_search_result", "url": "https://news.test/rain", "title": "Rain", "encrypted_content": _SEAL}
        ]
        kind = "web_search_tool_result"
        result: ProviderState = {"type": kind, "tool_use_id": call_id, "content": found}
        return [
            HostedToolPart(name="server_tool_use", tool="web_search", call_id=call_id, input=query, provider_state=use),
            HostedToolPart(name=kind, tool="web_search", call_id=call_id, output=found, provider_state=result),
        ]
    return []


def _cited(number: int, dialect: str) -> TextPart:
    source: JsonValue = {"url": "https://news.test/rain", "title": "Rain"}
    located: JsonValue = {"type": "web_search_result_location", "cited_text": "It rains.", "encrypted_index": _SEAL}
    state: Mapping[str, ProviderState] = {
        "openai_responses": {"id": f"msg_{number}", "annotations": [{"type": "url_citation", **source}]},
        "anthropic_messages": {"type": "text", "citations": [{**located, **source}]},
        "gemini": {"groundingMetadata": {"webSearchQueries": ["rain"]}},
    }
    citation = Citation(url="https://news.test/rain", title="Rain", cited_text="It rains.", start=0, end=8)
    return TextPart(text=f"Answer {number}: {_WORDS}", citations=(citation,), provider_state=state.get(dialect))
