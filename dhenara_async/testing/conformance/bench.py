"""Runs the driver under test: one endpoint with an invented key, and the client's steps around the driver.

The steps are those of the client, without its socket: legal history in, bytes out; frames in, events out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import orjson
from pydantic import SecretStr

from dhenara_async.calls.accumulator import Accumulator
from dhenara_async.config import AIModelCallConfig
from dhenara_async.conversation import ConversationNode
from dhenara_async.downloads.inlining import inlined, key_of, stand_in, to_download
from dhenara_async.drivers.base import Decoder, Driver, is_object
from dhenara_async.drivers.rules import Rules
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import DhenaraError, ProtocolError
from dhenara_async.events import StreamEnd, StreamEvent, UsageUpdate
from dhenara_async.formatter.conversion import ConversionPolicy
from dhenara_async.formatter.formatter import FormattedConversation, PromptFormatter
from dhenara_async.framing import Frame
from dhenara_async.framing.sse import SSEFramer
from dhenara_async.hosts.registry import driver_for, expected_origin
from dhenara_async.messages.messages import Message, Origin
from dhenara_async.request import ChatRequest, WireRequest
from dhenara_async.response import ChatResponse, FinishReason, Usage
from dhenara_async.testing.conformance.findings import demand

KEY = "sk-conformance-0123456789-that-nobody-may-see"
OTHER_KEY = "sk-conformance-9876543210-of-somebody-else"

_NO_KNOBS = AIModelCallConfig()

Apart = Literal["call_ids", "model", "response_id", "state", "usage"]
"""The fields in which the streamed and the plain form of an answer may differ."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A provider's answer as bytes, with the content that the driver under test must read from it.

    A field that is None is not checked, so a body alone is enough::

        Recorded(b'{"said": …}', text="Good day")
        Recorded(b"event: hello…", stream=True, plain=b'{"said": …}', text="Good day", usage=Usage(input_tokens=7))
        Recorded(b'{"oops": "too much talk"}', status=429)

    Attributes:
        body: The bytes of the body.
        stream: Whether the body is a stream of server-sent events.
        status: The HTTP status; from 400 on, ``error()`` reads the body.
        headers: The headers of such an error response, names in lower case.
        plain: The same answer as a plain body, if ``stream``; it must fold to the same response.
        apart: The fields in which ``plain`` may differ, because the provider creates them for each answer.
        config: The config of the request, if decoding depends on it.
        name: The name in a report; empty = its number.
        text: The visible text of the first choice.
        reasoning: The visible reasoning.
        refusal: The text of a refusal.
        calls: Name and arguments (JSON text) of every call, in order.
        finish_reason: The finish reason.
        usage: Tokens; only the given fields are compared, and ``Usage()`` means that none are reported.
        echoes: Opaque strings that the next request must send back. Strings that look like signatures or encrypted
            items are tested too, without being listed.
        error: The error that the body ends in, or the class of the error response.
    """

    body: bytes = field(repr=False)
    stream: bool = False
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str], kw_only=True)
    plain: bytes | None = field(default=None, repr=False, kw_only=True)
    apart: tuple[Apart, ...] = field(default=(), kw_only=True)
    config: AIModelCallConfig = field(default=_NO_KNOBS, repr=False, kw_only=True)
    name: str = field(default="", kw_only=True)
    text: str | None = field(default=None, kw_only=True)
    reasoning: str | None = field(default=None, kw_only=True)
    refusal: str | None = field(default=None, kw_only=True)
    calls: Sequence[tuple[str, str]] | None = field(default=None, kw_only=True)
    finish_reason: FinishReason | None = field(default=None, kw_only=True)
    usage: Usage | None = field(default=None, kw_only=True)
    echoes: tuple[str, ...] = field(default=(), kw_only=True)
    error: type[DhenaraError] | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class Bench:
    """An endpoint whose driver is tested.

    Attributes:
        endpoint: The endpoint, with an invented key.
    """

    endpoint: AIModelEndpoint

    @classmethod
    def of(cls, endpoint: AIModelEndpoint, key: str = KEY) -> "Bench":
        api = endpoint.api.model_copy(update={"api_key": SecretStr(key)})
        return cls(endpoint.model_copy(update={"api": api}))

    def of_another_model(self) -> "Bench":
        """Return a bench for another model of the same account."""
        model = self.endpoint.ai_model
        other_model = model.model_copy(update={"model_name": f"{model.model_name}-other"})
        return Bench(self.endpoint.model_copy(update={"ai_model": other_model}))

    @property
    def driver(self) -> Driver:
        """A new driver, as for each call."""
        return driver_for(self.endpoint)

    @property
    def rules(self) -> Rules:
        return self.driver.rules(self.endpoint)

    @property
    def origin(self) -> Origin:
        return expected_origin(self.endpoint)

    def request(
        self,
        messages: Iterable[Message],
        *,
        instructions: Sequence[str] = (),
        config: AIModelCallConfig | None = None,
        stream: bool = False,
    ) -> ChatRequest:
        return ChatRequest.of(messages, instructions=instructions, config=config or _NO_KNOBS, stream=stream)

    def formatted(
        self, nodes: Sequence[ConversationNode], asked: Sequence[Message], instructions: Sequence[str] = ()
    ) -> ChatRequest:
        """Build the request that a client would encode after ``nodes``."""
        legal = PromptFormatter.format_conversation(
            nodes,
            self.endpoint,
            asked=asked,
            instructions=instructions,
            config=_NO_KNOBS,
            policy=ConversionPolicy(media="describe"),
        )
        return self._request_of(legal, instructions)

    def formatted_messages(self, messages: Sequence[Message]) -> ChatRequest:
        """Build the request that a client would encode for messages outside a conversation."""
        legal = PromptFormatter.format_messages(
            messages, self.endpoint, config=_NO_KNOBS, policy=ConversionPolicy(media="describe")
        )
        return self._request_of(legal, ())

    def _request_of(self, legal: FormattedConversation, instructions: Sequence[str]) -> ChatRequest:
        """Build the request, with inlined files in place of URLs that the host cannot fetch."""
        files = {key_of(part): stand_in(part) for part in to_download(legal.messages, self.endpoint)}
        messages = inlined(legal.messages, files)
        return self.request(messages, instructions=instructions, config=legal.declared(_NO_KNOBS))

    def encode(self, request: ChatRequest) -> WireRequest:
        return self.driver.encode(request, self.endpoint)

    def decoder(self, recorded: Recorded, *, stream: bool) -> Decoder:
        """Return a decoder for ``recorded``, for a stream or a plain body."""
        request = self.request([Message.user("Go on.")], config=recorded.config, stream=stream)
        return self.driver.decoder(request, self.origin)

    def decode(self, recorded: Recorded, frames: Iterable[Frame], *, stream: bool) -> "Decoded":
        return decode(self.decoder(recorded, stream=stream), frames)

    def fold(self, decoded: "Decoded") -> ChatResponse:
        """Fold a complete answer to its response.

        Raises:
            AssertionError: The answer is incomplete.
        """
        if decoded.error is not None:
            raise AssertionError(f"it ends in {type(decoded.error).__name__}: {decoded.error}")
        accumulator = Accumulator(provider=self.origin.provider, model=self.origin.model)
        accumulator.feed(decoded.events)
        return accumulator.response()


@dataclass(slots=True)
class Decoded:
    """The result of decoding a body.

    Attributes:
        events: The events, in order.
        error: The error that ended it early; None if it is complete.
        usage: The usage of the decoder at the end.
    """

    events: list[StreamEvent] = field(default_factory=list[StreamEvent])
    error: DhenaraError | None = None
    usage: Usage | None = None

    @property
    def reports(self) -> list[Usage]:
        """The usage of every ``UsageUpdate``."""
        return [event.usage for event in self.events if isinstance(event, UsageUpdate)]


def decode(decoder: Decoder, frames: Iterable[Frame], *, read_usage: bool = False) -> Decoded:
    """Feed ``frames`` as the client does, to the end of the body.

    Args:
        decoder: A new decoder.
        frames: All frames of the body.
        read_usage: Whether ``usage`` is read after every frame, as for an interrupted stream.
    """
    decoded = Decoded()
    try:
        for frame in frames:
            fed = cast("object", decoder.feed(frame))
            demand(isinstance(fed, Sequence), f"feed() returned a {type(fed).__name__}, which is no sequence of events")
            decoded.events += cast("Sequence[StreamEvent]", fed)
            if read_usage:
                _ = decoder.usage
            if decoded.events and isinstance(decoded.events[-1], StreamEnd):
                break
        decoded.events += decoder.finish()
    except DhenaraError as exc:
        decoded.error = exc
    except (
        AttributeError,
        KeyError,
        RecursionError,
        TypeError,
        ValueError,
    ) as exc:  # the client reports these as errors of the wire
        decoded.error = ProtocolError(f"{type(exc).__name__}: {exc}")
    decoded.usage = decoder.usage
    return decoded


def frames_of(body: bytes, *, stream: bool) -> list[Frame]:
    """Return the frames of a body that arrived in one read."""
    return cut_frames((body,)) if stream else [body]


def cut_frames(chunks: Iterable[bytes]) -> list[Frame]:
    """Return the frames of a stream that arrived in these reads."""
    framer = SSEFramer()
    frames = [frame for chunk in chunks for frame in framer.feed(chunk)]
    return [*frames, *framer.finish()]


def is_refusal(recorded: Recorded) -> bool:
    """Whether it is an HTTP error, which ``error()`` reads instead of a decoder."""
    return recorded.status >= 400


# ---------------------------------------------------------------------------------------------------- reading bodies


def parsed(data: bytes) -> object:
    """Parse JSON; None if ``data`` is not JSON."""
    try:
        return orjson.loads(bytes(data))  # a NamedFrame is a subclass of bytes, which orjson refuses
    except orjson.JSONDecodeError:
        return None


def leaves(value: object) -> Iterator[str]:
    """Yield every string in a JSON value, with keys and the strings inside JSON text."""
    match value:
        case str():
            yield value
            if value.startswith("{") and is_object(inside := parsed(value.encode(errors="replace"))):
                yield from leaves(inside)
        case dict():
            for key, inner in cast("dict[str, object]", value).items():
                yield key
                yield from leaves(inner)
        case list():
            for inner in cast("list[object]", value):
                yield from leaves(inner)
        case _:
            pass


def strings_in(data: bytes) -> str:
    """Return every string in a JSON body as one text to search."""
    return "\n".join(leaves(parsed(data)))
