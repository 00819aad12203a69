"""The script of a loopback provider and the requests it received: plain values, the same for every dialect.

A script is a sequence of ``Answer``, ``ScriptedError`` and ``Fault``, used in order, or a function from the
``SeenRequest`` to one of them. ``dialects`` translates them to each wire format.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import orjson

from dhenara_async.endpoint import Dialect
from dhenara_async.messages.messages import Citation
from dhenara_async.response import FinishReason, Usage

Coding = Literal["gzip", "deflate", "br", "zstd"]
"""The compression of a body."""

SeenTurn = tuple[str, str]
"""A role (``user`` or ``assistant``) and its text."""


@dataclass(frozen=True, slots=True)
class ScriptedToolCall:
    """A function call in a scripted answer.

    Attributes:
        call_id: The id on the wire, sent unchanged; Gemini omits an empty one.
        name: The name of the function.
        arguments: JSON text, sent unchanged if the dialect sends text; Gemini and a plain Anthropic body need a JSON
            object.
    """

    call_id: str
    name: str
    arguments: str = "{}"


@dataclass(frozen=True, slots=True)
class Answer:
    """One scripted answer, the same for every dialect.

    Attributes:
        text: The visible answer.
        reasoning: The visible reasoning, in dialects that show it.
        signature: The opaque state of the reasoning; None = an invented one in dialects that have it, "" = none.
        tool_calls: Calls for the client to run, in order.
        refusal: The text of a refusal, in dialects that have a field for it.
        finish_reason: The finish reason. ``STOP`` becomes a tool call if there are tool calls, and a refusal if there
            is a refusal and no text.
        usage: Tokens; None, and None as its input or output count, is a count of words. Other None fields are not sent.
        stop_sequence: The stop text that ended the answer.
        pieces: ``text`` cut into deltas; None = words, each with the space before it.
        web_searches: Queries of searches by the provider itself, in dialects that report them.
        citations: The sources of ``text``, in dialects that report them.
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
        """Check the pieces.

        Raises:
            ValueError: ``pieces`` do not join to ``text``.
        """
        if self.pieces is not None and "".join(self.pieces) != self.text:
            raise ValueError("the pieces of an Answer must join to its text")

    @property
    def ending(self) -> FinishReason:
        """The finish reason that a provider would send for this content."""
        if self.finish_reason is not FinishReason.STOP:
            return self.finish_reason
        if self.tool_calls:
            return FinishReason.TOOL_CALLS
        return FinishReason.REFUSAL if self.refusal and not self.text else FinishReason.STOP

    def text_deltas(self) -> tuple[str, ...]:
        """Return the text cut into deltas."""
        return self.pieces if self.pieces is not None else words(self.text)


