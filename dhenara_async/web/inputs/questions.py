"""The common part of the bodies of ``useChat`` and AG-UI: the messages that are sent along, and the last question."""

from collections.abc import Sequence

from dhenara_async.messages.messages import FilePart
from dhenara_async.web.inputs.fields import BodyFields, RefusedRequest, WebLimits, as_fields, bad, id_of, items_of

MODEL_CHARACTERS = 128
"""The length of a model's name at most."""

NOT_A_QUESTION = "A question has parts that cannot be sent to a model."


def sent_messages(fields: BodyFields) -> list[BodyFields]:
    """Return the messages of a body, oldest first.

    Raises:
        RefusedRequest: There is no list of messages, or one of them is not an object.
    """
    return [as_fields(message, "A message") for message in items_of(fields, "messages")]


def last_question(messages: Sequence[BodyFields]) -> BodyFields:
    """Return the last message, which has to be the user's.

    Raises:
        RefusedRequest: It is not.
    """
    if not messages or messages[-1].get("role") != "user":
        raise bad("The last message is not the user's.")
    return messages[-1]


def last_answer_id(messages: Sequence[BodyFields]) -> str | None:
    """Return the id of the last answer; None if there is none, or it has no usable id."""
    for message in reversed(messages):
        if message.get("role") == "assistant":
            try:
                return id_of(message, "id")
            except RefusedRequest:
                return None
    return None


def check_room_for_file(files: Sequence[FilePart], limits: WebLimits) -> None:
    """Check that a question may have one more file, before that file is decoded.

    Raises:
        RefusedRequest: It may not.
    """
    if len(files) == limits.files:
        raise RefusedRequest(413, f"A question has at most {limits.files} files.")


def whole_question(
    texts: Sequence[str], files: Sequence[FilePart], limits: WebLimits, name: str
) -> tuple[str, tuple[FilePart, ...]]:
    """Return the text and the files of a question.

    Args:
        texts: Its texts, in order; paragraphs of the whole.
        files: Its files, in order.
        limits: How long the text may be.
        name: The field that has the text, for the refusal.

    Raises:
        RefusedRequest: It is too long, or there is neither text nor file.
    """
    text = "\n\n".join(texts)
    if len(text) > limits.text_characters:
        raise RefusedRequest(413, f"{name} is longer than {limits.text_characters} characters.")
    if not text.strip() and not files:
        raise bad("The question is empty.")
    return text, tuple(files)
