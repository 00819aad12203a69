"""The script of a loopback provider and the requests it received: plain values, the same for every dialect.

A script is a sequence of ``Answer``, ``ScriptedError`` and ``Fault``, used up in order, or a function from the
``SeenRequest`` to one of them. The dialects translate; nothing here knows a provider.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import orjson

from dhenara_async.endpoint import Dialect
from dhenara_async.messages.messages import Citation
from dhenara_async.response import FinishReason, Usage

Coding = Literal["gzip", "deflate", "br", "zstd"]
"""How a body can be compressed."""

Turn = tuple[str, str]
"""A role (``user`` or ``assistant``) and what it said."""


@dataclass(frozen=True, slots=True)
class ScriptedToolCall:
    """A function call to be answered with.

    Attributes:
        call_id: Its id on the wire, as given; Gemini leaves out an empty one.
        name: The function.
        arguments: JSON text, sent as it is where the dialect sends text; Gemini and a plain Anthropic body need an
            object.
    """

    call_id: str
    name: str
    arguments: str = "{}"


@dataclass(frozen=True, slots=True)
class Answer:
    """One scripted answer; each dialect spells it in its own words.

    Attributes:
        text: The visible answer.
        reasoning: The thinking that is shown, where the dialect shows any.
        signature: The opaque state of the reasoning; None = a stand-in where the dialect has one, "" = none at all.
        tool_calls: Calls for the client to run, in order.
        refusal: The words of a refusal, wherever the dialect has a place for them.
        finish_reason: Why it ends. ``STOP`` with tool calls ends as a tool call, with nothing but a refusal as a
            refusal.
        usage: Tokens; None, and None in its input or output count, is a count of words. Other None fields are not told.
        stop_sequence: The stop text that ended it.
        pieces: How ``text`` is cut into deltas; None = words with the space before them.
        web_searches: Queries of searches that the provider ran itself before it answered, where the dialect has them.
        citations: Where ``text`` comes from, where the dialect has a place for that.
    """

    text: str = ""
    reasoning: str = ""
    signature: str | None = None
    tool_calls: tuple[ScriptedToolCall, ...] = ()
    refusal: str = ""
    finish_reason: FinishReason = FinishReason.STOP
    usage: Usage | None = None
    stop_sequence: str | None = None
    pieces: tuple[str, ...] | None = None
    web_searches: tuple[str, ...] = ()
    citations: tuple[Citation, ...] = ()

    def __post_init__(self) -> None:
        """Refuse pieces that are not the text: a test would then compare the server with itself.

        Raises:
            ValueError: ``pieces`` joined is not ``text``.
        """
        if self.pieces is not None and "".join(self.pieces) != self.text:
            raise ValueError("the pieces of an Answer, joined, are its text")

    @property
    def ending(self) -> FinishReason:
        """The finish reason a provider would give this content."""
        if self.finish_reason is not FinishReason.STOP:
            return self.finish_reason
        if self.tool_calls:
            return FinishReason.TOOL_CALLS
        return FinishReason.REFUSAL if self.refusal and not self.text else FinishReason.STOP

    def text_deltas(self) -> tuple[str, ...]:
        """The text as it is streamed."""
        return self.pieces if self.pieces is not None else words(self.text)


@dataclass(frozen=True, slots=True)
class ScriptedError:
    """A failure to answer with, in the dialect's own shape.

    Attributes:
        status: HTTP status, 400 or above.
        message: What the provider says.
        code: OpenAI's ``code``, Anthropic's ``details.error_code``; Gemini has none.
        type: The kind of error in the provider's words (Gemini: ``status``); None = what it says with that HTTP status.
        headers: Extra response headers, ``retry-after`` for example.
        retry_info: Seconds to wait, told in the body; only Gemini has a place for that.
    """

    status: int
    message: str
    code: str | None = None
    type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    retry_info: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Faults to inject into ``answer``. They can be combined; ``Fault()`` alone is a good answer.

    Events are counted from 0, as the dialect writes them. A plain body is one event, but where it is stalled, or an
    event is moved, it is two, its halves. What changes the body is done in the order of the attributes; then it
    is sent, late, slowly or not to its end. The connection serves no other request; a whole answer says so (unless
    ``cut`` is ``idle``) and leaves it to the client to close it.

    Attributes:
        answer: What would be said; a ``ScriptedError`` is refused with.
        status: HTTP status in place of the right one: an error with 200, a redirect.
        headers: Headers beside or in place of the right ones, names in lower case; an empty value leaves one out.
        error: A failure that the provider reports inside its answer, which ends with it.
        error_at: How many events come before ``error``; a plain body is replaced by it.
        corrupt: What becomes of event ``corrupt_at``: ``json`` is cut in its middle, ``utf-8`` gets a byte that no
            text has.
        corrupt_at: Which event.
        terminal: The event that ends the answer is ``missing``, or comes ``twice``. A plain body loses its last brace,
            or comes twice.
        swap: Two events that change places.
        repeat: Which event comes twice.
        lose: Which event does not come.
        padding: Bytes of white space before the JSON of each event, all in one line.
        body: Something else altogether in place of the body: a page, nothing.
        compress: How the body is compressed, whether the client takes that or not; flushed at every event.
        framing: How the client is told where the body ends; ``close`` = it is not told. None = as a good answer is:
            ``chunked`` for a stream, ``length`` for a plain body.
        stall: Where the server falls silent: before the ``head``, after that many events, or before the ``end``, which
            is all but the sign that the body is over.
        seconds: For how long; None = until the client hangs up.
        trickle: Whether the body comes one byte at a time.
        cut: Where the connection breaks: before the ``head``, after that many bytes of the body, or when it is
            ``idle``, after a whole answer that promised to keep it.
        ending: How it breaks: by a ``reset``, or by an ``eof`` as if in good order.
    """

    answer: Answer | ScriptedError = Answer("A word or two.")
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    error: ScriptedError | None = None
    error_at: int = 0
    corrupt: Literal["json", "utf-8"] | None = None
    corrupt_at: int = 0
    terminal: Literal["missing", "twice"] | None = None
    swap: tuple[int, int] | None = None
    repeat: int | None = None
    lose: int | None = None
    padding: int = 0
    body: bytes | None = None
    compress: Coding | None = None
    framing: Literal["chunked", "length", "close"] | None = None
    stall: Literal["head", "end"] | int | None = None
    seconds: float | None = None
    trickle: bool = False
    cut: Literal["head", "idle"] | int | None = None
    ending: Literal["reset", "eof"] = "reset"


