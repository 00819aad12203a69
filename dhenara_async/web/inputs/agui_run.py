"""The input of an AG-UI run.

The client sends its whole history. Taken from it are the last question, its files, and ids; words of earlier messages
come from the store. Its messages are kept for itself alone, to be sent back where a plan takes words back. Its
``tools``, ``context`` and ``state`` are not looked at.

Source: https://docs.ag-ui.com/sdk/js/core/types#runagentinput (read 2026-11-28)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from dhenara_async.frozen import ShortRepr
from dhenara_async.messages.messages import FilePart
from dhenara_async.web.inputs.fields import (
    BodyFields,
    WebLimits,
    as_fields,
    bad,
    demanded,
    file_of,
    id_of,
    items_of,
    object_of,
    text_of,
)
from dhenara_async.web.inputs.questions import (
    MODEL_CHARACTERS,
    NOT_A_QUESTION,
    check_room_for_file,
    last_answer_id,
    last_question,
    sent_messages,
    whole_question,
)

_FILES = frozenset({"image", "document", "audio", "video"})


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AgentRun(ShortRepr):
    """The request of a client.

    Attributes:
        thread_id: The conversation.
        run_id: The run, by the name that the client gave it.
        decisions: Whether tool calls may run, or why not, by the ids of the interrupts; empty unless the run goes on.
        text: The question; empty if the run goes on.
        files: The question's files.
        after: The id of the last answer before the question; None if there is none.
        model: The name of the model that was chosen (``forwardedProps.model``); None = the app's first one.
        messages: The client's messages as it sent them, for itself alone.
    """

    thread_id: str
    run_id: str
    decisions: Mapping[str, bool | str] = field(default_factory=dict[str, bool | str])
    text: str = field(default="", repr=False)
    files: tuple[FilePart, ...] = field(default=(), repr=False)
    after: str | None = None
    model: str | None = None
    messages: Sequence[BodyFields] = field(default=(), repr=False)


def agent_run(body: bytes, limits: WebLimits) -> AgentRun:
    """Check the input of a run.

    Raises:
        RefusedRequest: It is not one, or too large in some part.
    """
    fields = object_of(body)
    thread_id = demanded(id_of(fields, "threadId"), "threadId")
    run_id = demanded(id_of(fields, "runId"), "runId")
    messages = sent_messages(fields)
    props = fields.get("forwardedProps")
    model = None if props is None else text_of(as_fields(props, "forwardedProps"), "model", limit=MODEL_CHARACTERS)
    if fields.get("resume"):
        decisions = _decisions(items_of(fields, "resume"), limits)
        after = last_answer_id(messages)
        return AgentRun(
            thread_id=thread_id, run_id=run_id, decisions=decisions, after=after, model=model, messages=messages
        )
    text, files = _question_of(last_question(messages), limits)
    after = last_answer_id(messages[:-1])
    return AgentRun(
        thread_id=thread_id, run_id=run_id, text=text, files=files, after=after, model=model, messages=messages
    )


def _decisions(entries: Sequence[object], limits: WebLimits) -> dict[str, bool | str]:
    """Return what a client has decided: ``payload`` is true, or an object with ``approved`` and maybe ``reason``."""
    decisions: dict[str, bool | str] = {}
    for item in entries:
        entry = as_fields(item, "An entry of resume")
        name = demanded(text_of(entry, "interruptId", limit=limits.title_characters), "interruptId")
        status, payload = entry.get("status"), entry.get("payload")
        if status == "cancelled":
            decisions[name] = False
        elif status != "resolved":
            raise bad("status is resolved or cancelled.")
        elif payload is None or isinstance(payload, bool):
            decisions[name] = payload is True
        else:
            answer = as_fields(payload, "payload")
            approved = answer.get("approved") is True
            decisions[name] = approved or text_of(answer, "reason", limit=limits.text_characters) or False
    return decisions


def known_questions(body: bytes) -> list[tuple[str, str]]:
    """Return the ids and the words of the questions that a client has, oldest first.

    Raises:
        RefusedRequest: The body is not the input of a run.
    """
    fields = object_of(body)
    questions: list[tuple[str, str]] = []
    for message in sent_messages(fields):
        name = message.get("id")
        if message.get("role") == "user" and isinstance(name, str):
            questions.append((name, words_of(message.get("content"))))
    return questions


def words_of(content: object) -> str:
    """Return the words of a message's content, which is a text, or a list of parts: its texts are paragraphs."""
    if isinstance(content, str):
        return content
    parts = cast("list[object]", content) if isinstance(content, list) else []
    texts = [cast("dict[str, object]", part).get("text") for part in parts if isinstance(part, dict)]
    return "\n\n".join(text for text in texts if isinstance(text, str))


def _question_of(message: BodyFields, limits: WebLimits) -> tuple[str, tuple[FilePart, ...]]:
    if isinstance(message.get("content"), str):
        texts, files = [demanded(text_of(message, "content", limit=limits.text_characters), "content")], []
    else:
        texts, files = _parts_of(message, limits)
    return whole_question(texts, files, limits, "content")


def _parts_of(message: BodyFields, limits: WebLimits) -> tuple[list[str], list[FilePart]]:
    texts: list[str] = []
    files: list[FilePart] = []
    for item in items_of(message, "content"):
        part = as_fields(item, "A part")
        kind = part.get("type")
        if kind == "text":
            texts.append(demanded(text_of(part, "text", limit=limits.text_characters), "text"))
        elif isinstance(kind, str) and kind in _FILES:
            check_room_for_file(files, limits)
            files.append(_file_of(as_fields(part.get("source"), "source")))
        else:
            raise bad(NOT_A_QUESTION)
    return texts, files


def _file_of(source: BodyFields) -> FilePart:
    if source.get("type") != "data" or not isinstance(source.get("value"), str):
        raise bad("A file is sent as data, in base64.")
    media_type = source.get("mimeType")
    if not isinstance(media_type, str) or "," in media_type:
        raise bad("mimeType is missing.")
    return file_of(f"data:{media_type};base64,{source['value']}", None, None)
