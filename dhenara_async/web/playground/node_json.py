"""Turns as the page gets them: question, answer, model, times, cost, and the report of the hop. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from dhenara_async.conversation import ConversationNode
from dhenara_async.formatter.conversion import ConversionReport
from dhenara_async.frozen import FrozenModel
from dhenara_async.messages.messages import FilePart, Origin, Part, ToolCallPart, ToolResultPart
from dhenara_async.stores import NodeOutline
from dhenara_async.tools.loop import decision_key
from dhenara_async.usage.tokens import Usage
from dhenara_async.web.chat.files import digest_of
from dhenara_async.web.chat.history import Json
from dhenara_async.web.playground.errors_in_words import told_error, told_node_error

_UNSEEN = {"provider_state", "origin"}
"""Fields of parts that are of no use to a page: opaque state for the provider, and the endpoint that made the part."""

DELETED = "deleted"
"""The status of a turn whose response was deleted; a node has no such status."""


class AskedModel(FrozenModel):
    """The model of a turn, as the page names it.

    Attributes:
        id: The name that the page asks by; None if no model of this app has answered.
        name: The name to show; None if it is not known.
        provider: The provider; None if it is not known.
        currency: The currency of its costs, ``USD``; None if the endpoint has rates of its own, in any currency.
    """

    id: str | None = None
    name: str | None = None
    provider: str | None = None
    currency: str | None = "USD"


def turn_json(
    node: ConversationNode, siblings: Sequence[str], model: AskedModel, chat_id: str, *, details: bool
) -> Json:
    """Return a turn that has ended.

    Args:
        node: The turn.
        siblings: The ids of all turns with its parent, oldest first.
        model: The name of the target that answered.
        chat_id: Its conversation, for the addresses of files.
        details: Whether the page is told an error as it is recorded, with the words of the provider.
    """
    answer = node.response
    parts = () if answer is None else answer.choices[0].parts
    report = report_json(node.conversion) if node.parent_id is not None or node.conversion.entries else None
    return {
        **_asked(node, siblings, model, chat_id),
        "parts": [part_json(part, chat_id, node.id) for part in parts],
        "model": model.name if answer is None else answer.model,
        "provider": model.provider if answer is None else answer.provider,
        "plan": [decision.model_dump(mode="json", exclude_none=True) for decision in node.plan],
        "status": node.status,
        "finishReason": None if answer is None or node.status != "complete" else answer.finish_reason.value,
        "error": told_node_error(node, details=details),
        "usage": usage_json(node.usage),
        "cost": None if node.cost is None else {"amount": f"{node.cost:f}", "currency": model.currency},
        "costUnknown": _why_no_cost(node),
        "askedAt": node.asked_at or node.timestamp,
        "endedAt": node.timestamp,
        "firstWordMs": _milliseconds(node.asked_at, node.first_word_at),
        "durationMs": _milliseconds(node.asked_at, node.timestamp),
        "report": report,
        "seams": [
            {"part": seam.part, "before": seam.before.model, "after": seam.after.model, "reason": seam.reason}
            for seam in node.seams
        ],
        "attempts": [
            {
                "model": attempt.endpoint.model,
                "provider": attempt.endpoint.provider,
                "outcome": "answered" if attempt.error is None else "failed",
                "status": attempt.status,
                "error": None if attempt.error is None else told_error(attempt.error, details=details),
            }
            for attempt in node.tries
        ],
        "warnings": [warning.model_dump(mode="json") for warning in node.warnings],
    }


def running_json(draft: ConversationNode, siblings: Sequence[str], model: AskedModel, chat_id: str) -> Json:
    """Return a turn that is being answered; its answer comes as events. Arguments as for ``turn_json``."""
    return {
        **_asked(draft, siblings, model, chat_id),
        "parts": [],
        "model": model.name,
        "provider": model.provider,
        "plan": [],
        "status": "running",
        "finishReason": None,
        "error": None,
        "usage": usage_json(Usage()),
        "cost": None,
        "costUnknown": None,
        "askedAt": draft.asked_at or draft.timestamp,
        "endedAt": None,
        "firstWordMs": None,
        "durationMs": None,
        "report": None,
        "seams": [],
        "attempts": [],
        "warnings": [],
        "waiting": None,
    }


def deleted_json(told: Json) -> Json:
    """Return a turn whose response was deleted: its place in the conversation, without its words."""
    error: Json = {"code": "Deleted", "message": "This response was deleted by a client of the API.", "advice": ""}
    empty: Json = {"question": "", "files": [], "toolResults": [], "instructions": [], "parts": [], "waiting": None}
    return {**told, **empty, "status": DELETED, "error": error, "report": None}


def tree_json(node: NodeOutline, model: AskedModel) -> Json:
    """Return a turn as the tree shows it."""
    return {
        "id": node.id,
        "parentId": node.parent_id,
        "question": node.question,
        "model": node.answered_by or model.name,
        "modelId": model.id,
        "status": node.status,
        "askedAt": node.asked_at,
        "files": node.files,
        "toolResults": node.tool_results,
        "losses": node.losses,
    }


def part_json(part: Part, chat_id: str, node_id: str) -> Json:
    """Return a part; a file has its address in place of its bytes."""
    if isinstance(part, FilePart):
        return {"type": "file", **file_json(part, chat_id, node_id)}
    if isinstance(part, ToolResultPart):
        return {"type": "tool_result", **result_json(part, chat_id, node_id)}
    return part.model_dump(mode="json", exclude_none=True, exclude=_UNSEEN)


def file_json(file: FilePart, chat_id: str, node_id: str) -> Json:
    """Return a file; ``url`` is relative to the page, and None if its bytes are not here."""
    digest = digest_of(file)
    url = None if digest is None else f"api/conversations/{chat_id}/files/{node_id}/{digest}"
    return {"name": file.filename, "mediaType": file.media_type, "size": file.size, "url": url}


def result_json(result: ToolResultPart, chat_id: str, node_id: str) -> Json:
    """Return the result of a tool call: its text, and its files by their addresses."""
    return {
        "callId": result.call_id,
        "name": result.name,
        "text": result.get_text(),
        "isError": result.is_error,
        "denied": result.denied,
        "files": [file_json(part, chat_id, node_id) for part in result.content if isinstance(part, FilePart)],
    }


def waiting_json(node_id: str, calls: Iterable[ToolCallPart]) -> Json:
    """Return calls that wait for a person, and the turn that has them; ``key`` is what a decision is given by."""
    told = [
        {"key": decision_key(call), "name": call.name, "arguments": call.arguments, "hosted": call.hosted}
        for call in calls
    ]
    return {"nodeId": node_id, "calls": told}


def report_json(report: ConversionReport) -> Json:
    """Return what became of the history on its way to a model, part by part."""
    return {
        "lossless": not report.lossy,
        "counts": {name: report.counts().get(name, 0) for name in _COUNTED},
        "entries": [
            {
                "code": entry.code,
                "severity": entry.severity,
                "node": entry.node,
                "part": entry.part,
                "kind": entry.kind,
                "reason": entry.reason,
                "detail": entry.detail,
                "origin": None if entry.origin is None else _named(entry.origin),
                "target": _named(entry.target),
            }
            for entry in report.entries
        ],
        "parts": [
            {"node": part.node, "part": part.part, "kind": part.kind, "outcome": part.outcome} for part in report.parts
        ],
    }


def usage_json(usage: Usage) -> Json:
    """Return the counts of tokens; None for those that were not told."""
    return {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "reasoningTokens": usage.reasoning_tokens,
        "cachedTokens": usage.cache_read_tokens,
        "known": usage.output_tokens is not None,
        "estimated": usage.source == "estimated",
    }


_COUNTED = ("native", "converted", "downgraded", "omitted", "synthesised")


def _asked(node: ConversationNode, siblings: Sequence[str], model: AskedModel, chat_id: str) -> Json:
    return {
        "id": node.id,
        "parentId": node.parent_id,
        "siblings": list(siblings),
        "loopId": node.loop_id,
        "question": node.user_query,
        "files": [file_json(file, chat_id, node.id) for file in node.attached_files],
        "toolResults": [result_json(result, chat_id, node.id) for result in node.tool_results],
        "instructions": list(node.instructions),
        "modelId": model.id,
    }


def _named(origin: Origin) -> Mapping[str, str]:
    return {"provider": origin.provider, "model": origin.model}


def _why_no_cost(node: ConversationNode) -> str | None:
    if node.cost is not None or node.response is None:
        return None
    told = next((warning.message for warning in node.warnings if warning.code == "price_unknown"), None)
    if told is not None:
        return told
    if node.usage.output_tokens is None:
        return "The provider did not say how many tokens it used."
    return "There is no price for this model."


def _milliseconds(begin: str | None, end: str | None) -> int | None:
    if begin is None or end is None:
        return None
    try:
        return max(0, round((datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds() * 1000))
    except (ValueError, TypeError):  # a node made by hand may have any text
        return None
