"""Questions that a working client asked and its provider answered, asked again by us: they must mean the same.

The recorded request is read into plain turns, the turns are asked through our encoder, and what it wrote is read by the
same reader. The readers know the four wires from their documentation and share nothing with the drivers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import cast

import orjson
import pytest

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelEndpoint,
    Dialect,
    JsonPart,
    Message,
    PromptFormatter,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.errors import UnsupportedError
from dhenara_async.hosts.registry import driver_for
from dhenara_async.request import ChatRequest
from tests import recordings
from tests.recordings import JsonObject

needs_recordings = pytest.mark.skipif(not recordings.FOUND, reason=recordings.MISSING)

_PROVIDERS = {
    Dialect.OPENAI_CHAT: AIModelAPIProviderEnum.OPEN_AI,
    Dialect.OPENAI_RESPONSES: AIModelAPIProviderEnum.OPEN_AI,
    Dialect.ANTHROPIC_MESSAGES: AIModelAPIProviderEnum.ANTHROPIC,
    Dialect.GEMINI: AIModelAPIProviderEnum.GOOGLE_AI,
}

Said = tuple[str, ...]
"""``("text", words)``, ``("call", name, arguments)`` or ``("result", words)``."""


class NotPlainError(Exception):
    """The request holds something that these readers do not read."""


@dataclass
class PlanContext:
    """What a request asks, in no provider's words."""

    system: list[str]
    turns: list[tuple[str, list[tuple[Said, str]]]]  # role, what is said with a call's id beside it
    tools: list[str]

    @property
    def meaning(self) -> object:
        """Without ids, neighbours of one role together, system texts as one, function results apart from words."""
        merged: list[tuple[str, list[Said]]] = []
        for role, items in self.turns:
            if not items:
                continue
            if merged and merged[-1][0] == role:
                merged[-1][1].extend(said for said, _ in items)
            else:
                merged.append((role, [said for said, _ in items]))
        return "\n\n".join(self.system), merged, self.tools


def as_object(value: object) -> JsonObject:
    return cast(JsonObject, value) if isinstance(value, dict) else {}


def objects(value: object) -> Iterator[JsonObject]:
    if not isinstance(value, list):
        raise NotPlainError
    for item in cast("list[object]", value):
        if not isinstance(item, dict):
            raise NotPlainError
        yield cast(JsonObject, item)


def words(value: object, *kinds: str) -> list[str]:
    """A string, or the texts of a list of typed parts."""
    if isinstance(value, str):
        return [value] if value.strip() else []
    found: list[str] = []
    for part in objects(value):
        if part.get("type") not in kinds or not isinstance(part.get("text"), str):
            raise NotPlainError
        found += [str(part["text"])] if str(part["text"]).strip() else []
    return found


def arguments(value: object) -> str:
    """Arguments in one spelling, whether they came as text or as an object."""
    parsed: object = orjson.loads(value or "{}") if isinstance(value, str) else value
    return orjson.dumps(parsed, option=orjson.OPT_SORT_KEYS).decode()


def texts(found: list[str]) -> list[tuple[Said, str]]:
    return [(("text", text), "") for text in found]


def read_chat(body: JsonObject) -> PlanContext:
    question = PlanContext([], [], [])
    for message in objects(body["messages"]):
        role, content = message["role"], message.get("content")
        if role in ("system", "developer"):
            if question.turns:
                raise NotPlainError
            question.system += words(content, "text")
        elif role == "tool":
            said = ("result", "".join(words(content, "text")))
            question.turns.append(("user", [(said, str(message["tool_call_id"]))]))
        else:
            items = texts(words(content or "", "text"))
            for call in objects(message.get("tool_calls") or []):
                function = as_object(call["function"])
                said = ("call", str(function["name"]), arguments(function["arguments"]))
                items.append((said, str(call["id"])))
            question.turns.append((str(role), items))
    question.tools = [str(as_object(tool["function"])["name"]) for tool in objects(body.get("tools") or [])]
    return question


def read_responses(body: JsonObject) -> PlanContext:
    question = PlanContext([str(body["instructions"])] if body.get("instructions") else [], [], [])
    asked = body["input"]
    for item in objects([{"role": "user", "content": asked}] if isinstance(asked, str) else asked):
        match item.get("type", "message"):
            case "message" if item["role"] in ("system", "developer"):
                if question.turns:
                    raise NotPlainError
                question.system += words(item["content"], "input_text")
            case "message":
                found = words(item["content"], "input_text", "output_text")
                question.turns.append((str(item["role"]), texts(found)))
            case "function_call":
                said = ("call", str(item["name"]), arguments(item["arguments"]))
                question.turns.append(("assistant", [(said, str(item["call_id"]))]))
            case "function_call_output":
                said = ("result", "".join(words(item["output"], "input_text")))
                question.turns.append(("user", [(said, str(item["call_id"]))]))
            case _:
                raise NotPlainError
    question.tools = [str(tool["name"]) for tool in objects(body.get("tools") or []) if _is_function(tool)]
    return question