@dataclass(frozen=True, slots=True)
class Closing:
    """A connection that is over.

    Attributes:
        by: Whose side closed it.
        at: When, on the clock of the event loop.
    """

    by: Literal["client", "server"]
    at: float


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A request as it arrived.

    Attributes:
        dialect: The wire language of its path.
        provider: The first segment of its path (``openai``, ``anthropic``, ``google``, ``groq`` …).
        method: HTTP method.
        path: Path without the query.
        query: Query parameters; a key in there reads ``***``.
        headers: Names in lower case; credentials read ``***``.
        authenticated: Whether it carried a credential that was accepted.
        body: The bytes.
        json: The body parsed; None where it is not JSON.
        stream: Whether it asks for a stream.
        model: The model it asks for; empty if it names none.
        system: Its instructions, joined with newlines.
        turns: The conversation, oldest first. Neighbours of one role are one turn, joined with a newline; a tool call
            reads ``name(arguments)``, a tool result is its text.
        status: The HTTP status it was answered with.
        error: Why it was refused; None if it was answered.
    """

    dialect: Dialect
    provider: str
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    authenticated: bool
    body: bytes
    json: object
    stream: bool
    model: str
    system: str
    turns: tuple[Turn, ...]
    status: int = 200
    error: str | None = None


Step = Answer | ScriptedError | Fault
Script = Sequence[Step] | Callable[[SeenRequest], Step]


def words(text: str) -> tuple[str, ...]:
    """``text`` cut before each run of white space, so that joined it is the same again."""
    return tuple(piece for piece in re.split(r"(?<=\S)(?=\s)", text) if piece)


def count_usage(answer: Answer, *, system: str, turns: Sequence[Turn]) -> Usage:
    """The answer's usage, with words counted where the script does not say how many tokens.

    Args:
        answer: What is said.
        system: The instructions it was sent.
        turns: The conversation it was sent.
    """
    reasoning = len(answer.reasoning.split())
    calls = sum(len(f"{call.name} {call.arguments}".split()) for call in answer.tool_calls)
    output = len(f"{answer.text} {answer.refusal}".split()) + reasoning + calls
    prompt = len(system.split()) + sum(len(text.split()) for _role, text in turns)
    told = answer.usage or Usage(cache_read_tokens=0, cache_write_tokens=0, reasoning_tokens=reasoning)
    input_tokens = prompt if told.input_tokens is None else told.input_tokens
    output_tokens = output if told.output_tokens is None else told.output_tokens
    return told.model_copy(
        update={
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens if told.total_tokens is None else told.total_tokens,
            "source": "reported",
        }
    )


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces, so that the same call reads the same in every dialect."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
