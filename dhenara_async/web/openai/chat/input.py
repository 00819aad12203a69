"""Reads the body of ``POST /v1/chat/completions``. Pure.

Parameters that are not known here are ignored, because clients send those of other hosts. A part that cannot be left
out without changing the question, such as a content part of an unknown type, is refused.

Source: https://platform.openai.com/docs/api-reference/chat/create (read 2026-11-28)
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from dhenara_async.config import AIModelCallConfig
from dhenara_async.errors import ConfigurationError
from dhenara_async.frozen import ShortRepr
from dhenara_async.messages.dicts import read_messages
from dhenara_async.messages.messages import Message, MessageLike, Role
from dhenara_async.web.inputs.fields import (
    BodyFields,
    RefusedRequest,
    WebLimits,
    as_fields,
    bad,
    items_of,
    object_of,
    text_of,
)
from dhenara_async.web.openai.chat.functions import calls_functions, with_tool_calls, with_tools
from dhenara_async.web.openai.chat.options import completion_config
from dhenara_async.web.openai.errors import refused

_MODEL_NAME = 200
_MESSAGE = ("role", "content", "tool_calls", "refusal")
_RESULT = ("role", "content", "tool_call_id")
# The fields of each type of content part. file_id is not among them: it would name any file of the provider's account,
# those of other users too.
_PARTS: Mapping[str, tuple[str, ...]] = {
    "text": ("type", "text"),
    "refusal": ("type", "refusal"),
    "image_url": ("type", "image_url"),
    "input_audio": ("type", "input_audio"),
    "file": ("type", "file"),
}
_NUMBERED = re.compile(r"message (\d+): ")


@dataclass(frozen=True, slots=True, repr=False)
class CompletionRequest(ShortRepr):
    """A request of Chat Completions.

    Attributes:
        model: The name of the endpoint or plan.
        instructions: The system messages that lead the conversation.
        messages: The other messages, oldest first.
        config: The options of the call.
        streamed: Whether the answer is streamed.
        include_usage: Whether a stream ends with its usage.
        kept: Whether the answer may be kept (``store``).
        functions: Whether the request declares ``functions``, so that the answer calls one by ``function_call``.
    """

    model: str
    instructions: tuple[str, ...]
    messages: tuple[Message, ...]
    config: AIModelCallConfig
    streamed: bool
    include_usage: bool
    kept: bool
    functions: bool = False


def chat_request(body: bytes, base: AIModelCallConfig, limits: WebLimits | None = None) -> CompletionRequest:
    """Read a request.

    Args:
        body: Its body.
        base: The options that the app sets; those of the request count before them. Its tools are left out: a client
            that was not told of them could not run them.
        limits: How much a client may send; None = ``WebLimits()``.

    Raises:
        RefusedRequest: It cannot be read; the words repeat nothing of it.
    """
    fields = object_of(body)
    model = text_of(fields, "model", limit=_MODEL_NAME)
    if not model:
        raise refused("model is missing: GET /v1/models lists the names.", "model", "missing_required_parameter")
    items, most = items_of(fields, "messages"), (limits or WebLimits()).messages
    if len(items) > most:
        raise RefusedRequest(413, f"messages has more than {most} items.")
    messages = _messages(with_tool_calls(items))
    leading = 0
    while leading < len(messages) and messages[leading].role is Role.SYSTEM:
        leading += 1
    if leading == len(messages):
        raise bad("messages has no question.")
    stream_options = fields.get("stream_options")
    return CompletionRequest(
        model=model,
        instructions=tuple(text for message in messages[:leading] if (text := message.get_text())),
        messages=tuple(messages[leading:]),
        config=completion_config(with_tools(fields), base),
        streamed=fields.get("stream") is True,
        include_usage=isinstance(stream_options, dict)
        and cast("BodyFields", stream_options).get("include_usage") is True,
        kept=fields.get("store") is not False,
        functions=calls_functions(fields),
    )


# ------------------------------------------------------------------------------------------------------- messages


def _messages(items: Sequence[object]) -> list[Message]:
    if not items:
        raise bad("messages is empty.")
    read = [_message(as_fields(item, f"messages[{at}]"), at) for at, item in enumerate(items)]
    try:
        return read_messages(cast("list[MessageLike]", read))
    except (ConfigurationError, ValueError, RecursionError) as exc:  # their words may repeat what was sent
        place = _NUMBERED.match(str(exc))
        name = "messages" if place is None else f"messages[{place[1]}]"
        raise bad(f"{name} is not a message as Chat Completions takes it.") from None


def _message(fields: BodyFields, at: int) -> dict[str, object]:
    """Return a message with the fields that say something to a model."""
    role = fields.get("role")
    if not isinstance(role, str):
        raise bad(f"messages[{at}].role is not a text.")
    kept = {name: fields[name] for name in (_RESULT if role == "tool" else _MESSAGE) if name in fields}
    content = kept.get("content")
    if role == "assistant" and fields.get("audio") and not (content or kept.get("tool_calls")):
        words = f"messages[{at}] has its words only as audio, which this API does not keep: send them as content."
        raise refused(words, f"messages[{at}].audio", "unsupported_value")
    if isinstance(content, list):
        kept["content"] = [_part(part, at) for part in cast("list[object]", content)]
    elif content is not None and not isinstance(content, str):
        raise bad(f"messages[{at}].content is not a text or a list.")
    return kept


def _part(part: object, at: int) -> dict[str, object]:
    fields = as_fields(part, f"a content part of messages[{at}]")
    kind = fields.get("type")
    known = _PARTS.get(kind) if isinstance(kind, str) else None
    if known is None:
        words = f"A content part of messages[{at}] has an unknown type. Known are {', '.join(_PARTS)}."
        raise refused(words, f"messages[{at}].content", "unsupported_value")
    kept = {name: fields[name] for name in known if name in fields}
    file = kept.get("file")
    if kind == "file" and (not isinstance(file, dict) or "file_data" not in file):
        words = f"A file of messages[{at}] has no file_data: this API keeps no uploaded files."
        raise refused(words, f"messages[{at}].content", "unsupported_value")
    if isinstance(file, dict):
        sent = cast("BodyFields", file)
        kept["file"] = {name: sent[name] for name in ("file_data", "filename") if name in sent}
    return kept
