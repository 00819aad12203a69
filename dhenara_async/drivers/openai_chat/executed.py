"""The tools that a host ran itself, as Groq's compound models tell them in ``executed_tools``.

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
    """The tools of one choice: first comes the call, later the same one with its output.

    Args:
        parts: The answer's parts.
        choice: The choice's index.
    """

    __slots__ = ("_choice", "_parts", "_tools")

    def __init__(self, parts: PartsInFlight, choice: int) -> None:
        self._parts = parts
        self._choice = choice
        self._tools: dict[int, JsonObject] = {}

    def feed(self, tools: list[object]) -> list[StreamEvent]:
        """Take what a message or a delta tells of them."""
        events: list[StreamEvent] = []
        for place, tool in enumerate(map(as_object, tools)):
            index = as_count(tool.get("index"))
            told = self._tools.setdefault(place if index is None else index, {})
            complete = "output" in told
            told |= {key: value for key, value in tool.items() if value is not None}
            if "output" in told and not complete:
                events += self._part(told)
        return events

    def close(self) -> list[StreamEvent]:
        """The tools whose output never came."""
        return [event for told in self._tools.values() if "output" not in told for event in self._part(told)]

    def _part(self, told: JsonObject) -> list[StreamEvent]:
        kind = as_text(told.get("type")) or as_text(told.get("name")) or "executed_tool"
        return self._parts.hosted(
            kind,
            dict(told),
            choice=self._choice,
            tool=_EXECUTED.get(kind),
            asked=parsed(told.get("arguments")),
            output=told.get("search_results") or told.get("code_results") or told.get("output"),
        )
