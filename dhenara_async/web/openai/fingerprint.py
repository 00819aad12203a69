"""``Fingerprint``: the hash of a conversation as a client of Chat Completions shows it and sends it back. Pure.

A conversation keeps its hash through everything that such clients change on the way: the instructions and other system
messages (some of them write the time into these), white space around words, the spelling of arguments as JSON, and the
ids of calls whose provider sent none. Reasoning and generated files are not part of it, since they do not come back.
"""

from copy import copy
from hashlib import sha256
from typing import Final, Self

import orjson

from dhenara_async.framing.lenient_json import dumps
from dhenara_async.messages.messages import (
    FilePart,
    Message,
    RefusalPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

_PURPOSE: Final = b"dhenara_async: a conversation of the OpenAI-compatible front, 1\0"


class Fingerprint:
    """The hash of a growing conversation, different for every owner.

    Args:
        owner: The owner of the conversation.
    """

    def __init__(self, owner: str) -> None:
        self._digest = sha256(_PURPOSE + owner.encode(errors="surrogatepass")).digest()
        self._calls: dict[str, int] = {}  # the places of the last answer's calls, by their ids

    def add(self, message: Message) -> None:
        """Add the next message; a system message changes nothing."""
        if message.role is Role.SYSTEM:
            return
        shown: list[object] = [message.role.value, *self._shown(message)]
        self._digest = sha256(self._digest + dumps(shown)).digest()

    def then(self, message: Message) -> Self:
        """Return the fingerprint of the conversation with one more message; this one stays as it is."""
        longer = copy(self)
        longer._calls = {**self._calls}
        longer.add(message)
        return longer

    def id_of(self, kind: str) -> str:
        """Return an id that follows from the hash, 40 characters long; each kind has another one."""
        return sha256(self._digest + kind.encode()).hexdigest()[:40]

    def _shown(self, message: Message) -> list[object]:
        """Return what a client shows of a message: its words, then the rest in order."""
        answer = message.role is Role.ASSISTANT
        words = "".join([part.text for part in message.parts if isinstance(part, TextPart | RefusalPart)]).strip()
        shown: list[object] = [words]
        if answer:
            self._calls.clear()
        calls = 0
        for part in message.parts:
            match part:
                case ToolCallPart():
                    self._calls.setdefault(part.call_id, calls)
                    calls += 1
                    shown.append([part.name, _sorted(part.arguments)])
                case ToolResultPart():
                    shown.append([self._calls.get(part.call_id, part.call_id), part.get_text()])
                case FilePart() if not answer:
                    named = part.url or part.file_id or ""
                    shown.append(named if part.data is None else sha256(part.data).hexdigest())
                case _:
                    pass
        return shown


def _sorted(arguments: str) -> str:
    """Return arguments in one spelling: some clients parse them and write them anew."""
    try:
        return orjson.dumps(orjson.loads(arguments or "{}"), option=orjson.OPT_SORT_KEYS).decode()
    except (orjson.JSONDecodeError, TypeError):
        return arguments
