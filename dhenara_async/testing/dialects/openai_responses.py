"""OpenAI Responses as the loopback server speaks it.

Follows: the openai SDK 3.54 (``types/responses``, ``lib/streaming/responses``) and
https://platform.openai.com/docs/api-reference/responses (read 2026-11-22).
"""

from collections.abc import Iterator

from dhenara_async.endpoint import Dialect
from dhenara_async.messages.messages import Citation
from dhenara_async.response import FinishReason
from dhenara_async.testing.dialects.base import (
    Arrived,
    JsonKind,
    ParsedConversation,
    Refusal,
    Reply,
    Streamed,
    StreamPiece,
    TurnBuilder,
    WireDialect,
    as_object,
    as_text,
    bearer,
    objects,
    sse,
)
from dhenara_async.testing.dialects.openai_errors import (
    check_fields,
    error_body,
    not_found,
    takes_sampling,
    unauthorized,
    unsupported,
)
from dhenara_async.testing.dialects.openai_responses_items import ITEM_RULES
from dhenara_async.testing.dialects.openai_responses_state import encrypted_content, led_identifier, summary_of
from dhenara_async.testing.dialects.openai_responses_tools import KNOB_RULES
from dhenara_async.testing.script import words

_FIELDS = {
    "model": (JsonKind.STRING,),
    "input": (JsonKind.STRING, JsonKind.ARRAY),
    "access_programs": (JsonKind.ARRAY,),
    "background": (JsonKind.BOOLEAN,),
    "background_options": (JsonKind.OBJECT,),
    "context_management": (JsonKind.ARRAY,),
    "conversation": (JsonKind.STRING, JsonKind.OBJECT),
    "image": (JsonKind.OBJECT,),
    "include": (JsonKind.ARRAY,),
    "instructions": (JsonKind.STRING,),
    "max_output_tokens": (JsonKind.INTEGER,),
    "max_tool_calls": (JsonKind.INTEGER,),
    "metadata": (JsonKind.OBJECT,),
    "moderation": (JsonKind.OBJECT,),
    "parallel_tool_calls": (JsonKind.BOOLEAN,),
    "previous_response_id": (JsonKind.STRING,),
    "prompt": (JsonKind.OBJECT,),
    "prompt_cache_key": (JsonKind.STRING,),
    "prompt_cache_options": (JsonKind.OBJECT,),
    "prompt_cache_retention": (JsonKind.STRING,),
    "reasoning": (JsonKind.OBJECT,),
    "safety_identifier": (JsonKind.STRING,),
    "service_tier": (JsonKind.STRING,),
    "store": (JsonKind.BOOLEAN,),
    "stream": (JsonKind.BOOLEAN,),
    "stream_options": (JsonKind.OBJECT,),
    "temperature": (JsonKind.NUMBER,),
    "text": (JsonKind.OBJECT,),
    "tool_choice": (JsonKind.STRING, JsonKind.OBJECT),
    "tools": (JsonKind.ARRAY,),
    "top_logprobs": (JsonKind.INTEGER,),
    "top_p": (JsonKind.NUMBER,),
    "truncation": (JsonKind.STRING,),
    "user": (JsonKind.STRING,),
}
_INCOMPLETE = {
    FinishReason.LENGTH: "max_output_tokens",
    FinishReason.CONTEXT_WINDOW: "max_output_tokens",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.OTHER: "max_messages",
}

_NO_IMAGES = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}
LOGPROB = -0.125
"""The natural logarithm of every token's probability here."""


# Checks


def _fields(arrived: Arrived) -> None:
    check_fields(arrived, _FIELDS, required=("model", "input"))
    if arrived.body["input"] == []:
        raise Refusal("Invalid 'input': empty array.", code="empty_array", param="input")


