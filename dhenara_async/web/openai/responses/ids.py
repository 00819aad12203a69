"""Ids of responses: each names a turn and its conversation, so that any process on the same store finds it. Pure.

An id is no secret: a client that has it still sees only conversations of its own owner. Items of a response are
named after it: ``msg_<response>_<index>``.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from secrets import token_urlsafe

from dhenara_async.frozen import ShortRepr

_RESPONSE = "resp_"
_TWO_UUIDS = "u"
_TEXTS = "t"
_NOT_KEPT = "n"
_LENGTH = 1000


@dataclass(frozen=True, slots=True, repr=False)
class TurnPlace(ShortRepr):
    """Where the turn of a response is.

    Attributes:
        conversation: The id of its conversation.
        node: Its own id, and that of its node.
    """

    conversation: str
    node: str


def response_id(place: TurnPlace) -> str:
    """Return the id of the response that a turn gives."""
    pair = (place.node, place.conversation)
    if all(_is_uuid(each) for each in pair):
        return f"{_RESPONSE}{_TWO_UUIDS}{_encoded(bytes.fromhex(''.join(pair)))}"
    return f"{_RESPONSE}{_TEXTS}{_encoded('/'.join((str(len(place.node)), *pair)).encode())}"


def unkept_response_id() -> str:
    """Return the id of a response that is not kept; it names no turn."""
    return f"{_RESPONSE}{_NOT_KEPT}{token_urlsafe(32)}"


def place_of(response: str) -> TurnPlace | None:
    """Return the turn of a response; None if the id is not that of a response that is kept."""
    if not response.startswith(_RESPONSE) or len(response) > _LENGTH or not response.isascii():
        return None
    kind, text = response[5:6], response[6:]
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        if kind == _TWO_UUIDS and len(data) == 32:
            return TurnPlace(conversation=data[16:].hex(), node=data[:16].hex())
        if kind == _TEXTS:
            length, _, pair = data.decode().partition("/")
            node, conversation = pair[: int(length)], pair[int(length) + 1 :]
            return TurnPlace(conversation=conversation, node=node) if node and conversation else None
    except ValueError:
        pass
    return None


def response_of_item(item: str) -> str | None:
    """Return the id of the response that an item belongs to; None if the id is not that of an item of ours."""
    tail, _, index = item.partition("_")[2].rpartition("_")
    return f"{_RESPONSE}{tail}" if tail and index.isdecimal() else None


def is_reference(sealed: str) -> bool:
    """Whether the encrypted content of reasoning is one of ours: the id of its item, which no model can read."""
    return sealed.startswith("rs_") and response_of_item(sealed) is not None


def _is_uuid(text: str) -> bool:
    return len(text) == 32 and not set(text) - set("0123456789abcdef")


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")
