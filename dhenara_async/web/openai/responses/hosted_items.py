"""``HostedItems``: the tools that a provider ran itself, as the items that OpenAI has for its own. Pure.

OpenAI has one item for a call and its result; other providers send two parts, which become one item here. A tool that
OpenAI has no item for is left out. A report on the request is no item, but a field of the response.
"""

from collections.abc import Iterator
from typing import cast

from dhenara_async.drivers.base import JsonObject, as_list, as_object, as_text
from dhenara_async.drivers.openai_responses.content import INPUT_TRANSFORMATIONS
from dhenara_async.drivers.openai_responses.native import ITEMS
from dhenara_async.endpoint import Dialect
from dhenara_async.framing.lenient_json import text_of
from dhenara_async.messages.messages import HostedToolPart, Part


class HostedItems:
    """The items of the hosted tools of one answer. Their ids are left to the caller."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[JsonObject]] = {}  # calls without a result, by the call's id or else by the tool

    def complete(self, part: HostedToolPart) -> JsonObject | None:
        """Add a result to the item of its call, in place; returns that item, or None if the part is no such result."""
        if part.output is None or part.input is not None:
            return None
        waiting = self._waiting.get(_key(part))
        if not waiting:
            return None
        item = waiting.pop(0)
        _add_output(item, part.output)
        return item

    def begin(self, part: HostedToolPart) -> JsonObject | None:
        """Return the item of a call; None if there is none for the tool."""
        native = _native(part)
        if native is not None:
            return {"id": "", **native}
        item = None if part.report else _item(part)
        if item is None:
            return None
        if part.output is None:
            self._waiting.setdefault(_key(part), []).append(item)
        else:
            _add_output(item, part.output)
        return item

    def waits(self, item: JsonObject) -> bool:
        """Whether the result of an item may still come."""
        return any(item is other for items in self._waiting.values() for other in items)

    def end(self) -> list[JsonObject]:
        """Return the items whose results did not come, and forget them."""
        left = [item for items in self._waiting.values() for item in items]
        self._waiting.clear()
        return left


def transformations_of(part: Part) -> list[JsonObject]:
    """Return what a provider reports to have left out of the request, in the words of the API; usually nothing."""
    if not isinstance(part, HostedToolPart) or not part.report or part.name != INPUT_TRANSFORMATIONS:
        return []
    told = [as_object(entry) for entry in as_list(part.output)]
    return [entry if "action" in entry else _removed(entry) for entry in told if entry]


def _removed(entry: JsonObject) -> JsonObject:
    """Return Anthropic's report on one thinking block; its place in the request stands for the id of an item."""
    place = as_text(entry.get("path")) or as_text(entry.get("id"))
    return {"id": place, "type": "reasoning", "action": "removed", "reason": as_text(entry.get("reason"))}


def _key(part: HostedToolPart) -> str:
    return part.call_id or part.tool or ""


def _native(part: HostedToolPart) -> JsonObject | None:
    """Return the item itself if the part is one of this API."""
    state = part.provider_state
    if not state or part.origin is None or part.origin.dialect != Dialect.OPENAI_RESPONSES.value:
        return None
    return {**state} if as_text(state.get("type")) in ITEMS else None


def _item(part: HostedToolPart) -> JsonObject | None:
    asked: object = part.input
    match part.tool:
        case "web_search":
            queries = list(_texts(asked, "queries", "query"))
            action: JsonObject = {"type": "search", "query": " ".join(queries[:1]), "queries": queries}
            return {"id": "", "type": "web_search_call", "status": "completed", "action": action}
        case "url_context":
            action = {"type": "open_page", "url": next(_texts(asked, "url", "urls", "urlContext"), "")}
            return {"id": "", "type": "web_search_call", "status": "completed", "action": action}
        case "file_search":
            queries = list(_texts(asked, "queries", "query"))
            return {"id": "", "type": "file_search_call", "status": "completed", "queries": queries, "results": None}
        case "code_execution":
            code = next(_texts(asked, "code", "command"), "") or ("" if asked is None else text_of(asked))
            item: JsonObject = {"id": "", "type": "code_interpreter_call", "status": "completed", "code": code}
            return {**item, "container_id": "", "outputs": None}
        case "mcp":
            server, name = (as_text(_state(part).get(field)) for field in ("server_name", "name"))
            item = {"id": "", "type": "mcp_call", "status": "completed", "server_label": server, "name": name}
            arguments = "{}" if asked is None else text_of(asked)
            return {**item, "arguments": arguments, "output": None, "error": None}
        case None:
            return None


def _add_output(item: JsonObject, output: object) -> None:
    """Add the result of a call to its item."""
    match item["type"]:
        case "web_search_call":
            action = as_object(item["action"])
            if action.get("type") == "search":
                found = [as_text(as_object(entry).get("url")) for entry in as_list(output)]
                action["sources"] = [{"type": "url", "url": url} for url in found if url]
        case "file_search_call":
            item["results"] = as_list(output)
        case "code_interpreter_call":
            item["outputs"] = [{"type": "logs", "logs": _logs(output)}]
        case _:
            item["output"] = _logs(output)


def _state(part: HostedToolPart) -> JsonObject:
    return {**(part.provider_state or {})}


def _texts(value: object, *fields: str) -> Iterator[str]:
    """Return the texts of a tool's input: its own, those of a list, or those of the first of ``fields`` that it has."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for entry in cast("list[object]", value):
            if isinstance(entry, str):
                yield entry
    else:
        given = as_object(value)
        named = next((field for field in fields if given.get(field)), None)
        if named is not None:
            yield from _texts(given[named])


def _logs(output: object) -> str:
    """Return the text of a result: its output and errors where it has them, else all of it as JSON."""
    if isinstance(output, str):
        return output
    texts = [as_text(as_object(entry).get("text")) for entry in as_list(output)]
    if texts and all(texts):
        return "".join(texts)
    given = as_object(output)
    said = "".join(as_text(given.get(field)) for field in ("output", "stdout", "stderr"))
    return said or text_of(output)