def _limits(arrived: Arrived) -> None:
    body = arrived.body
    most = body.get("max_output_tokens")
    if isinstance(most, int) and most < 16:
        raise Refusal(
            "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got "
            f"{most} instead.",
            code="integer_below_min_value",
            param="max_output_tokens",
        )
    if body.get("stream_options") is not None and body.get("stream") is not True:
        raise Refusal(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    effort = as_object(body.get("reasoning")).get("effort")
    for name in ("temperature", "top_p", "top_logprobs"):
        if body.get(name) is not None and not takes_sampling(as_text(body["model"]), effort):
            raise unsupported(name, code=None)


# Reading requests


def _read(arrived: Arrived) -> ParsedConversation:
    instructions = as_text(arrived.body.get("instructions"))
    system = [instructions] if instructions else []
    turns = TurnBuilder()
    if isinstance(arrived.body.get("input"), str):
        turns.add("user", as_text(arrived.body["input"]))
    for _index, item in objects(arrived.body.get("input")):
        if item.get("role") in {"system", "developer"}:
            system.append(_text(item.get("content")))
        elif item.get("type") in ("function_call", "custom_tool_call"):
            arguments = as_text(item.get("arguments")) + as_text(item.get("input"))
            turns.add("assistant", f"{as_text(item.get('name'))}({arguments})")
        elif item.get("type") in ("function_call_output", "custom_tool_call_output"):
            turns.add("user", _text(item.get("output")))
        else:
            turns.add("assistant" if item.get("role") == "assistant" else "user", _text(item.get("content")))
    return ParsedConversation(
        model=as_text(arrived.body.get("model")),
        stream=arrived.body.get("stream") is True,
        system="\n".join(system),
        turns=turns.turns(),
    )


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    return "".join(as_text(part.get("text")) + as_text(part.get("refusal")) for _index, part in objects(content))


# Writing answers


def _usage(reply: Reply) -> dict[str, object]:
    usage = reply.usage
    details = {"cached_tokens": usage.cache_read_tokens, "cache_write_tokens": usage.cache_write_tokens}
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {name: count for name, count in details.items() if count is not None},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": (
            {} if usage.reasoning_tokens is None else {"reasoning_tokens": usage.reasoning_tokens}
        ),
        "total_tokens": usage.total_tokens,
    }


def _output(reply: Reply) -> list[dict[str, object]]:
    """Build the finished items in the order of a model: reasoning, searches, text, calls."""
    answer = reply.answer
    items: list[dict[str, object]] = []
    if answer.reasoning or answer.signature:
        item: dict[str, object] = {"id": reply.identifier("rs_"), "type": "reasoning", "summary": summary_of(answer)}
        sealed = encrypted_content(reply)
        items.append({**item, "encrypted_content": sealed} if sealed else item)
    items += _searches(reply)
    parts = _message_items(reply)
    if parts:
        status = "incomplete" if _status(reply)["status"] == "incomplete" else "completed"
        message = {"id": reply.identifier("msg_"), "type": "message", "status": status, "role": "assistant"}
        items.append({**message, "content": parts})
    for index, call in enumerate(answer.tool_calls):
        function: dict[str, object] = {"call_id": call.call_id, "name": call.name, "arguments": call.arguments}
        identifier = reply.identifier("fc_", index)
        items.append({"id": identifier, "type": "function_call", "status": "completed", **function})
    if len(items) > 1 and items[0]["type"] == "reasoning":
        prefix = as_text(items[1]["id"]).partition("_")[0] + "_"
        items[1]["id"] = led_identifier(reply, prefix, as_text(items[0]["id"]))
    return items


def _searches(reply: Reply) -> list[dict[str, object]]:
    queries = reply.answer.web_searches
    kinds = [as_text(tool.get("type")) for _index, tool in objects(reply.arrived.body.get("tools"))]
    if queries and not any(kind.startswith("web_search") for kind in kinds):
        raise Refusal("The script searches the web, but the request declares no web_search tool.", status=500)
    include_sources = _includes(reply, "web_search_call.action.sources")
    sources = {"sources": [{"type": "url", "url": cited.url} for cited in reply.answer.citations if cited.url]}
    return [
        {
            "id": reply.identifier("ws_", index),
            "type": "web_search_call",
            "status": "completed",
            "action": {"type": "search", "query": query, "queries": [query], **(sources if include_sources else {})},
        }
        for index, query in enumerate(queries)
    ]


