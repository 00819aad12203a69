"""Signs nodes, so that opaque state which somebody else has written into a store is not sent to a provider.

A node's signature covers the parts of it that carry something opaque: their kind, origin, state and everything they
show, so that neither can be changed without the other. It stands on the node, which is what is stored and read as a
whole, and covers its id and its origin too. Parts that are only words are not covered: a person or program that can
write to the store can change those.
"""

import hmac
import json
from collections.abc import Sequence
from hashlib import sha256
from itertools import chain

from pydantic import SecretStr

from dhenara_async.conversation import ConversationNode
from dhenara_async.drivers.rules import within_bounds
from dhenara_async.errors import ConfigurationError
from dhenara_async.messages.messages import FilePart, HostedToolPart, Part, ToolResultPart

SigningKey = bytes | str | SecretStr

_PURPOSE = b"dhenara_async: opaque state of a conversation node, 1\0"


class SigningKeys:
    """The keys by which nodes are signed and known again. They are in no repr.

    Args:
        keys: One key, or several of which the first signs and all are accepted: to change keys, put the new one before
            the old, and take the old one away when what it has signed may go. 32 random bytes make a good key.

    Raises:
        ConfigurationError: There is no key, or an empty one.
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: SigningKey | Sequence[SigningKey]) -> None:
        several = (keys,) if isinstance(keys, bytes | str | SecretStr) else tuple(keys)
        self._keys = tuple(map(_bytes, several))
        if not self._keys or not all(self._keys):
            raise ConfigurationError("signing_key is empty: pass 32 random bytes, or a sequence of keys, newest first")

    def __repr__(self) -> str:
        return f"SigningKeys({len(self._keys)})"

    def signed(self, node: ConversationNode) -> ConversationNode:
        """``node`` with its signature; without one where nothing in it is opaque."""
        opaque = _opaque(node)
        covered = _covered(node, opaque) if opaque else None
        signature = None if covered is None else _signature(self._keys[0], covered)
        return node if signature == node.signature else node.changed(signature=signature)

    def vouch_for(self, node: ConversationNode) -> bool:
        """Whether what is opaque in ``node`` is there as somebody with a key has signed it; true where nothing is."""
        opaque = _opaque(node)
        if not opaque:
            return True
        covered = _covered(node, opaque)
        if covered is None or node.signature is None:
            return False
        given, found = node.signature.encode(errors="replace"), False
        for key in self._keys:  # all of them, so that the time it takes does not tell which one fits
            found |= hmac.compare_digest(_signature(key, covered).encode(), given)
        return found


def _bytes(key: SigningKey) -> bytes:
    if isinstance(key, SecretStr):
        key = key.get_secret_value()
    return key.encode() if isinstance(key, str) else bytes(key)


def _signature(key: bytes, covered: bytes) -> str:
    return hmac.new(key, _PURPOSE + covered, sha256).hexdigest()


def _covered(node: ConversationNode, opaque: Sequence[Part]) -> bytes | None:
    """Return the bytes that a signature of ``node`` covers; None where it is too deep or too large to be looked at.

    Keys are sorted, because some databases keep JSON in an order of their own; what has its default is left out, so
    that fields which later versions add change nothing.
    """
    if not all(map(_within_bounds, opaque)):
        return None
    origin = None if node.origin is None else node.origin.model_dump(mode="json", exclude_defaults=True)
    states = [[part.type, part.model_dump(mode="json", exclude_defaults=True)] for part in opaque]
    return json.dumps([node.id, origin, states], sort_keys=True, separators=(",", ":")).encode()


def _opaque(node: ConversationNode) -> list[Part]:
    """The parts of a node that carry opaque state, or name a file in somebody's store, in order."""
    answered = () if node.response is None else (part for choice in node.response.choices for part in choice.parts)
    return [part for part in chain(node.tool_results, node.attached_files, answered) if _is_opaque(part)]


def _is_opaque(part: Part) -> bool:
    match part:
        case FilePart():
            return bool(part.provider_state) or part.is_stored
        case ToolResultPart():
            return bool(part.provider_state) or any(
                isinstance(item, FilePart) and item.is_stored for item in part.content
            )
        case _:
            return bool(part.provider_state)


def _within_bounds(part: Part) -> bool:
    shown = [part.input, part.output] if isinstance(part, HostedToolPart) else []
    return within_bounds([part.provider_state, *shown])
