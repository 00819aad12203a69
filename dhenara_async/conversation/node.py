"""``ConversationNode``: one finished turn as data, and the message of its question."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, Literal
from uuid import uuid4

from pydantic import Field, JsonValue, PrivateAttr

from dhenara_async.errors import StreamStateError
from dhenara_async.formatter.conversion import ConversionReport
from dhenara_async.formatter.markdown import as_markdown, code_span, quoted_lines
from dhenara_async.frozen import FrozenModel, Memo
from dhenara_async.messages.messages import FilePart, FrozenList, Message, Origin, Part, Role, TextPart, ToolResultPart
from dhenara_async.response import Attempt, CallWarning, ChatResponse, Decision, Seam, Usage


def new_id() -> str:
    """Return a new id of a node or a conversation."""
    return uuid4().hex


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _is_none(value: object) -> bool:
    """Whether a field that later versions added stays out of the JSON, so that older JSON comes back byte for byte."""
    return value is None


PIECES: Final = "\n\n"
"""Stands between two pieces of a question's text."""


class ConversationNode(FrozenModel):
    """One turn: a question and its answer.

    Attributes:
        id: The unique id; generated unless given.
        parent_id: The id of the preceding turn; None for the first turn.
        user_query: The question's text.
        attached_files: The question's files, in order.
        order: How the question's text and files follow each other where that is not the files and then the text: the
            length of each piece of the text in characters, -1 for the next file. A blank line is between two pieces.
        tool_results: The results of the preceding turn's tool calls.
        instructions: The system instructions that led this turn.
        response: The answer, complete or partial; None if nothing was received.
        timestamp: The end of the turn, ISO 8601.
        asked_at: When the turn began, ISO 8601; None for nodes made by hand, and for turns that were never begun.
        first_word_at: When the first content of the answer came, ISO 8601; None if nothing came.
        knobs: The settings of the call that differed from their defaults (``AIModelCallConfig.knobs``); None for nodes
            made by hand.
        origin: The answering endpoint; None for nodes made by hand.
        status: ``interrupted``: cut, cancelled or crashed after some content; ``failed``: no content was received.
        error: Why the turn is not complete, without secrets; None if it is complete.
        request_id: The provider's request id; None if absent.
        attempts: Number of requests.
        tries: The requests, in order.
        plan: The decisions of plans over several endpoints, outermost first; empty if one endpoint was called directly.
        seams: The places where one endpoint continued the answer of another; ``origin`` is the last endpoint.
        warnings: Settings that the target dropped or adjusted.
        conversion: The report of history parts that were changed for the target (``ConversionReport.condensed``).
        cost: The provider's price, computed at the end of the turn: by the endpoint's own rates, else in US dollars by
            its list prices; None if unknown.
        charge: The price for your own customer, computed at the same time; None if unknown.
        prefix: Hash of everything the model was shown, for models that accept reasoning back only behind the same
            prefix; else None.
        trace_id: The trace that the call was part of, 32 hexadecimal digits; None without an observer that traces.
        span_id: The call in that trace, 16 hexadecimal digits: scores of the answer can be reported for it later.
        loop_id: The id of the first node of its tool loop, the same in all nodes of the loop; None outside of a loop.
        signature: Signature of the node's opaque state, by the manager's ``signing_key``; None without a key or
            without such state.
        metadata: A JSON object of the application's own; None if it gave none.
    """

    id: str = Field(default_factory=new_id, min_length=1)
    parent_id: str | None = None
    user_query: str = ""
    attached_files: FrozenList[FilePart] = ()
    tool_results: FrozenList[ToolResultPart] = ()
    instructions: FrozenList[str] = ()
    response: ChatResponse | None = None
    timestamp: str = Field(default_factory=_now)
    origin: Origin | None = None
    status: Literal["complete", "interrupted", "failed"] = "complete"
    error: str | None = None
    request_id: str | None = None
    attempts: int = 1
    tries: tuple[Attempt, ...] = ()
    plan: tuple[Decision, ...] = ()
    seams: tuple[Seam, ...] = ()
    warnings: tuple[CallWarning, ...] = ()
    conversion: ConversionReport = Field(default_factory=ConversionReport)
    cost: Decimal | None = None
    charge: Decimal | None = None
    prefix: str | None = None
    trace_id: str | None = Field(default=None, exclude_if=_is_none)
    span_id: str | None = Field(default=None, exclude_if=_is_none)
    loop_id: str | None = Field(default=None, exclude_if=_is_none)
    signature: str | None = None
    asked_at: str | None = Field(default=None, exclude_if=_is_none)
    first_word_at: str | None = Field(default=None, exclude_if=_is_none)
    knobs: Mapping[str, JsonValue] | None = Field(default=None, exclude_if=_is_none)
    metadata: Mapping[str, JsonValue] | None = Field(default=None, repr=False, exclude_if=_is_none)
    order: tuple[int, ...] | None = Field(default=None, exclude_if=_is_none)
    _folds: Memo[object] = PrivateAttr(default=Memo())  # the formatter's cached history up to this node

    @property
    def usage(self) -> Usage:
        """The answer's token usage; all unknown if there is no answer."""
        return Usage() if self.response is None else self.response.usage

    def _repr_markdown_(self) -> str:
        """Return the turn as Jupyter shows it: the results of tools and the question as a quotation, then the answer,
        then what went wrong."""
        results = "\n>\n".join(quoted_lines(_result_line(result)) for result in self.tool_results)
        answer = "" if self.response is None else as_markdown(self.response)
        wrong = "" if self.status == "complete" else f"*{self.status}: {self.error or 'no reason is known'}*"
        return "\n\n".join(filter(None, (results, quoted_lines(self.user_query), answer, wrong)))

    @property
    def answer(self) -> ChatResponse:
        """The answer, complete or partial (``status``).

        Raises:
            StreamStateError: There is none; the message says why.
        """
        if self.response is None:
            if self.status == "failed":
                raise StreamStateError(f"node {self.id} has no answer, its turn failed: {self.error or 'unknown why'}")
            raise StreamStateError(f"node {self.id} has no answer: it was made without a response")
        return self.response

    def files_to_ask_again(self) -> tuple[FilePart, ...]:
        """Return the question's files for another turn; those of a provider's file store are marked as such."""
        return tuple(map(self._with_store, self.attached_files))

    def as_messages(self) -> list[Message]:
        """Return the turn as messages: the question, then the first answer if there is one."""
        files = map(self._with_store, self.attached_files)
        asked = question(self.user_query, files, self.tool_results, node=self.id, order=self.order)
        reply = self.answer_message()
        return asked if reply is None else [*asked, reply]

    def answer_message(self) -> Message | None:
        """Return the first answer as a message; None if there is no part of one."""
        parts = () if self.response is None else self.response.choices[0].parts
        if not parts:
            return None
        status = "complete" if self.status == "complete" else "interrupted"
        return Message(role=Role.ASSISTANT, parts=parts, node=self.id, status=status, prefix=self.prefix)

    def _with_store(self, file: FilePart) -> FilePart:
        """Return ``file``, marked with the turn's endpoint if it lies in that provider's file store."""
        if not file.is_stored or file.origin is not None or self.origin is None:
            return file
        return file.changed(origin=self.origin)