@dataclass(frozen=True, slots=True)
class ScriptedError:
    """An error response, sent in the shape of the dialect.

    Attributes:
        status: HTTP status, 400 or above.
        message: The provider's error message.
        code: OpenAI's ``code``, Anthropic's ``details.error_code``; Gemini has none.
        type: The provider's name for the kind of error (Gemini: ``status``); None = the usual one of that HTTP status.
        headers: Extra response headers, ``retry-after`` for example.
        retry_info: Seconds to wait, sent in the body; Gemini only.
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

    Events are counted from 0, as the dialect writes them. A plain body is one event; if it is stalled, or an event is
    moved, its halves are two events. The body is changed in the order of the attributes; then it is sent, perhaps late,
    slowly or incompletely. The connection serves no other request; a complete answer announces that (unless ``cut`` is
    ``idle``) and lets the client close the connection.

    Attributes:
        answer: The good answer or error that is changed.
        status: HTTP status that replaces the right one, for example 200 for an error, or a redirect.
        headers: Headers to add or replace, names in lower case; an empty value removes a header.
        error: An error that the provider reports inside the answer, and that ends it.
        error_at: Number of events before ``error``; it replaces a plain body.
        corrupt: How event ``corrupt_at`` is damaged: ``json`` cuts its JSON in the middle, ``utf-8`` inserts a byte
            that is not valid UTF-8.
        corrupt_at: Index of the damaged event.
        terminal: The last event is ``missing``, or sent ``twice``. A plain body loses its last brace, or is sent twice.
        swap: Indexes of two events that are exchanged.
        repeat: Index of an event that is sent twice.
        lose: Index of an event that is not sent.
        padding: Bytes of white space before the JSON of each event, in the same line.
        body: Bytes that replace the whole body, for example an HTML page, or nothing.
        compress: The compression of the body, even if the client does not accept it; flushed at every event.
        framing: How the end of the body is marked; ``close`` = by the end of the connection. None = ``chunked`` for a
            stream, ``length`` for a plain body.
        stall: Where the server pauses: before the ``head``, after that many events, or before the ``end``, when only
            the end mark of the body is missing.
        seconds: Seconds of the pause; None = until the client closes the connection.
        until: An event that ends the pause, too: the test holds the answer until then.
        trickle: Whether the body is sent one byte at a time.
        cut: Where the connection breaks: before the ``head``, after that many bytes of the body, or when it is
            ``idle``, after a complete answer that promised to keep it open.
        ending: How it breaks: by a ``reset``, or by an ordinary ``eof``.
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
    until: asyncio.Event | None = None
    trickle: bool = False
    cut: Literal["head", "idle"] | int | None = None
    ending: Literal["reset", "eof"] = "reset"


@dataclass(frozen=True, slots=True)
class Closing:
    """A closed connection.

    Attributes:
        by: The side that closed it.
        at: The time, on the clock of the event loop.
    """

    by: Literal["client", "server"]
    at: float


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A request that the server received.

    Attributes:
        dialect: The wire language of its path.
        provider: The first segment of its path (``openai``, ``anthropic``, ``google``, ``groq`` …).
        method: HTTP method.
        path: Path without the query.
        query: Query parameters; a key is replaced by ``***``.
        headers: Headers, names in lower case; credentials are replaced by ``***``.
        authenticated: Whether its credential was accepted.
        body: The bytes of the body.
        json: The parsed body; None if it is not JSON.
        stream: Whether it requests a stream.
        model: The requested model; empty if none is named.
        system: Its instructions, joined with newlines.
        turns: The conversation, oldest first. Adjacent messages of one role are one turn, joined with a newline; a tool
            call is shown as ``name(arguments)``, a tool result as its text.
        status: The HTTP status of the answer.
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
    turns: tuple[SeenTurn, ...]
    status: int = 200
    error: str | None = None


ScriptStep = Answer | ScriptedError | Fault
Script = Sequence[ScriptStep] | Callable[[SeenRequest], ScriptStep]


def words(text: str) -> tuple[str, ...]:
    """Cut ``text`` before each run of white space; the pieces join to ``text``."""
    return tuple(piece for piece in re.split(r"(?<=\S)(?=\s)", text) if piece)


def count_usage(answer: Answer, *, system: str, turns: Sequence[SeenTurn]) -> Usage:
    """Return the answer's usage; counts that the script leaves open are counts of words.

    Args:
        answer: The answer.
        system: The instructions of the request.
        turns: The conversation of the request.
    """
    reasoning = len(answer.reasoning.split())
    calls = sum(len(f"{call.name} {call.arguments}".split()) for call in answer.tool_calls)
    output = len(f"{answer.text} {answer.refusal}".split()) + reasoning + calls
    prompt = len(system.split()) + sum(len(text.split()) for _role, text in turns)
    usage = answer.usage or Usage(cache_read_tokens=0, cache_write_tokens=0, reasoning_tokens=reasoning)
    input_tokens = prompt if usage.input_tokens is None else usage.input_tokens
    output_tokens = output if usage.output_tokens is None else usage.output_tokens
    return usage.model_copy(
        update={
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens if usage.total_tokens is None else usage.total_tokens,
            "source": "reported",
        }
    )


def canonical_json(value: object) -> str:
    """Return JSON with sorted keys and no spaces, so that equal calls are equal texts in every dialect."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
