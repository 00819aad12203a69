"""The messages that AG-UI events have built so far, for a client that joins a run late."""

from collections.abc import Iterable, Mapping
from typing import cast

import orjson

_DATA = b"data: "


class AGUISnapshot:
    """Builds messages from frames, as a client does.

    Args:
        before: The messages before the run's own.

    Attributes:
        messages: All messages so far.
    """

    def __init__(self, before: Iterable[Mapping[str, object]]) -> None:
        self.messages: list[dict[str, object]] = [dict(message) for message in before]
        self._by_id: dict[str, dict[str, object]] = {str(message.get("id")): message for message in self.messages}
        self._calls: dict[str, dict[str, str]] = {}

    def add(self, frame: bytes) -> None:
        """Apply one frame; those that change no message are passed over."""
        if not frame.startswith(_DATA):
            return
        event = cast("dict[str, object]", orjson.loads(frame[len(_DATA) :]))
        text = str(event.get("delta", ""))
        match event:
            case {"type": "TEXT_MESSAGE_START" | "REASONING_MESSAGE_START", "messageId": str(name), "role": str(role)}:
                self._message(name, role).setdefault("content", "")
            case {"type": "TEXT_MESSAGE_CONTENT" | "REASONING_MESSAGE_CONTENT", "messageId": str(name)}:
                message = self._by_id[name]
                message["content"] = f"{message['content']}{text}"
            case {
                "type": "TOOL_CALL_START",
                "toolCallId": str(call),
                "toolCallName": str(tool),
                "parentMessageId": str(name),
            }:
                function = self._calls[call] = {"name": tool, "arguments": ""}
                calls = self._message(name, "assistant").setdefault("toolCalls", [])
                cast("list[object]", calls).append({"id": call, "type": "function", "function": function})
            case {"type": "TOOL_CALL_ARGS", "toolCallId": str(call)}:
                self._calls[call]["arguments"] += text
            case {"type": "TOOL_CALL_RESULT", "messageId": str(name), "toolCallId": str(call)}:
                self._message(name, "tool").update(toolCallId=call, content=event["content"])
            case _:
                pass

    def _message(self, name: str, role: str) -> dict[str, object]:
        message = self._by_id.get(name)
        if message is None:
            message = self._by_id[name] = {"id": name, "role": role}
            self.messages.append(message)
        return message
