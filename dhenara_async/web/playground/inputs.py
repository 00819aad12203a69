"""The request bodies of the page, checked. Pure."""

from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dhenara_async.errors import ConfigurationError
from dhenara_async.frozen import ShortRepr
from dhenara_async.messages.messages import FilePart
from dhenara_async.web.inputs.fields import (
    BodyFields,
    RefusedRequest,
    WebLimits,
    as_fields,
    bad,
    checked_id,
    demanded,
    id_of,
    items_of,
    text_of,
)
from dhenara_async.web.inputs.questions import MODEL_CHARACTERS, check_room_for_file, whole_question
from dhenara_async.web.playground.turn_events import FollowedTurn

_ASKS = 12
"""The most models that one question is sent to."""
_FOLLOWED = 32
"""The most turns that one stream has."""
_CURSOR = 200
_CALLS = 128
"""The most tool calls that one request decides about."""
_CALL_ID = 1000


@dataclass(frozen=True, slots=True)
class Ask:
    """One model to ask.

    Attributes:
        turn_id: The id of the turn, made by the page.
        model: The name of the model.
    """

    turn_id: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TurnsRequest(ShortRepr):
    """Turns that a page begins.

    Attributes:
        kind: Whether it asks a question, asks one again, or asks another in its place.
        parent_id: The turn that a question follows; None = it is the first one.
        node_id: The turn whose question is asked again or replaced; empty for a new question.
        text: The question; empty where it is asked again.
        files: Its files; None = those of the other turn.
        asks: The models, each with the id of its turn.
    """

    kind: Literal["ask", "regenerate", "edit"]
    parent_id: str | None = None
    node_id: str = ""
    text: str = field(default="", repr=False)
    files: tuple[FilePart, ...] | None = field(default=None, repr=False)
    asks: tuple[Ask, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ResumeRequest(ShortRepr):
    """Decisions of a person, with which a tool loop goes on.

    Attributes:
        node_id: The turn whose answer has the calls.
        decisions: True = run the call, False or a reason for the model = do not, by ``decision_key``. Empty = nothing
            waits for a decision, the loop goes on.
        model: The name of the model that goes on; None = the one that answered the turn.
    """

    node_id: str
    decisions: Mapping[str, bool | str] = field(repr=False)
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CheckRequest(ShortRepr):
    """A question that is tried without being sent.

    Attributes:
        model: The name of the target.
        parent_id: The turn that it would follow; None = it would be the first one.
        text: The question; may be empty.
        files: Its files.
    """

    model: str
    parent_id: str | None
    text: str = field(repr=False)
    files: tuple[FilePart, ...] = field(repr=False)


def turns_request(fields: BodyFields, limits: WebLimits) -> TurnsRequest:
    """Check the body of a request that begins turns.

    Raises:
        RefusedRequest: It is not one, or too large in some part.
    """
    asks = _asks(fields)
    kind = fields.get("kind")
    if kind == "ask":
        text, files = whole_question([_text(fields, limits)], _files(fields, limits), limits, "question")
        return TurnsRequest(kind="ask", parent_id=id_of(fields, "parentId"), text=text, files=files, asks=asks)
    if kind == "regenerate":
        return TurnsRequest(kind="regenerate", node_id=demanded(id_of(fields, "nodeId"), "nodeId"), asks=asks)
    if kind != "edit":
        raise bad("kind is ask, regenerate, edit or resume.")
    node_id = demanded(id_of(fields, "nodeId"), "nodeId")
    text = _text(fields, limits)
    files = None if fields.get("files") is None else tuple(_files(fields, limits))
    if not text.strip() and not files:
        raise bad("The question is empty.")
    return TurnsRequest(kind="edit", node_id=node_id, text=text, files=files, asks=asks)


def resume_request(fields: BodyFields, limits: WebLimits) -> ResumeRequest:
    """Check the body of a request that goes on with a tool loop.

    Raises:
        RefusedRequest: It is not one, or too large in some part.
    """
    given = fields.get("decisions")
    decisions = as_fields({} if given is None else given, "decisions")
    if len(decisions) > _CALLS:
        raise RefusedRequest(413, f"decisions has more than {_CALLS} calls.")
    return ResumeRequest(
        node_id=demanded(id_of(fields, "nodeId"), "nodeId"),
        decisions={call: _decision(call, value, limits) for call, value in decisions.items()},
        model=text_of(fields, "model", limit=MODEL_CHARACTERS),
    )


def _decision(call: str, value: object, limits: WebLimits) -> bool | str:
    if len(call) > _CALL_ID:
        raise bad("The id of a call is too long.")
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise bad("A decision is true, false or the reason of a refusal.")
    reason = text_of({"reason": value}, "reason", limit=limits.text_characters) or ""
    return reason.strip() or False


def check_request(fields: BodyFields, limits: WebLimits) -> CheckRequest:
    """Check the body of a dry run.

    Raises:
        RefusedRequest: It is not one, or too large in some part.
    """
    return CheckRequest(
        model=demanded(text_of(fields, "model", limit=MODEL_CHARACTERS), "model"),
        parent_id=id_of(fields, "parentId"),
        text=_text(fields, limits),
        files=tuple(_files(fields, limits)),
    )


def followed_turns(text: str) -> tuple[FollowedTurn, ...]:
    """Return the turns of ``ID[:CURSOR],ID…``, each once.

    Raises:
        RefusedRequest: There is none, there are too many, or one has no usable id.
    """
    turns: dict[str, FollowedTurn] = {}
    items = [item for item in text.split(",") if item]
    if not items:
        raise bad("turns is missing.")
    if len(items) > _FOLLOWED:
        raise RefusedRequest(413, f"turns has more than {_FOLLOWED} turns.")
    for item in items:
        turn_id, _, cursor = item.partition(":")
        if len(cursor) > _CURSOR:
            raise bad("A cursor is too long.")
        turns[checked_id(turn_id, "turns")] = FollowedTurn(turn_id, cursor or None)
    return tuple(turns.values())


def _asks(fields: BodyFields) -> tuple[Ask, ...]:
    items = items_of(fields, "asks")
    if not items:
        raise bad("asks is empty.")
    if len(items) > _ASKS:
        raise RefusedRequest(413, f"asks has more than {_ASKS} models.")
    asks: dict[str, Ask] = {}
    for item in items:
        ask = as_fields(item, "An item of asks")
        turn_id = demanded(id_of(ask, "turnId"), "turnId")
        if ":" in turn_id:  # it stands between a turn and its cursor where events are asked for
            raise bad("turnId has a colon.")
        asks[turn_id] = Ask(turn_id, demanded(text_of(ask, "model", limit=MODEL_CHARACTERS), "model"))
    if len(asks) != len(items):
        raise bad("Two items of asks have the same turnId.")
    return tuple(asks.values())


def _text(fields: BodyFields, limits: WebLimits) -> str:
    return text_of(fields, "question", limit=limits.text_characters) or ""


def _files(fields: BodyFields, limits: WebLimits) -> Sequence[FilePart]:
    if fields.get("files") is None:
        return ()
    files: list[FilePart] = []
    for item in items_of(fields, "files"):
        check_room_for_file(files, limits)
        files.append(_file(as_fields(item, "A file")))
    return files


def _file(fields: BodyFields) -> FilePart:
    """Return a file that the page has sent as base64.

    Raises:
        RefusedRequest: It is not a file of that kind.
    """
    data = fields.get("data")
    if not isinstance(data, str):
        raise bad("data of a file is not a text.")
    media_type = text_of(fields, "mediaType", limit=200)
    name = text_of(fields, "name", limit=1000)
    try:
        content = b64decode(data, validate=True)
        return FilePart.from_bytes(content, media_type=media_type or None, filename=name[:200] if name else None)
    except NotBase64:
        raise bad("data of a file is not base64.") from None
    except (ConfigurationError, ValueError):
        raise bad("A file cannot be used: it is empty, of an unknown kind, or not what its media type says.") from None
