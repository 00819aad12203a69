"""Events as JSON bytes: equal to ``event_to_dict``, with a short way for the events that come for every token."""

import orjson

from dhenara_async.events import ReasoningDelta, StreamEvent, TextDelta, ToolCallDelta, event_to_dict
from dhenara_async.framing.lenient_json import dumps

_TEXT = b'{"type":"text_delta","part_id":%d,"text":%b}'
_REASONING = b'{"type":"reasoning_delta","part_id":%d,"text":%b}'
_ARGUMENTS = b'{"type":"tool_call_delta","part_id":%d,"arguments":%b}'


def event_json(event: StreamEvent) -> bytes:
    """Return the event as JSON on one line."""
    if isinstance(event, TextDelta):
        return _TEXT % (event.part_id, text_json(event.text))
    if isinstance(event, ReasoningDelta):
        return _REASONING % (event.part_id, text_json(event.text))
    if isinstance(event, ToolCallDelta):
        return _ARGUMENTS % (event.part_id, text_json(event.arguments))
    return dumps(event_to_dict(event))


def text_json(text: str) -> bytes:
    """Return a text as a JSON string; unpaired surrogates become U+FFFD."""
    try:
        return orjson.dumps(text)
    except TypeError:
        return dumps(text)