def read_anthropic(body: JsonObject) -> PlanContext:
    question = PlanContext(words(body.get("system") or "", "text"), [], [])
    for message in objects(body["messages"]):
        items: list[tuple[Said, str]] = []
        content = message["content"]
        for block in objects([{"type": "text", "text": content}] if isinstance(content, str) else content):
            match block["type"]:
                case "text":
                    items += texts(words([block], "text"))
                case "tool_use":
                    items.append((("call", str(block["name"]), arguments(block["input"])), str(block["id"])))
                case "tool_result" if not block.get("is_error"):
                    said = ("result", "".join(words(block.get("content") or "", "text")))
                    items.append((said, str(block["tool_use_id"])))
                case _:
                    raise NotPlainError
        question.turns.append((str(message["role"]), items))
    question.tools = [str(tool["name"]) for tool in objects(body.get("tools") or []) if _is_function(tool)]
    return question


def read_gemini(body: JsonObject) -> PlanContext:
    question = PlanContext([], [], [])
    system = as_object(body.get("systemInstruction"))
    question.system = [str(part["text"]) for part in objects(system.get("parts") or [])]
    for content in objects(body["contents"]):
        items: list[tuple[Said, str]] = []
        for part in objects(content["parts"]):
            call, result = as_object(part.get("functionCall")), as_object(part.get("functionResponse"))
            if call:
                items.append((("call", str(call["name"]), arguments(call.get("args") or {})), str(call["name"])))
            elif result:
                items.append((("result", arguments(result["response"])), str(result["name"])))
            elif isinstance(part.get("text"), str) and not part.get("thought"):
                items += texts([str(part["text"])] if str(part["text"]).strip() else [])
            else:
                raise NotPlainError
        role = {"model": "assistant", "function": "user"}.get(str(content.get("role", "user")), "user")
        question.turns.append((role, items))
    for tool in objects(body.get("tools") or []):
        question.tools += [str(function["name"]) for function in objects(tool.get("functionDeclarations") or [])]
    return question


def _is_function(tool: JsonObject) -> bool:
    return tool.get("type", "function") in ("function", "custom")


READERS: dict[Dialect, Callable[[JsonObject], PlanContext]] = {
    Dialect.OPENAI_CHAT: read_chat,
    Dialect.OPENAI_RESPONSES: read_responses,
    Dialect.ANTHROPIC_MESSAGES: read_anthropic,
    Dialect.GEMINI: read_gemini,
}


@cache
def questions(dialect: Dialect) -> tuple[tuple[str, str, PlanContext], ...]:
    """Of the accepted requests those that are plain: id, model, what they ask."""
    found: list[tuple[str, str, PlanContext]] = []
    for row in recordings.index():
        if recordings.DIALECTS[str(row["api"])] is not dialect or row["status"] != 200 or row["api"] == "mistral_chat":
            continue
        raw = as_object(orjson.loads((recordings.FOLDER / f"{row['id']}.json").read_bytes()))
        body = as_object(as_object(raw["request"]).get("json"))
        if "previous_response_id" in body:
            continue  # what it goes on with is stored at the provider, so it is no whole conversation
        try:
            question = READERS[dialect](body)
        except (NotPlainError, KeyError, TypeError, ValueError):
            continue
        if question.turns and question.turns[-1][0] == "user" and question.turns[-1][1]:
            found.append((str(row["id"]), str(body.get("model") or "gemini-3.8-flash"), question))
    return tuple(found)


def ask_again(dialect: Dialect, model: str, question: PlanContext) -> PlanContext:
    """The same question through our encoder, read back."""
    gemini = dialect is Dialect.GEMINI
    messages = [
        Message(role=Role(role), parts=[_part(said, call_id, gemini=gemini) for said, call_id in items])
        for role, items in question.turns
        if items
    ]
    api = AIModelAPI(provider=_PROVIDERS[dialect], dialect=dialect, api_key="key", base_url="http://127.0.0.1")
    endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name=model))
    legal = PromptFormatter.format_messages(messages, endpoint).messages
    config = AIModelCallConfig(tools=[Tool(name=name) for name in question.tools])
    request = ChatRequest.of(legal, instructions=question.system, config=config, stream=False)
    return READERS[dialect](orjson.loads(driver_for(endpoint).encode(request, endpoint).body))


def _part(said: Said, call_id: str, *, gemini: bool) -> TextPart | ToolCallPart | ToolResultPart:
    match said:
        case ("text", text):
            return TextPart(text=text)
        case ("call", name, raw):
            return ToolCallPart(call_id=call_id, name=name, arguments=raw)
        case _:
            content = JsonPart(value=orjson.loads(said[1])) if gemini else TextPart(text=said[1])
            return ToolResultPart(call_id=call_id, name=call_id if gemini else "", content=[content])


@needs_recordings
@pytest.mark.parametrize("dialect", READERS)
def test_our_request_asks_the_recorded_question(dialect: Dialect) -> None:
    asked = questions(dialect)
    assert len(asked) > 100  # most recorded requests are plain enough to be read
    for recording_id, model, question in asked:
        try:
            again = ask_again(dialect, model, question)
        except UnsupportedError as exc:
            pytest.fail(f"{recording_id}: {exc}")
        assert again.meaning == question.meaning, recording_id
