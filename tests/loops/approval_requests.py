"""Answers of OpenAI Responses that ask for the approval of a call of a hosted MCP server, or have its result."""

from collections.abc import Callable

import orjson
from pydantic import JsonValue

from dhenara_async import AIModelCallConfig, HostedTool
from dhenara_async.testing import Answer, Fault, SeenRequest

DICE: dict[str, JsonValue] = {"server_label": "dice", "server_url": "https://example.com/mcp"}
CONFIG = AIModelCallConfig(tools=[HostedTool(type="mcp", options=DICE)])
Items = list[dict[str, object]]

MCP_TOOLS: Items = [{"name": "roll", "description": None, "input_schema": {"type": "object"}, "annotations": None}]
LISTED: dict[str, object] = {"id": "mcpl_1", "type": "mcp_list_tools", "server_label": "dice", "tools": MCP_TOOLS}
ROLL: dict[str, object] = {"server_label": "dice", "name": "roll", "arguments": '{"sides":6}'}
REQUEST: dict[str, object] = {"id": "mcpr_1", "type": "mcp_approval_request", **ROLL}
ROLLED: dict[str, object] = {"id": "mcp_1", "type": "mcp_call", "status": "completed", **ROLL, "output": "4"}


def told(text: str) -> dict[str, object]:
    content = [{"type": "output_text", "text": text}]
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}


def answer(*items: dict[str, object]) -> Callable[[SeenRequest], Fault]:
    """An answer of these items, streamed or plain."""
    usage: dict[str, object] = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    whole: dict[str, object] = {"id": "resp_1", "object": "response", "model": "gpt", "output": items, "usage": usage}

    def body(seen: SeenRequest) -> Fault:
        if not seen.stream:
            return Fault(body=orjson.dumps(whole | {"status": "completed"}))
        events: Items = [{"type": "response.created", "response": {"id": "resp_1", "model": "gpt"}}]
        for at, item in enumerate(items):
            for kind in ("added", "done"):
                events.append({"type": f"response.output_item.{kind}", "output_index": at, "item": item})
        events.append({"type": "response.completed", "response": whole | {"status": "completed"}})
        lines = (b"event: %b\ndata: %b\n\n" % (str(each["type"]).encode(), orjson.dumps(each)) for each in events)
        return Fault(body=b"".join(lines))

    return body


def script(*answers: Callable[[SeenRequest], Fault] | Answer) -> Callable[[SeenRequest], Fault | Answer]:
    left = list(answers)

    def step(seen: SeenRequest) -> Fault | Answer:
        following = left.pop(0)
        return following if isinstance(following, Answer) else following(seen)

    return step


ASKS = answer(LISTED, REQUEST)
GOES_ON = answer({**ROLLED, "approval_request_id": "mcpr_1"}, told("A four."))
