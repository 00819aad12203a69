"""What an endpoint is handed that goes on with the answer of another, and how the two texts become one."""

from collections.abc import Sequence

from dhenara_async.calls.source import CallRecord, EventSource
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import UnsupportedError
from dhenara_async.events import PartEnd, PartStart, StreamEvent, StreamReset, TextDelta
from dhenara_async.hosts.registry import driver_for
from dhenara_async.messages.messages import Citation, Message, Origin, Role, TextPart
from dhenara_async.plans.context import PlanContext


class CannotGoOnError(UnsupportedError):
    """A target cannot go on with the answer of another."""


def answer_of(endpoint: AIModelEndpoint, question: PlanContext) -> EventSource:
    """The answer of one endpoint, or the rest of one that another has begun.

    Raises:
        ConfigurationError: It cannot be called as asked.
        UnsupportedError: It cannot be told a part of what is asked, or cannot go on with what was begun.
    """
    more, dropped = _handed(endpoint, question)
    feed = question.ask(endpoint, question.config, more)
    return RestSource(feed, dropped) if dropped else feed


def _handed(endpoint: AIModelEndpoint, question: PlanContext) -> tuple[list[Message], str]:
    """What stands behind the question where an answer is to be gone on with.

    Returns:
        The messages, and the white space at the end of what was said so far that they do not tell.
    """
    so_far = question.so_far or ""
    words = so_far.rstrip()
    if not words:
        return [], so_far
    said = Message(role=Role.ASSISTANT, parts=(TextPart(text=so_far),))
    rules = driver_for(endpoint).rules(endpoint)
    if rules.prefill:  # the formatter takes off what the target refuses at its end, and reports that
        return [said], "" if rules.ragged_prefill else so_far[len(words) :]
    if question.continuation is None:
        model = endpoint.ai_model.model_name
        raise CannotGoOnError(f"{model} cannot be handed the beginning of its answer; give Failover a continuation")
    return [said, Message.user(question.continuation)], ""


class RestSource:
    """The rest of an answer by who does not know that what it goes on with ended in white space; see ``EventSource``.

    Such a model mostly begins with that white space itself, and the reader has it already.

    Args:
        feed: Its answer.
        dropped: The white space that it was not told.
    """

    def __init__(self, feed: EventSource, dropped: str) -> None:
        self._feed = feed
        self._dropped = dropped
        self._part: int | None = None  # the first text; None = it has not come yet, or is over
        self._held: str | None = ""  # the white space it begins with, so far; None = its words have come
        self._cut = 0  # how many characters were taken off it
        self._settled = False  # nothing is left to be done

    @property
    def over(self) -> bool:
        """See ``EventSource``."""
        return self._feed.over

    @property
    def repeatable(self) -> bool:
        """See ``EventSource``."""
        return self._feed.repeatable

    @property
    def origin(self) -> Origin:
        """See ``EventSource``."""
        return self._feed.origin

    @property
    def account(self) -> CallRecord:
        """See ``EventSource``."""
        return self._feed.account

    async def receive(self) -> Sequence[StreamEvent]:
        """See ``EventSource``."""
        events = await self._feed.receive()
        return events if self._settled or not events else [told for event in events for told in self._each(event)]

    async def close(self) -> None:
        """See ``EventSource``."""
        await self._feed.close()

    def _each(self, event: StreamEvent) -> Sequence[StreamEvent]:
        match event:
            case StreamReset():
                self._part, self._held, self._cut, self._settled = None, "", 0, False
            case PartStart(kind="text") if self._part is None and not self._settled:
                self._part = event.part_id
            case TextDelta() if event.part_id == self._part and self._held is not None:
                return self._begun(event.part_id, self._held + event.text)
            case PartEnd(part=TextPart() as part) if event.part_id == self._part:
                before = () if self._held is None else self._ended(event.part_id, self._held)
                self._settled = True
                return (*before, PartEnd(event.part_id, without(part, self._cut)) if self._cut else event)
            case _:
                pass
        return (event,)

    def _begun(self, part_id: int, text: str) -> Sequence[StreamEvent]:
        """The beginning of the first text, once it is more than white space."""
        words = text.lstrip()
        if not words:
            self._held = text
            return ()
        return self._ended(part_id, text[: len(text) - len(words)], words)

    def _ended(self, part_id: int, blank: str, words: str = "") -> Sequence[StreamEvent]:
        """The first text, whose white space is known to its end, and the words behind that."""
        self._held = None
        self._cut = _repeated(self._dropped, blank)
        text = blank[self._cut :] + words
        return (TextDelta(part_id, text),) if text else ()


def _repeated(shown: str, blank: str) -> int:
    """How much of the white space ``blank`` is there already, where ``shown`` is the white space before it.

    What the end of the one and the beginning of the other have in common; and blanks that only part two words, where
    these are parted.
    """
    for length in range(min(len(shown), len(blank)), 0, -1):
        if shown.endswith(blank[:length]):
            return length
    return 0 if "\n" in blank else len(blank)


def without(part: TextPart, cut: int) -> TextPart:
    """``part`` without its first characters."""

    def moved(citation: Citation) -> Citation:
        places = {"start": citation.start, "end": citation.end}
        update = {name: max(0, place - cut) for name, place in places.items() if place is not None}
        return citation.changed(**update) if update else citation

    citations = tuple(moved(citation) for citation in part.citations)
    return part.changed(text=part.text[cut:], citations=citations)
