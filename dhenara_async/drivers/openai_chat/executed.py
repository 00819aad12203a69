"""Decodes the tools that a host ran itself, as in ``executed_tools`` of Groq's compound models.

Source: https://console.groq.com/docs/compound (read 2026-11-22)
"""

from collections.abc import Mapping

from dhenara_async.drivers.base import JsonObject, as_count, as_object, as_text
from dhenara_async.drivers.openai_chat.reading import parsed
from dhenara_async.drivers.parts import PartsInFlight
from dhenara_async.events import StreamEvent
from dhenara_async.tools.declarations import HostedToolType

_EXECUTED: Mapping[str, HostedToolType] = {
    "search": "web_search",
    "web_search": "web_search",
    "browser_search": "web_search",
    "python": "code_execution",
    "code_interpreter": "code_execution",
    "code_execution": "code_execution",
    "visit": "url_context",
    "visit_website": "url_context",
}


class ExecutedTools:
    """The hosted tools of one choice: the call arrives first, then the same call with its output.

    Args:
        parts: The parts of the answer.
        choice: The choice's index.
    """

    __slots__ = ("_choice", "_parts", "_tools")

    def __init__(self, parts: PartsInFlight, choice: int) -> None:
        self._parts = parts
        self._choice = choice
        self._tools: dict[int, JsonObject] = {}

    def feed(self, tools: list[object]) -> list[StreamEvent]:
        """Decode the tools in a message or a delta."""
        events: list[StreamEvent] = []
        for place, update in enumerate(map(as_object, tools)):
            index = as_count(update.get("index"))
            tool = self._tools.setdefault(place if index is None else index, {})
            complete = "output" in tool
            tool |= {key: value for key, value in update.items() if value is not None}
            if "output" in tool and not complete:
                events += self._part(tool)
        return events

    def close(self) -> list[StreamEvent]:
        """Return the tools whose output never arrived."""
        return [event for tool in self._tools.values() if "output" not in tool for event in self._part(tool)]

    def _part(self, tool: JsonObject) -> list[StreamEvent]:
        kind = as_text(tool.get("type")) or as_text(tool.get("name")) or "executed_tool"
        return self._parts.hosted(
            kind,
            dict(tool),
            choice=self._choice,
            tool=_EXECUTED.get(kind),
            asked=parsed(tool.get("arguments")),
            output=tool.get("search_results") or tool.get("code_results") or tool.get("output"),
        )
