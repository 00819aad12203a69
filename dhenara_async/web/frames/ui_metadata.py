"""The metadata of an answer for a page: the model, the tokens, the cost, and the losses of a hop."""

from collections.abc import Mapping

from dhenara_async.conversation import ConversationNode
from dhenara_async.messages.messages import JsonPart, ToolResultPart
from dhenara_async.usage.tokens import Usage
from dhenara_async.web.frames.protocol import Ended

_USAGE: Mapping[str, str] = {
    "inputTokens": "input_tokens",
    "outputTokens": "output_tokens",
    "totalTokens": "total_tokens",
    "reasoningTokens": "reasoning_tokens",
    "cachedInputTokens": "cache_read_tokens",
}


def metadata_of(ended: Ended) -> dict[str, object]:
    """Return ``model``, ``provider``, ``usage`` (named as in the AI SDK), ``cost`` and ``status``, as far as known."""
    if ended.node is not None:
        return node_metadata(ended.node)
    if ended.response is None:
        return {}
    answer = ended.response.chat_response
    return _known({"model": answer.model, "provider": answer.provider, "usage": usage_of(answer.usage)})


def node_metadata(node: ConversationNode) -> dict[str, object]:
    """Return the metadata of a turn; ``error`` is left out, because it may quote the provider."""
    answer = node.response
    model = None if node.origin is None else node.origin.model
    return _known(
        {
            "model": model if answer is None else answer.model,
            "provider": None if answer is None else answer.provider,
            "usage": usage_of(node.usage),
            "cost": None if node.cost is None else f"{node.cost:f}",
            "status": node.status,
            "createdAt": node.timestamp,
        }
    )


def usage_of(usage: Usage) -> dict[str, object] | None:
    """Return the known counts by the AI SDK's names; None if nothing is known."""
    return _known({name: getattr(usage, field) for name, field in _USAGE.items()}) or None


def token_usage_of(ended: Ended) -> dict[str, object] | None:
    """Return the known counts as AG-UI names them, with provider and model; None if nothing is known."""
    answer = ended.response.chat_response if ended.response is not None else None
    if ended.node is not None:
        answer = ended.node.response
    counts = None if answer is None else usage_of(answer.usage)
    if answer is None or counts is None:
        return None
    return {"provider": answer.provider, "model": answer.model, **counts}


def hop_of(ended: Ended) -> list[dict[str, object]] | None:
    """Return the parts of the history that this turn's model got in another form, or not at all; None if there are
    none."""
    report = None if ended.node is None else ended.node.conversion
    if report is None and ended.response is not None:
        report = ended.response.conversion
    changes = [] if report is None else [entry for entry in report.entries if entry.severity != "info"]
    told = [
        _known({"code": entry.code, "severity": entry.severity, "kind": entry.kind, "node": entry.node})
        for entry in changes
    ]
    return told or None


def output_of(result: ToolResultPart) -> object:
    """Return the result of a tool as a page shows it: its JSON value if it is one, else its text."""
    if len(result.content) == 1 and isinstance(result.content[0], JsonPart):
        return result.content[0].value
    return result.get_text()


def _known(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}