def _result_line(result: ToolResultPart) -> str:
    """Return a result for readers: the name of its tool, and its text or the kinds of its files."""
    shown = "".join(
        f"({part.media_type})" if isinstance(part, FilePart) else part.get_text() for part in result.content
    )
    error = " failed" if result.is_error else ""
    return f"{code_span(result.name or 'tool')}{error}: {shown}"


def question(
    user_query: str,
    files: Iterable[FilePart],
    results: Iterable[ToolResultPart] = (),
    *,
    node: str | None = None,
    order: Sequence[int] | None = None,
) -> list[Message]:
    """Build the question's message: tool results, then files, then text. Empty list if there are none of these.

    Args:
        user_query: The text.
        files: The files.
        results: The results of tool calls.
        node: The id of the turn's node; None if it has none.
        order: Another order of text and files (``ConversationNode.order``); it counts if it fits them.
    """
    asked = (*results, *_in_order(user_query, tuple(files), order))
    return [Message(role=Role.USER, parts=asked, node=node)] if asked else []


def question_order(parts: Iterable[Part]) -> tuple[str, tuple[int, ...] | None]:
    """Return the text of a question, and the order of its texts and files; None if that is the usual one.

    Args:
        parts: The parts of the question; others than texts and files are passed over.
    """
    texts: list[str] = []
    order: list[int] = []
    for part in parts:
        if isinstance(part, FilePart):
            order.append(-1)
        elif isinstance(part, TextPart) and part.text:
            texts.append(part.text)
            order.append(len(part.text))
    usual = all(size < 0 for size in order[:-1]) or -1 not in order
    return PIECES.join(texts), None if usual else tuple(order)


def _in_order(text: str, files: Sequence[FilePart], order: Sequence[int] | None) -> list[FilePart | TextPart]:
    usual = [*files, *([TextPart(text=text)] if text else [])]
    if order is None:
        return usual
    sizes = [size for size in order if size >= 0]
    if len(order) - len(sizes) != len(files) or sum(sizes) + len(PIECES) * (len(sizes) - 1) != len(text):
        return usual  # the turn was changed since
    parts: list[FilePart | TextPart] = []
    file, at = iter(files), 0
    for size in order:
        if size < 0:
            parts.append(next(file))
        else:
            parts.append(TextPart(text=text[at : at + size]))
            at += size + len(PIECES)
    return parts
