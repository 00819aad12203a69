"""Plain text: the words of the answer and nothing else."""

from collections.abc import Mapping, Sequence

from dhenara_async.events import PartStart, StreamEvent, StreamReset, StreamStart, TextDelta
from dhenara_async.web.frames.failures import Failure
from dhenara_async.web.frames.protocol import UNBUFFERED, Ended


class TextFrames:
    """The text of the first choice of an answer. See ``Frames``.

    The protocol has no words for a cut: the connection is broken, so that the client does not take the beginning for
    the whole. A plan that starts the answer again at another endpoint begins a new paragraph.
    """

    media_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = {**UNBUFFERED, "x-content-type-options": "nosniff"}
    comment: bytes = b""

    def __init__(self) -> None:
        self._others: set[int] = set()  # parts of further choices
        self._has_words = False

    def begin(self) -> bytes:
        """Return nothing."""
        return b""

    def feed(self, events: Sequence[StreamEvent], ids: Sequence[str] = ()) -> bytes:
        """See ``Frames``; the ids are left out."""
        words: list[str] = []
        for event in events:
            if isinstance(event, TextDelta):
                if event.part_id not in self._others:
                    words.append(event.text)
            elif isinstance(event, PartStart):
                if event.choice:
                    self._others.add(event.part_id)
            elif isinstance(event, StreamStart):  # a step of a tool loop has part ids of its own
                self._others.clear()
            elif isinstance(event, StreamReset):
                self._others.clear()
                if self._has_words or words:
                    words.append("\n\n")
        self._has_words = self._has_words or bool(words)
        return "".join(words).encode(errors="replace")

    def end(self, ended: Ended) -> bytes:
        """Return nothing."""
        return b""

    def fail(self, failure: Failure) -> None:
        """Have the connection broken."""
        return
