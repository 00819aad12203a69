"""Readers of the protocols of the web, written from their descriptions."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson


@dataclass
class Block:
    """One block of an event stream."""

    data: str | None = None
    id: str | None = None
    retry: str | None = None


def blocks_of(body: bytes) -> list[Block]:
    """The blocks of an event stream, without comments."""
    found: list[Block] = []
    for text in body.decode().split("\n\n"):
        block = Block()
        for line in text.split("\n"):
            name, _, value = line.partition(": ")
            if name in {"data", "id", "retry"}:
                setattr(block, name, value)
        if block != Block():
            found.append(block)
    return found


def events_of(body: bytes) -> list[dict[str, object]]:
    """The JSON of every block with data."""
    return [orjson.loads(block.data) for block in blocks_of(body) if block.data and block.data != "[DONE]"]


@dataclass
class UIMessage:
    """What ``useChat`` would have made of a stream.

    Attributes:
        id: The message's id.
        texts: The texts, by part id.
        reasoning: The texts of reasoning.
        tools: The tool calls: their last state and what came with it.
        others: All other chunks with content.
        finish: The ``finish`` chunk; None if there was none.
        error: The text of ``error``.
    """

    id: str | None = None
    texts: dict[str, str] = field(default_factory=dict[str, str])
    reasoning: dict[str, str] = field(default_factory=dict[str, str])
    tools: dict[str, list[dict[str, object]]] = field(default_factory=dict[str, list[dict[str, object]]])
    others: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    finish: dict[str, object] | None = None
    error: str | None = None
    aborted: bool = False


def ui_message_of(body: bytes) -> UIMessage:
    """Read a UI message stream as strictly as the page does."""
    message, opened, ended = UIMessage(), set[str](), False
    assert body.endswith(b"data: [DONE]\n\n")
    for chunk in events_of(body):
        assert not ended, chunk
        assert None not in chunk.values(), chunk
        match chunk:
            case {"type": "start"}:
                message.id = str(chunk.get("messageId"))
            case {"type": "text-start" | "reasoning-start", "id": str(part)}:
                texts = message.texts if chunk["type"] == "text-start" else message.reasoning
                assert part not in message.texts | message.reasoning
                opened.add(part)
                texts[part] = ""
            case {"type": "text-delta", "id": str(part), "delta": str(text)}:
                assert part in opened
                message.texts[part] += text
            case {"type": "reasoning-delta", "id": str(part), "delta": str(text)}:
                assert part in opened
                message.reasoning[part] += text
            case {"type": "text-end" | "reasoning-end", "id": str(part)}:
                opened.remove(part)
            case {"type": "finish"}:
                message.finish, ended = chunk, True
            case {"type": "error", "errorText": str(text)}:
                message.error, ended = text, True
            case {"type": "abort"}:
                message.aborted = ended = True
            case {"type": "start-step" | "finish-step"}:
                pass
            case {"toolCallId": str(call)}:
                if str(chunk["type"]).startswith("tool-output"):
                    assert any(told["type"] == "tool-input-available" for told in message.tools[call])
                elif chunk["type"] in {"tool-input-start", "tool-input-delta"}:
                    assert chunk["type"] == "tool-input-start" or message.tools[call]
                message.tools.setdefault(call, []).append(chunk)
            case _:
                message.others.append(chunk)
    assert ended
    assert not opened
    return message


def kinds(chunks: Sequence[dict[str, object]]) -> list[str]:
    """The types of chunks, in order."""
    return [str(chunk["type"]) for chunk in chunks]


def check_run(body: bytes) -> str:
    """Read a run as strictly as AG-UI's client, and return its text."""
    opened, calls, texts, over = set[str](), set[str](), dict[str, str](), False
    for event in events_of(body):
        assert not over
        assert None not in event.values()
        name = str(event.get("messageId") or event.get("toolCallId"))
        match event["type"]:
            case "TEXT_MESSAGE_START" | "REASONING_MESSAGE_START":
                assert name not in opened | texts.keys()
                opened.add(name)
                texts[name] = ""
            case "TEXT_MESSAGE_CONTENT" | "REASONING_MESSAGE_CONTENT" | "TOOL_CALL_ARGS":
                assert name in opened
                assert event["delta"]
                if event["type"] == "TEXT_MESSAGE_CONTENT":
                    texts[name] += str(event["delta"])
            case "TEXT_MESSAGE_END" | "REASONING_MESSAGE_END" | "TOOL_CALL_END":
                opened.remove(name)
            case "TOOL_CALL_START":
                assert name not in calls
                opened.add(name)
                calls.add(name)
            case "TOOL_CALL_RESULT":
                assert event["toolCallId"] in calls
            case "RUN_FINISHED" | "RUN_ERROR":
                over = True
            case "CUSTOM":
                if event["name"] == "reset":
                    texts.clear()
            case _:
                assert event["type"] in {"RUN_STARTED", "REASONING_START", "REASONING_END"}
    assert over
    assert not opened
    return "".join(texts.values())
