"""Allow-list of opaque fields that are sent back to Chat Completions hosts: signatures of reasoning and of calls.

Source: https://openrouter.ai/docs/guides/best-practices/reasoning-tokens, https://ai.google.dev/gemini-api/docs/openai,
https://docs.mistral.ai/capabilities/reasoning and https://platform.openai.com/docs/api-reference/chat (read 2026-11-22)
"""

from collections.abc import Mapping

from dhenara_async.drivers.base import as_list, as_object, as_text
from dhenara_async.drivers.native import ByType, Each, Shape, ValueKind, altered, cut, refused, says
from dhenara_async.drivers.rules import Vetted, bounded, within_bounds
from dhenara_async.messages.messages import Part, ReasoningPart, ToolCallPart

_WORD, _SEAL, _SHOWN = ValueKind.WORD, ValueKind.SEAL, ValueKind.SHOWN

_DETAIL: Mapping[str, Shape] = {"id": _WORD, "format": _WORD, "index": ValueKind.NUMBER, "provider": _WORD}

DETAILS: Mapping[str, Mapping[str, Shape]] = {
    "reasoning.text": {**_DETAIL, "text": _SHOWN, "signature": _SEAL},
    "reasoning.summary": {**_DETAIL, "summary": _SHOWN},
    "reasoning.encrypted": {**_DETAIL, "data": _SEAL},
}
"""The members of ``reasoning_details``, by type."""

REASONING: Mapping[str, Shape] = {"reasoning_details": Each(ByType(DETAILS)), "signature": _SEAL}
CALL: Mapping[str, Shape] = {"type": _WORD, "extra_content": {"google": {"thought_signature": _SEAL}}}
"""Keys of a call beside id, name and arguments."""


def vetted(part: Part) -> Vetted:
    """Return the portion of a part's state that may be sent; see ``Rules.vet``."""
    state = part.provider_state
    if not state or not within_bounds(state):
        return bounded(part)
    match part:
        case ReasoningPart():
            return _reasoning(part)
        case ToolCallPart():
            kind = state.get("type")
            return cut(state, CALL) if kind in (None, "function", "custom") else refused("it is not a function call")
        case _:
            return Vetted(state)  # such state is never sent


def _reasoning(part: ReasoningPart) -> Vetted:
    """Check that the text of reasoning details equals the part's text."""
    found = cut(part.provider_state or {}, REASONING)
    details = [as_object(detail) for detail in as_list((found.state or {}).get("reasoning_details"))]
    details_text = "".join(as_text(detail.get("text")) + as_text(detail.get("summary")) for detail in details)
    return found if says(part.text, details_text) else altered("the text of the details")
