"""Reads the body of ``POST /v1/responses``. Pure.

Parameters that are not known here are ignored, because clients send those of other hosts. A part that cannot be left
out without changing the question, such as an item or a content part of an unknown type, is refused.

Source: https://platform.openai.com/docs/api-reference/responses/create (read 2026-11-28)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dhenara_async.config import AIModelCallConfig
from dhenara_async.frozen import ShortRepr
from dhenara_async.web.inputs.fields import BodyFields, RefusedRequest, WebLimits, as_fields, bad, object_of, text_of
from dhenara_async.web.openai.errors import refused
from dhenara_async.web.openai.responses.input_items import GivenItem, given_items
from dhenara_async.web.openai.responses.options import response_config, response_echo

_MODEL_NAME = 200
_ID = 2_000
_TEXT = 20_000_000
_LABELS = 16
_VALUE = "A value of metadata"
_LABEL_NAME = 64
_LABEL = 512


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ResponseRequest(ShortRepr):
    """A request for a response.

    Attributes:
        model: The name of the endpoint or plan.
        instructions: The instructions of this response only; None = none.
        system: The texts of the system and developer messages among the items, in order.
        items: The other items, oldest first.
        config: The options of the call.
        streamed: Whether the answer is streamed.
        background: Whether the answer goes on without a reader.
        store: Whether the response is kept.
        previous: The id of the response that this one follows; None if it follows none.
        conversation: The id of the conversation that it is added to; None = that of ``previous``, else a new one.
        metadata: Labels of the client.
        echo: The fields of the request that the response repeats, in OpenAI's shape.
    """

    model: str
    instructions: str | None = field(repr=False)
    system: tuple[str, ...] = field(repr=False)
    items: tuple[GivenItem, ...] = field(repr=False)
    config: AIModelCallConfig
    streamed: bool
    background: bool
    store: bool
    previous: str | None
    conversation: str | None
    metadata: Mapping[str, str] = field(repr=False)
    echo: Mapping[str, object] = field(repr=False)


def response_request(body: bytes, base: AIModelCallConfig, limits: WebLimits | None = None) -> ResponseRequest:
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
    if fields.get("prompt") is not None:
        words = "prompt is not known here: this API keeps no prompts. Send the text as instructions and input."
        raise refused(words, "prompt", "unsupported_parameter")
    system, items = given_items(fields.get("input"), (limits or WebLimits()).messages)
    previous, conversation = text_of(fields, "previous_response_id", limit=_ID), _conversation(fields)
    if previous is not None and conversation is not None:
        raise refused("previous_response_id and conversation exclude each other.", "conversation")
    store, background = _flag(fields, "store", default=True), _flag(fields, "background", default=False)
    if background and not store:
        raise refused("background needs store: an answer that is not kept could not be read later.", "background")
    return ResponseRequest(
        model=model,
        instructions=text_of(fields, "instructions", limit=_TEXT),
        system=system,
        items=items,
        config=response_config(fields, base),
        streamed=_flag(fields, "stream", default=False),
        background=background,
        store=store,
        previous=previous,
        conversation=conversation,
        metadata=_labels(fields),
        echo=response_echo(fields),
    )


def _flag(fields: BodyFields, name: str, *, default: bool) -> bool:
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise refused(f"{name} is not true or false.", name)
    return value


def _conversation(fields: BodyFields) -> str | None:
    value = fields.get("conversation")
    if value is None or isinstance(value, str):
        return text_of(fields, "conversation", limit=_ID)
    return text_of(as_fields(value, "conversation"), "id", limit=_ID)


def _labels(fields: BodyFields) -> Mapping[str, str]:
    value = fields.get("metadata")
    if value is None:
        return {}
    given = as_fields(value, "metadata")
    if len(given) > _LABELS:
        raise bad(f"metadata has more than {_LABELS} entries.")
    labels: dict[str, str] = {}
    for name, label in given.items():
        text = text_of({_VALUE: label}, _VALUE, limit=_LABEL)  # the name is the client's own: no error repeats it
        if text is None or len(name) > _LABEL_NAME or "\0" in name:
            raise RefusedRequest(400, "metadata has short names, and texts as values.")
        labels[name] = text
    return labels