def _message_items(reply: Reply) -> list[dict[str, object]]:
    answer = reply.answer
    parts: list[dict[str, object]] = []
    if answer.text or not (answer.refusal or answer.tool_calls):
        annotations = [_annotation(cited, answer.text) for cited in answer.citations]
        logprobs = [entry for delta in answer.text_deltas() for entry in _logprobs(reply, delta)]
        parts.append({"type": "output_text", "annotations": annotations, "logprobs": logprobs, "text": answer.text})
    if answer.refusal:
        parts.append({"type": "refusal", "refusal": answer.refusal})
    return parts


def _annotation(cited: Citation, text: str) -> dict[str, object]:
    if cited.url is None:
        filename = cited.title or "file.txt"
        return {"type": "file_citation", "file_id": cited.file_id or "file-1", "filename": filename, "index": 0}
    place = {"start_index": cited.start or 0, "end_index": len(text) if cited.end is None else cited.end}
    return {"type": "url_citation", "url": cited.url, "title": cited.title or "", **place}


def _logprobs(reply: Reply, token: str) -> list[dict[str, object]]:
    """Build log probabilities, if requested: the same for every token, with the token itself as its alternative."""
    if not _includes(reply, "message.output_text.logprobs"):
        return []
    entry: dict[str, object] = {"token": token, "bytes": list(token.encode()), "logprob": LOGPROB}
    return [{**entry, "top_logprobs": [entry] if reply.arrived.body.get("top_logprobs") else []}]


def _includes(reply: Reply, what: str) -> bool:
    include = reply.arrived.body.get("include")
    return isinstance(include, list) and what in include


def _status(reply: Reply) -> dict[str, object]:
    ending = reply.answer.ending
    error = incomplete = None
    status = "completed"
    if ending is FinishReason.ERROR:
        status = "failed"
        error = {"code": "server_error", "message": "The model failed while it answered."}
    elif ending in _INCOMPLETE or (ending is FinishReason.REFUSAL and not reply.answer.refusal):
        status = "incomplete"
        incomplete = {"reason": _INCOMPLETE.get(ending, "content_filter")}
    return {"status": status, "error": error, "incomplete_details": incomplete}


def _response(reply: Reply, **fields: object) -> dict[str, object]:
    body = reply.arrived.body
    return {
        "id": reply.identifier("resp_"),
        "object": "response",
        "created_at": reply.created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": reply.conversation.model,
        "output": [],
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "reasoning": body.get("reasoning") or {"effort": None, "summary": None},
        "service_tier": "default",
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": body.get("text") or {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "top_p": body.get("top_p", 1.0),
        "truncation": body.get("truncation", "disabled"),
        "usage": None,
        "user": None,
        "metadata": body.get("metadata") or {},
        **fields,
    }


def _finished(reply: Reply) -> dict[str, object]:
    tool_usage: dict[str, object] = {}
    if reply.answer.web_searches:
        tool_usage["tool_usage"] = {
            "image_gen": _NO_IMAGES,
            "web_search": {"num_requests": len(reply.answer.web_searches)},
        }
    return _response(reply, **_status(reply), output=_output(reply), usage=_usage(reply), **tool_usage)


def _stream(reply: Reply) -> Streamed:
    return Streamed("text/event-stream; charset=utf-8", _pieces(reply))


def _pieces(reply: Reply) -> Iterator[StreamPiece]:
    for number, event in enumerate(_events(reply)):
        kind = as_text(event["type"])
        yield StreamPiece(sse({**event, "sequence_number": number}, event=kind), kind.endswith(".delta"))


