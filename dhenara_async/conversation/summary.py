"""Sums and outlines of a conversation's turns, for readers."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal

from dhenara_async.conversation.node import ConversationNode
from dhenara_async.formatter.markdown import as_markdown
from dhenara_async.response import Usage
from dhenara_async.usage.tokens import total_usage

_OUTLINE_WORDS = 60

NumberedTurn = tuple[int, ConversationNode, int]
"""A turn's number where the tree is shown, from 1; the turn; and the number of forks above it."""


def usage_by_model(nodes: Iterable[ConversationNode]) -> dict[str, Usage]:
    """Return the tokens of turns by model id; see ``Conversation.usage``."""
    usages: dict[str, list[Usage]] = defaultdict(list)
    for model, usage, _ in _requests(nodes):
        usages[model].append(usage)
    return {model: total_usage(those) for model, those in usages.items()}


def cost_by_model(nodes: Iterable[ConversationNode]) -> dict[str, Decimal | None]:
    """Return the cost of turns by model id; see ``Conversation.cost``."""
    costs: dict[str, Decimal | None] = {}
    for model, _, cost in _requests(nodes):
        known = costs.get(model, Decimal(0))
        costs[model] = None if known is None or cost is None else known + cost
    return costs


def outline(numbered: Iterable[NumberedTurn], head: str | None) -> Iterator[str]:
    """Yield a line for each turn; the turns behind a fork are indented.

    Args:
        numbered: The turns.
        head: The id of the head; None if there is none.
    """
    for number, node, forks in numbered:
        words = " ".join(node.user_query.split())
        shown = words if len(words) <= _OUTLINE_WORDS else words[: _OUTLINE_WORDS - 1] + "…"
        status = "" if node.status == "complete" else f" ({node.status})"
        here = " ← head" if node.id == head else ""
        yield f"{'  ' * forks}{number}. {_answerer(node)}: {shown}{status}{here}"


def sections(numbered: Iterable[NumberedTurn]) -> Iterator[str]:
    """Yield every turn as Markdown under a heading of its own."""
    for number, node, _ in numbered:
        yield f"## {number}. {_answerer(node)}\n\n{as_markdown(node)}"


def _requests(nodes: Iterable[ConversationNode]) -> Iterator[tuple[str, Usage, Decimal | None]]:
    """Yield the model, tokens and cost of every request that tokens are known of, and of every answer."""
    for node in nodes:
        for attempt in node.tries:
            if attempt.usage.source != "unknown":
                yield attempt.endpoint.model, attempt.usage, attempt.cost
        # the usage of an answer that broke off is that of its last request
        counted = bool(node.tries) and node.tries[-1].usage.source != "unknown"
        if node.response is not None and not counted:
            yield _model_of(node), node.usage, node.cost


def _model_of(node: ConversationNode) -> str:
    """Return the id of the model that was asked; empty for a turn made by hand."""
    if node.origin is not None:
        return node.origin.model
    return "" if node.response is None else node.response.model or ""


def _answerer(node: ConversationNode) -> str:
    """Return the name of the answering model for readers."""
    return _model_of(node) or "no model"
