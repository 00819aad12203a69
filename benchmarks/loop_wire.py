"""The answers of the ``loop`` benchmark: Chat Completions with some text and a call, or with the last text."""

from functools import cache

import orjson

from benchmarks import wire

TOOL = "paint"


@cache
def step_events(step: int, steps: int, tokens: int) -> tuple[bytes, ...]:
    """Return the events of the answer of a step, from 1: text and a call of ``TOOL``, or text alone after ``steps``."""
    events = wire.answer("openai_chat", tokens).events
    if step > steps:
        return events
    prelude, last = 1 + tokens, events[1 + tokens]
    call = {"index": 0, "id": f"call_{step}", "type": "function", "function": {"name": TOOL, "arguments": ""}}
    more = {"index": 0, "function": {"arguments": orjson.dumps({"number": step}).decode()}}
    unfinished = last.replace(b'"finish_reason":"stop"', b'"finish_reason":null')
    calls = [
        unfinished.replace(b'"delta":{}', b'"delta":' + orjson.dumps({"tool_calls": [piece]})) for piece in (call, more)
    ]
    end = last.replace(b'"finish_reason":"stop"', b'"finish_reason":"tool_calls"')
    return (*events[:prelude], *calls, end, *events[prelude + 1 :])


def step_of(body: bytes) -> int:
    """Return the step that a request asks for, from 1: each earlier one has left a result in it."""
    return body.count(b'"tool_call_id"') + 1
