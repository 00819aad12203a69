"""A driver on the bench: one endpoint, one made-up key, and the steps that a client would do around the driver.

The steps are the client's, without its socket: legal history in, bytes out; frames in, events out.
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
"""In what the two forms of one answer may differ."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A provider's answer as bytes, with the content that the driver under test must read from it.

    None leaves a thing unchecked, so a body alone will do::

        Recorded(b'{"said": …}', text="Good day")
        Recorded(b"event: hello…", stream=True, plain=b'{"said": …}', text="Good day", usage=Usage(input_tokens=7))
        Recorded(b'{"oops": "too much talk"}', status=429)

    Attributes:
        body: The bytes.
        stream: Whether they are a stream of server-sent events.
        status: The HTTP status; from 400 on ``error()`` reads the body.
        headers: Of such a refusal, the headers, with lower-case names.
        plain: The same answer as a plain body, if ``stream``; it has to fold to the same response.
        apart: In what that one may differ, because the provider makes it anew for each answer.
        config: The knobs that were asked with, where reading the answer depends on them.
        name: What a report calls it; empty for its number.
        text: The visible answer of the first choice.
        reasoning: The thinking that is shown.
        refusal: The words of a refusal.
        calls: Name and arguments (JSON text) of every call, in order.
        finish_reason: Why it ended.
        usage: Tokens; only the fields that were given are compared, and ``Usage()`` says that none are told.
        echoes: Opaque strings in it that the next request has to carry back. What looks like a signature or a sealed
            item is watched without being named here.
        error: What the body ends in instead of an answer, or the class of the refusal.
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
    """An endpoint whose driver is tried.

    Attributes:
        endpoint: With the kit's own key, so that the author's is not needed.
    """

    endpoint: AIModelEndpoint

    @classmethod
    def of(cls, endpoint: AIModelEndpoint, key: str = KEY) -> "Bench":
        api = endpoint.api.model_copy(update={"api_key": SecretStr(key)})
        return cls(endpoint.model_copy(update={"api": api}))

    def of_another_model(self) -> "Bench":
        """The same account, asking another model."""
        model = self.endpoint.ai_model
        other = model.model_copy(update={"model_name": f"{model.model_name}-other"})
        return Bench(self.endpoint.model_copy(update={"ai_model": other}))

    @property
    def driver(self) -> Driver:
        """A driver, made anew as for each call."""
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
        """What a client would have encoded behind ``nodes``."""
        legal = PromptFormatter.format_conversation(
            nodes,
            self.endpoint,
            asked=asked,
            instructions=instructions,
            config=_NO_KNOBS,
            policy=ConversionPolicy(media="describe"),
        )
        return self._asking(legal, instructions)

    def formatted_messages(self, messages: Sequence[Message]) -> ChatRequest:
        """The same for messages outside any conversation."""
        legal = PromptFormatter.format_messages(
            messages, self.endpoint, config=_NO_KNOBS, policy=ConversionPolicy(media="describe")
        )
        return self._asking(legal, ())

    def _asking(self, legal: FormattedConversation, instructions: Sequence[str]) -> ChatRequest:
        """Files that the host cannot fetch are there by the time that a request is encoded."""
        files = {key_of(part): stand_in(part) for part in to_download(legal.messages, self.endpoint)}
        messages = inlined(legal.messages, files)
        return self.request(messages, instructions=instructions, config=legal.declared(_NO_KNOBS))

    def encode(self, request: ChatRequest) -> WireRequest:
        return self.driver.encode(request, self.endpoint)

    def decoder(self, recorded: Recorded, *, stream: bool) -> Decoder:
        """A decoder for ``recorded``, in the one form or the other."""
        request = self.request([Message.user("Go on.")], config=recorded.config, stream=stream)
        return self.driver.decoder(request, self.origin)

    def decode(self, recorded: Recorded, frames: Iterable[Frame], *, stream: bool) -> "Decoded":
        return decode(self.decoder(recorded, stream=stream), frames)

    def fold(self, decoded: "Decoded") -> ChatResponse:
        """The response of a whole answer.

        Raises:
            AssertionError: It is not whole.
        """
        if decoded.error is not None:
            raise AssertionError(f"it ends in {type(decoded.error).__name__}: {decoded.error}")
        accumulator = Accumulator(provider=self.origin.provider, model=self.origin.model)
        accumulator.feed(decoded.events)
        return accumulator.response()


@dataclass(slots=True)
class Decoded:
    """What came of a body.

    Attributes:
        events: In order.
        error: What ended it before its time; None if nothing did.
        usage: What the decoder said of tokens at the end.
    """

    events: list[StreamEvent] = field(default_factory=list[StreamEvent])
    error: DhenaraError | None = None
    usage: Usage | None = None

    @property
    def reports(self) -> list[Usage]:
        """Every report of tokens among the events."""
        return [event.usage for event in self.events if isinstance(event, UsageUpdate)]


def decode(decoder: Decoder, frames: Iterable[Frame], *, asking: bool = False) -> Decoded:
    """Feed ``frames`` as the client does, to the end of the body.

    Args:
        decoder: A new one.
        frames: All there are.
        asking: Whether the decoder is asked for its usage at every step, as a broken-off stream would.
    """
    decoded = Decoded()
    try:
        for frame in frames:
            fed = cast("object", decoder.feed(frame))
            demand(isinstance(fed, Sequence), f"feed() returned a {type(fed).__name__}, which is no sequence of events")
            decoded.events += cast("Sequence[StreamEvent]", fed)
            if asking:
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
    ) as exc:  # to the client a fault of the wire
        decoded.error = ProtocolError(f"{type(exc).__name__}: {exc}")
    decoded.usage = decoder.usage
    return decoded


def frames_of(body: bytes, *, stream: bool) -> list[Frame]:
    """The frames of a body that came in one piece."""
    return cut_frames((body,)) if stream else [body]


def cut_frames(chunks: Iterable[bytes]) -> list[Frame]:
    """The frames of a stream that came in these reads."""
    framer = SSEFramer()
    frames = [frame for chunk in chunks for frame in framer.feed(chunk)]
    return [*frames, *framer.finish()]


def is_refusal(recorded: Recorded) -> bool:
    """Whether it is an HTTP error, which ``error()`` reads instead of a decoder."""
    return recorded.status >= 400


# ---------------------------------------------------------------------------------------------------- reading a wire


def parsed(data: bytes) -> object:
    """The JSON in ``data``; None if it is none."""
    try:
        return orjson.loads(bytes(data))  # of a frame that has a name too
    except orjson.JSONDecodeError:
        return None


def leaves(value: object) -> Iterator[str]:
    """Every string in a JSON value: keys, and what is in strings that are JSON objects themselves, among them."""
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


def said_in(data: bytes) -> str:
    """Every string in a JSON body, as one text to be searched."""
    return "\n".join(leaves(parsed(data)))
