"""Conversations with every kind of part, from four dialects and from other models and accounts of the driver.

Each has opaque state in the shape of its source, with a marker that no request may contain.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dhenara_async.conversation import ConversationNode
from dhenara_async.endpoint import AIModelAPIProviderEnum, Dialect
from dhenara_async.messages.messages import (
    Citation,
    FilePart,
    HostedToolPart,
    JsonPart,
    Message,
    Origin,
    Part,
    ProviderState,
    ReasoningPart,
    RefusalPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.response import ChatResponse, Choice, FinishReason
from dhenara_async.usage.tokens import Usage

CANARY = "CANARYthatMayReachNobody"
"""A marker in every opaque state of these histories; no request may contain it."""

_WHEN = "2026-11-22T12:00:00+00:00"
_STRANGE = 'Words: “é”, \\ and "quotes",\n\ta tab, 你好, \u2028 and 😊.'
_PNG = b"\x89PNG\r\n\x1a\nconformance"
_PDF = b"%PDF-1.7 conformance"

Seals = Mapping[Literal["thought", "hidden", "text", "call", "file", "search", "found"], ProviderState]


@dataclass(frozen=True, slots=True)
class SampleHistory:
    """The turns of one source.

    Attributes:
        name: The name in a report.
        nodes: The turns, oldest first.
    """

    name: str
    nodes: Sequence[ConversationNode]


def histories(own: Origin) -> Iterator[SampleHistory]:
    """Yield histories that a driver must encode.

    Args:
        own: The origin of the driver's own answers.
    """
    for (provider, dialect), seals in _SOURCES.items():
        origin = Origin(
            provider=provider, dialect=dialect, endpoint="elsewhere.test", account="f" * 16, model="their-model-1"
        )
        yield _history(f"answers of {dialect} at another provider", origin, seals)
    anything = _anything()
    other = own.model_copy(update={"model": "another-model-1"})
    yield _history("answers of another model of the account", other, anything)
    stranger = own.model_copy(update={"account": "f" * 16})
    yield _history("answers of the same model for another account", stranger, anything)
    yield _history("answers of the model itself, stored without opaque state", own, {})


def mixed(own: Origin) -> SampleHistory:
    """Join the turns of all histories."""
    nodes = [node for history in histories(own) for node in history.nodes]
    return SampleHistory("a conversation of many models", nodes)


def with_system_message(own: Origin) -> Sequence[Message]:
    """Return messages with a system message between them, which conversations of nodes do not have."""
    return [
        Message.user("First question."),
        Message(role=Role.ASSISTANT, parts=(TextPart(text="First answer.", origin=own),)),
        Message.system("From here on, be brief."),
        Message.user("Second question.", _STRANGE),
    ]


# ---------------------------------------------------------------------------------------------------- the turns


def _history(name: str, origin: Origin, seals: Seals) -> SampleHistory:
    nodes: list[ConversationNode] = []

    def turn(*parts: Part, query: str = "", status: Literal["complete", "interrupted"] = "complete") -> None:
        own_parts = [part.model_copy(update={"origin": origin}) for part in parts]
        end = FinishReason.STOP if status == "complete" else FinishReason.ERROR
        response = ChatResponse(
            choices=(Choice(parts=tuple(own_parts), finish_reason=end),),
            usage=Usage(),
            model=origin.model,
            provider=origin.provider,
        )
        given, files = _RESULTS.get(len(nodes), ()), _files(origin) if len(nodes) == 3 else ()
        number = f"{len(nodes)}"
        node = ConversationNode(
            id=f"{name} {number}",
            user_query=query,
            attached_files=files,
            tool_results=given,
            response=response,
            timestamp=_WHEN,
            origin=origin,
            status=status,
        )
        nodes.append(node)

    state = seals.get
    source = Citation(url="https://news.test/rain", title="Rain", cited_text="It rains.", start=0, end=9)
    turn(
        ReasoningPart(text="A thought of somebody's.", provider_state=state("thought")),
        ReasoningPart(provider_state=state("hidden")),
        TextPart(text="An answer with its source.", citations=[source], provider_state=state("text")),
        RefusalPart(text="That much I will not say."),
        query=_STRANGE,
    )
    turn(
        TextPart(text="Let me look.", provider_state=state("text")),
        ToolCallPart(call_id=_IDS[0], name="weather", arguments='{"city": "Reykjavik"}', provider_state=state("call")),
        ToolCallPart(call_id=_IDS[1], name="a strange name!", arguments='{"depth": [1, {"of": "Tagus"}]}'),
        query="How is the weather?",
    )
    turn(
        HostedToolPart(
            name="web_search",
            tool="web_search",
            call_id="srvtoolu_1",
            input={"query": "rain"},
            provider_state=state("search"),
        ),
        HostedToolPart(
            name="web_search_result",
            tool="web_search",
            call_id="srvtoolu_1",
            output=[{"title": "Rain", "url": "https://news.test/rain"}],
            provider_state=state("found"),
        ),
        HostedToolPart(name="never heard of", provider_state=state("found")),
        HostedToolPart(name="input_transformations", report=True, provider_state=state("found")),
        FilePart(media_type="image/png", data=_PNG, provider_state=state("file")),
        TextPart(text="It has been searched and drawn."),
        query="Search and draw it.",
    )
    turn(TextPart(text="Seen."), query="Look at these.")
    turn(
        ReasoningPart(text="A thought that br", status="interrupted", provider_state=state("thought")),
        TextPart(text="This answer breaks o", status="interrupted"),
        query="Go on.",
        status="interrupted",
    )
    turn(
        ToolCallPart(call_id="", name="weather", arguments='{"city": "Par'),
        ToolCallPart(call_id="", name="time", arguments=""),
        query="Call with broken arguments, and get no result.",
    )
    turn(TextPart(text=" \n"), query="Say nothing.")
    turn(TextPart(text="The last answer."), query="And now?")
    return SampleHistory(name, nodes)


_IDS = ("toolu_01ABC-def_9", "call|fc_ä 1")
_RESULTS: Mapping[int, Sequence[ToolResultPart]] = {
    2: (
        ToolResultPart(
            call_id=_IDS[0],
            name="weather",
            content=(TextPart(text="Storms on Monday."), JsonPart(value={"wind": {"name": "Mistral-42"}})),
        ),
        ToolResultPart(
            call_id=_IDS[1], name="a strange name!", content=(TextPart(text="The station is shut."),), is_error=True
        ),
    ),
}


def _files(origin: Origin) -> Sequence[FilePart]:
    return (
        FilePart.from_bytes(_PNG, filename="picture.png"),
        FilePart.from_bytes(_PDF, filename="paper.pdf"),
        FilePart.from_bytes(b"Words of an attached file.", filename="note.txt"),
        FilePart(media_type="audio/flac", data=b"fLaCconformance"),
        FilePart.from_url("https://files.test/picture.png"),
        FilePart.from_url("https://files.test/paper.pdf"),
        FilePart(media_type="application/pdf", file_id=f"file-{CANARY}", origin=_unknown_origin(origin)),
    )


def _unknown_origin(origin: Origin) -> Origin:
    """Return an unknown origin, for file ids that are not valid."""
    return origin.model_copy(update={"account": "0" * 16, "endpoint": "files.elsewhere.test"})


# ---------------------------------------------------------------------------------------------------- opaque state


def _sealed(name: str) -> str:
    return f"{CANARY}{name}"


def _anything() -> Seals:
    """Return opaque state of an unknown dialect: every known field name at once."""
    sealed: ProviderState = {
        "type": "thinking",
        "signature": _sealed("signature"),
        "thoughtSignature": _sealed("thoughtSignature"),
        "encrypted_content": _sealed("encrypted"),
        "extra_content": {"google": {"thought_signature": _sealed("extra")}},
        "reasoning_details": [{"type": "reasoning.encrypted", "data": _sealed("data")}],
        "seal": _sealed("seal"),
        "id": _sealed("id"),
    }
    return {
        "thought": sealed,
        "hidden": sealed,
        "text": sealed,
        "call": sealed,
        "file": sealed,
        "search": sealed,
        "found": sealed,
    }


_SOURCES: Mapping[tuple[str, str], Seals] = {
    (AIModelAPIProviderEnum.ANTHROPIC.value, Dialect.ANTHROPIC_MESSAGES.value): {
        "thought": {"type": "thinking", "signature": _sealed("signature")},
        "hidden": {"type": "redacted_thinking", "data": _sealed("redacted")},
        "text": {
            "type": "text",
            "citations": [
                {
                    "type": "web_search_result_location",
                    "url": "https://news.test/rain",
                    "title": "Rain",
                    "cited_text": "It rains.",
                    "encrypted_index": _sealed("index"),
                }
            ],
        },
        "call": {"type": "tool_use", "caller": {"type": _sealed("caller")}},
        "search": {
            "type": "server_tool_use",
            "id": "srvtoolu_1",
            "name": "web_search",
            "input": {"query": "rain"},
            "sealed": _sealed("search"),
        },
        "found": {
            "type": "web_search_tool_result",
            "tool_use_id": "srvtoolu_1",
            "content": [{"type": "web_search_result", "encrypted_content": _sealed("found")}],
        },
    },
    (AIModelAPIProviderEnum.OPEN_AI.value, Dialect.OPENAI_RESPONSES.value): {
        "thought": {
            "type": "reasoning",
            "id": _sealed("rs"),
            "summary": [{"type": "summary_text", "text": _sealed("summary")}],
            "encrypted_content": _sealed("encrypted"),
        },
        "hidden": {"id": _sealed("rs"), "encrypted_content": _sealed("encrypted")},
        "text": {"id": _sealed("msg"), "phase": _sealed("phase")},
        "call": {"id": _sealed("fc"), "namespace": _sealed("namespace")},
        "file": {"id": _sealed("ig"), "type": "image_generation_call"},
        "search": {"id": _sealed("ws"), "type": "web_search_call", "status": "completed"},
        "found": {"id": _sealed("cmp"), "type": "compaction", "encrypted_content": _sealed("encrypted")},
    },
    (AIModelAPIProviderEnum.GOOGLE_AI.value, Dialect.GEMINI.value): {
        "thought": {"thoughtSignature": _sealed("thought")},
        "hidden": {"thoughtSignature": _sealed("hidden")},
        "text": {"thoughtSignature": _sealed("text")},
        "call": {"thoughtSignature": _sealed("call")},
        "file": {"thoughtSignature": _sealed("file"), "mimeType": _sealed("mime")},
        "search": {"executableCode": {"language": "PYTHON", "code": _sealed("code")}},
        "found": {"codeExecutionResult": {"output": _sealed("output")}, "thoughtSignature": _sealed("found")},
    },
    (AIModelAPIProviderEnum.OPENROUTER.value, Dialect.OPENAI_CHAT.value): {
        "thought": {"reasoning_details": [{"type": "reasoning.text", "text": "A thought", "signature": _sealed("s")}]},
        "hidden": {"reasoning_details": [{"type": "reasoning.encrypted", "data": _sealed("data")}]},
        "call": {"extra_content": {"google": {"thought_signature": _sealed("extra")}}},
        "search": {"executed_tools": [{"type": "search", "encrypted_content": _sealed("executed")}]},
        "found": {"executed_tools": [{"output": _sealed("executed")}]},
    },
}
