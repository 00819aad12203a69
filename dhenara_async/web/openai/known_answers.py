"""``KnownAnswers``: recognises answers of this process in a history that a client sends back.

Clients of Chat Completions send the whole conversation with each question, and no signatures or encrypted reasoning. An
answer is known by the hash of everything before it and of its own words and calls. Where that matches, the message that
the model gave takes the place of what the client sent, so that a change of the model is a hop like any other; where it
does not, the client's message is taken as it is. System messages are not part of the hash: some clients write the time
into them.
"""

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256

import orjson

from dhenara_async.framing.lenient_json import dumps
from dhenara_async.messages.messages import FilePart, Message, Part, RefusalPart, Role, TextPart, ToolCallPart

_FILE_BYTES = 1 << 18
"""An answer with a larger generated file is not remembered."""


class KnownAnswers:
    """The newest answers, each known to its owner only.

    Args:
        most: How many answers are remembered.
    """

    def __init__(self, most: int = 4_000) -> None:
        self._most = most
        self._answers: OrderedDict[bytes, Message] = OrderedDict()

    def recognised(self, owner: str, messages: Sequence[Message]) -> list[Message]:
        """Return a conversation with our own messages in place of the answers that are known.

        Args:
            owner: Who sends it.
            messages: The conversation as it was sent.
        """
        found: list[Message] = []
        digest = _start(owner)
        for message in messages:
            digest = _then(digest, message)
            known = self._answers.get(digest) if message.role is Role.ASSISTANT else None
            if known is not None:
                self._answers.move_to_end(digest)
            found.append(message if known is None else known)
        return found

    def remember(self, owner: str, messages: Sequence[Message], answer: Message) -> None:
        """Remember an answer.

        Args:
            owner: Whose it is.
            messages: The conversation before it, as it was sent or as ``recognised`` returned it.
            answer: The answer.
        """
        if any(isinstance(part, FilePart) and (part.size or 0) > _FILE_BYTES for part in answer.parts):
            return
        digest = _start(owner)
        for message in (*messages, answer):
            digest = _then(digest, message)
        self._answers[digest] = answer
        self._answers.move_to_end(digest)
        if len(self._answers) > self._most:
            self._answers.popitem(last=False)


def _start(owner: str) -> bytes:
    return sha256(owner.encode(errors="surrogatepass")).digest()


def _then(digest: bytes, message: Message) -> bytes:
    """Return the hash of a conversation and one more message."""
    if message.role is Role.SYSTEM:
        return digest
    return sha256(digest + dumps([message.role.value, *_shown(message.parts)])).digest()


def _shown(parts: Sequence[Part]) -> list[object]:
    """Return what a client shows of a message and sends back: its words, then the rest in order."""
    words = "".join([part.text for part in parts if isinstance(part, TextPart | RefusalPart)]).strip()
    shown: list[object] = [words]
    for part in parts:
        if isinstance(part, ToolCallPart):
            shown.append([part.call_id, part.name, _sorted(part.arguments)])
        elif part.type == "tool_result":
            shown.append([part.call_id, part.get_text()])
        elif isinstance(part, FilePart):
            named = part.url or part.file_id or ""
            shown.append(named if part.data is None else sha256(part.data).hexdigest())
    return shown


def _sorted(arguments: str) -> str:
    """Return arguments in one spelling: some clients parse them and write them anew."""
    try:
        return orjson.dumps(orjson.loads(arguments), option=orjson.OPT_SORT_KEYS).decode()
    except (orjson.JSONDecodeError, TypeError):
        return arguments