def _events(reply: Reply) -> Iterator[dict[str, object]]:
    yield {"type": "response.created", "response": _response(reply)}
    yield {"type": "response.in_progress", "response": _response(reply)}
    spell = {
        "reasoning": _reasoning_events,
        "web_search_call": _search_events,
        "message": _message_events,
        "function_call": _call_events,
    }
    for index, item in enumerate(_output(reply)):
        yield from spell[as_text(item["type"])](reply, item, index)
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    finished = _finished(reply)
    yield {"type": f"response.{finished['status']}", "response": finished}


def _reasoning_events(_reply: Reply, item: dict[str, object], index: int) -> Iterator[dict[str, object]]:
    begun: dict[str, object] = {**item, "summary": []}
    yield {"type": "response.output_item.added", "output_index": index, "item": begun}
    for number, part in objects(item["summary"]):
        place = {"item_id": item["id"], "output_index": index, "summary_index": number}
        text = as_text(part["text"])
        kind = "response.reasoning_summary"
        yield {"type": f"{kind}_part.added", **place, "part": {"type": "summary_text", "text": ""}}
        for delta in words(text):
            yield {"type": f"{kind}_text.delta", **place, "delta": delta}
        yield {"type": f"{kind}_text.done", **place, "text": text}
        yield {"type": f"{kind}_part.done", **place, "part": part}


def _search_events(_reply: Reply, item: dict[str, object], index: int) -> Iterator[dict[str, object]]:
    begun: dict[str, object] = {**item, "status": "in_progress", "action": {"type": "search"}}
    yield {"type": "response.output_item.added", "output_index": index, "item": begun}
    for state in ("in_progress", "searching", "completed"):
        yield {"type": f"response.web_search_call.{state}", "output_index": index, "item_id": item["id"]}


def _message_events(reply: Reply, item: dict[str, object], index: int) -> Iterator[dict[str, object]]:
    begun: dict[str, object] = {**item, "status": "in_progress", "content": []}
    yield {"type": "response.output_item.added", "output_index": index, "item": begun}
    for number, part in objects(item["content"]):
        place = {"item_id": item["id"], "output_index": index, "content_index": number}
        refused = part["type"] == "refusal"
        field = "refusal" if refused else "text"
        kind = "response.refusal" if refused else "response.output_text"
        empty: dict[str, object] = {"annotations": list[object](), "logprobs": list[object]()}
        begun_part = {**part, field: "", **({} if refused else empty)}
        yield {"type": "response.content_part.added", **place, "part": begun_part}
        for delta in words(reply.answer.refusal) if refused else reply.answer.text_deltas():
            extra = {} if refused else {"logprobs": _logprobs(reply, delta)}
            yield {"type": f"{kind}.delta", **place, "delta": delta, **extra}
        for at, annotation in objects(part.get("annotations")):
            added = {"annotation_index": at, "annotation": annotation}
            yield {"type": "response.output_text.annotation.added", **place, **added}
        yield {"type": f"{kind}.done", **place, **{key: part[key] for key in (field, "logprobs") if key in part}}
        yield {"type": "response.content_part.done", **place, "part": part}


def _call_events(_reply: Reply, item: dict[str, object], index: int) -> Iterator[dict[str, object]]:
    place = {"item_id": item["id"], "output_index": index}
    begun = {**item, "status": "in_progress", "arguments": ""}
    yield {"type": "response.output_item.added", "output_index": index, "item": begun}
    kind = "response.function_call_arguments"
    for delta in words(as_text(item["arguments"])):
        yield {"type": f"{kind}.delta", **place, "delta": delta}
    yield {"type": f"{kind}.done", **place, "name": item["name"], "arguments": item["arguments"]}


OPENAI_RESPONSES = WireDialect(
    dialect=Dialect.OPENAI_RESPONSES,
    request_id_header="x-request-id",
    credential=bearer,
    unauthorized=unauthorized,
    not_found=not_found,
    read=_read,
    rules=(_fields, _limits, *KNOB_RULES, *ITEM_RULES),
    plain=_finished,
    stream=_stream,
    error=error_body,
)
