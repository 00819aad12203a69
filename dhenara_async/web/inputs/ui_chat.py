"""The request body of ``useChat`` (AI SDK 6 and 7).

The page sends its whole history. Taken from it are the last question, its files, and ids; all words of earlier messages
come from the store, for a page can send anything.

Source: https://ai-sdk.dev/docs/ai-sdk-ui/transport (read 2026-11-28)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal

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


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PageRequest(ShortRepr):
    """The request of a page.

    Attributes:
        chat_id: The conversation.
        trigger: Whether it asks a question or wants another answer to one.
        message_id: The message to answer anew, or the user's message that was edited; None for a new question.
        decisions: Whether tool calls may run, or why not, by the ids of the calls; empty unless the page answers
            requests for approval of the answer ``after``.
        text: The question; empty if ``trigger`` is ``regenerate-message``.
        files: The question's files.
        after: The id of the last answer that the page shows before the question; None if it shows none.
        turn_id: The id of the turn to begin, the same when the page repeats its request (by its ``turnId``, else by the
            question with its message's id); None if each request begins a turn.
        model: The name of the model that was chosen; None = the app's first one.
        calls: The tool calls of the message that goes on, for their ids on the page alone.
    """

    chat_id: str
    trigger: Literal["submit-message", "regenerate-message"]
    message_id: str | None = None
    decisions: Mapping[str, bool | str] = field(default_factory=dict[str, bool | str])
    text: str = field(default="", repr=False)
    files: tuple[FilePart, ...] = field(default=(), repr=False)
    after: str | None = None
    turn_id: str | None = None
    model: str | None = None
    calls: tuple[tuple[str, bool], ...] = ()


def page_request(body: bytes, limits: WebLimits) -> PageRequest:
    """Check the body of a ``useChat`` request.

    Raises:
        RefusedRequest: It is not one, or too large in some part.
    """
    fields = object_of(body)
    chat_id = demanded(id_of(fields, "id"), "id")
    messages = sent_messages(fields)
    trigger = fields.get("trigger", "submit-message")
    message_id, given_id = id_of(fields, "messageId"), id_of(fields, "turnId")
    turn_id = None if given_id is None else digest_of(chat_id, given_id)
    model = text_of(fields, "model", limit=MODEL_CHARACTERS)
    if trigger == "regenerate-message":
        return PageRequest(
            chat_id=chat_id,
            trigger="regenerate-message",
            message_id=message_id,
            after=last_answer_id(messages),
            turn_id=turn_id,
            model=model,
        )
    if trigger != "submit-message":
        raise bad("trigger is submit-message or regenerate-message.")
    if messages and messages[-1].get("role") == "assistant":
        return PageRequest(
            chat_id=chat_id,
            trigger="submit-message",
            decisions=_decisions(messages[-1], limits),
            after=demanded(id_of(messages[-1], "id"), "id"),
            model=model,
            calls=_calls_of(messages[-1]),
        )
    message = last_question(messages)
    text, files = question_of(message, limits)
    after = last_answer_id(messages[:-1])
    if turn_id is None and message_id is None:
        turn_id = _turn_id(chat_id, after, message, text, files)
    return PageRequest(
        chat_id=chat_id,
        trigger="submit-message",
        message_id=message_id,
        text=text,
        files=files,
        after=after,
        turn_id=turn_id,
        model=model,
    )


def question_of(message: BodyFields, limits: WebLimits) -> tuple[str, tuple[FilePart, ...]]:
    """Return the text and the files of a user's message.

    Raises:
        RefusedRequest: It has something else, or too much.
    """
    texts: list[str] = []
    files: list[FilePart] = []
    for item in items_of(message, "parts"):
        part = as_fields(item, "A part")
        kind = part.get("type")
        if kind == "text":
            texts.append(demanded(text_of(part, "text", limit=limits.text_characters), "text"))
        elif kind == "file":
            check_room_for_file(files, limits)
            files.append(file_of(part.get("url"), part.get("mediaType"), part.get("filename")))
        elif not isinstance(kind, str) or not kind.startswith("data-"):  # data parts are the page's own
            raise bad(NOT_A_QUESTION)
    return whole_question(texts, files, limits, "text")


def _decisions(message: BodyFields, limits: WebLimits) -> dict[str, bool | str]:
    """Return the page's answers to requests for approval.

    Raises:
        RefusedRequest: There are none.
    """
    decisions: dict[str, bool | str] = {}
    for item in items_of(message, "parts"):
        part = as_fields(item, "A part")
        if part.get("state") != "approval-responded":
            continue
        approval = as_fields(part.get("approval"), "approval")
        call_id = demanded(text_of(part, "toolCallId", limit=limits.title_characters), "toolCallId")
        approved = approval.get("approved")
        if not isinstance(approved, bool):
            raise bad("approved is neither true nor false.")
        reason = text_of(approval, "reason", limit=limits.text_characters)
        decisions[call_id] = approved or reason or False
    if not decisions:
        raise bad("The last message is not the user's, and approves nothing.")
    return decisions


def _calls_of(message: BodyFields) -> tuple[tuple[str, bool], ...]:
    """Return the ids of the tool calls that a message shows, and whether they wait for a result."""
    parts = [as_fields(part, "A part") for part in items_of(message, "parts")]
    named = ((part.get("toolCallId"), part.get("state") in _WAITING) for part in parts)
    return tuple((name, waits) for name, waits in named if isinstance(name, str))


_WAITING = ("input-available", "approval-requested", "approval-responded")


def _turn_id(chat_id: str, after: str | None, message: BodyFields, text: str, files: Sequence[FilePart]) -> str | None:
    """Return an id that is the same if the page sends the same question again; None if the question has no id.

    The id of the message alone is not enough: an edited message keeps it.
    """
    message_id = message.get("id")
    if not isinstance(message_id, str) or not message_id:
        return None
    return digest_of(chat_id, after or "", message_id, text, *(file.data or b"" for file in files))


def digest_of(*pieces: str | bytes) -> str:
    """Return the id of a turn that is made of the pieces."""
    digest = sha256()
    for piece in pieces:
        encoded = piece.encode(errors="replace") if isinstance(piece, str) else piece
        digest.update(b"%d:" % len(encoded))
        digest.update(encoded)
    return digest.hexdigest()[:32]
