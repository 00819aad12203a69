"""A loopback server that speaks every dialect: it checks requests strictly, and answers from a script.

Any client can use it, this library or the SDK of a vendor; it refuses the requests that the provider would refuse, and
records every request. Provider-neutral: routing, credentials, recording and sending are here, the wire formats are in
``dialects``, and faulty answers in ``faults``.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from types import TracebackType
from typing import Self

import orjson
from aiohttp import web
from pydantic import SecretStr

from dhenara_async.endpoint import AIModelAPI, AIModelAPIProviderEnum, Dialect
from dhenara_async.hosts.registry import REGISTERED_HOSTS, host_of
from dhenara_async.testing.connections import Connection, ConnectionLog, Connections, misbehave
from dhenara_async.testing.dialects import WIRE_DIALECTS
from dhenara_async.testing.dialects.base import (
    Arrived,
    ParsedConversation,
    Refusal,
    Reply,
    Streamed,
    WireDialect,
    as_object,
)
from dhenara_async.testing.faults import bend, compressed, framed, head_of, reported
from dhenara_async.testing.script import (
    Answer,
    Closing,
    Fault,
    Script,
    ScriptedError,
    ScriptStep,
    SeenRequest,
    count_usage,
)
from dhenara_async.testing.stand_in import tell

_DUMMY_KEY = "loopback-key"
_HIDDEN_HEADERS = frozenset({"authorization", "x-api-key", "x-goog-api-key", "proxy-authorization", "cookie"})
_LARGEST_BODY = 64 * 1024 * 1024
_SEGMENTS: Mapping[str, str] = {AIModelAPIProviderEnum.GOOGLE_AI: "google"}
_ROUTES = (
    (re.compile(r"/v1/responses"), Dialect.OPENAI_RESPONSES),
    (re.compile(r"/v1/chat/completions"), Dialect.OPENAI_CHAT),
    (re.compile(r"/v1/messages"), Dialect.ANTHROPIC_MESSAGES),
    (re.compile(r"/v1(?:alpha|beta)?/models/[^/:]+:(?:g|streamG)enerateContent"), Dialect.GEMINI),
)
# The dialects of the makers' own hosts, default first; any other host may speak every dialect.
_SERVED: Mapping[str, tuple[Dialect, ...]] = {
    "openai": (Dialect.OPENAI_RESPONSES, Dialect.OPENAI_CHAT),
    "anthropic": (Dialect.ANTHROPIC_MESSAGES,),
    "google": (Dialect.GEMINI,),
}
_SERVED_ELSEWHERE = (Dialect.OPENAI_CHAT, Dialect.OPENAI_RESPONSES, Dialect.ANTHROPIC_MESSAGES, Dialect.GEMINI)
_BARE: frozenset[str] = frozenset({Dialect.ANTHROPIC_MESSAGES, Dialect.GEMINI})  # their base URLs have no version
_KNOWN = frozenset(_SEGMENTS.get(provider, str(provider)) for provider in AIModelAPIProviderEnum)


@dataclass(frozen=True, slots=True)
class _HttpReply:
    """The reply to a request: exactly one of a body, a stream and a faulty body."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    stream: Streamed | None = None
    fault: Fault | None = None
    pieces: Sequence[bytes] = ()


class ProviderServer:
    """Every provider at once, on a free port of 127.0.0.1, for the duration of an ``async with``.

    Args:
        script: Answers, errors and faults in the order of the requests, or a function from the request to one of them;
            None = an object that fits the requested schema, a call of a forced or mentioned tool, else a summary of the
            conversation in the request.
        delay: Seconds before each streamed token.
        api_key: The only accepted key; None = any key that is not empty.
        port: The port to listen on; 0 = any free port.
        keep: The number of requests, the last ones, that ``requests`` has at most; None = all. A server that stands in
            for days keeps none.

    Attributes:
        requests: Every request, in order of arrival.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        delay: float = 0.0,
        api_key: str | None = None,
        port: int = 0,
        keep: int | None = None,
    ) -> None:
        self.requests: list[SeenRequest] = []
        self._keep = keep
        self._received = 0
        self._script = script
        self._delay = delay
        self._api_key = api_key
        self._port = port
        self._steps_taken = 0
        self._issued: set[tuple[str, str]] = set()
        self._log = ConnectionLog()
        self._runner: web.ServerRunner | None = None

    async def __aenter__(self) -> Self:
        connections = Connections(self._handle, self._log, largest_body=_LARGEST_BODY)
        # A stream in a long delay must not hold up the end of a test.
        runner = web.ServerRunner(connections, handle_signals=False, shutdown_timeout=0.1)
        await runner.setup()
        self._runner = runner
        try:
            await web.TCPSite(runner, "127.0.0.1", self._port).start()
        except BaseException:
            await runner.cleanup()
            self._runner = None
            raise
        self._port = int(runner.addresses[0][1])
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def url(self) -> str:
        """The server's root, without a slash at the end.

        Raises:
            RuntimeError: The server has not been entered, so it has no address.
        """
        if not self._port:
            raise RuntimeError("a ProviderServer has an address only inside its `async with` block")
        return f"http://127.0.0.1:{self._port}"

    def base_url(self, provider: AIModelAPIProviderEnum | str) -> str:
        """Return the base URL of ``provider`` at this server, as the vendor's own SDK takes it.

        Raises:
            ConfigurationError: No host of that name is known.
        """
        segment = _SEGMENTS.get(provider, str(provider))
        return f"{self.url}/{segment}" if host_of(provider).dialect in _BARE else f"{self.url}/{segment}/v1"

    def api(self, provider: AIModelAPIProviderEnum | str, *, dialect: Dialect | str | None = None) -> AIModelAPI:
        """Build an account of ``provider`` at this server, with an accepted key.

        Args:
            provider: The provider, or a registered host that speaks a dialect of this library.
            dialect: The wire language; None = the provider's default.

        Raises:
            ConfigurationError: No host of that name is known.
        """
        base_url = self.base_url(provider)
        if dialect in _BARE:
            base_url = base_url.removesuffix("/v1")
        return AIModelAPI(provider=provider, api_key=SecretStr(self._key), base_url=base_url, dialect=dialect)

    def environment(self) -> dict[str, str]:
        """Return the environment variables that make three vendors' SDKs, and this library, use this server."""
        return {
            "OPENAI_BASE_URL": self.base_url(AIModelAPIProviderEnum.OPEN_AI),
            "OPENAI_API_KEY": self._key,
            "ANTHROPIC_BASE_URL": self.base_url(AIModelAPIProviderEnum.ANTHROPIC),
            "ANTHROPIC_API_KEY": self._key,
            "GOOGLE_GEMINI_BASE_URL": self.base_url(AIModelAPIProviderEnum.GOOGLE_AI),
            "GEMINI_API_KEY": self._key,
        }

    @property
    def connections(self) -> int:
        """The number of accepted connections."""
        return self._log.opened

    @property
    def closed(self) -> tuple[Closing, ...]:
        """Every closed connection, in the order of closing."""
        return tuple(self._log.closed)

    async def wait_closed(self, count: int = 1) -> None:
        """Wait until ``count`` connections are closed; ``closed`` then has the closing side and the time of each."""
        await self._log.wait_closed(count)

    @property
    def _key(self) -> str:
        return _DUMMY_KEY if self._api_key is None else self._api_key

    async def _handle(self, request: web.BaseRequest, connection: Connection) -> web.StreamResponse:
        outcome = self._answer(request, await request.read())
        fault = outcome.fault
        if fault is not None:
            head = head_of(fault, outcome.status, outcome.headers, sum(map(len, outcome.pieces)))
            await misbehave(connection, fault, head, *framed(fault, outcome.pieces))
            return web.Response()  # aiohttp needs a response; the connection is already closed
        if outcome.stream is None:
            return web.Response(body=outcome.body, status=outcome.status, headers=outcome.headers)
        response = web.StreamResponse(status=outcome.status, headers=outcome.headers)
        try:
            await response.prepare(request)
            for piece in outcome.stream.pieces:
                if piece.token and self._delay:
                    await asyncio.sleep(self._delay)
                await response.write(piece.data)
            await response.write_eof()
        except ConnectionError:
            # The client has closed the connection, as many tests do on purpose.
            pass
        return response

    def _answer(self, request: web.BaseRequest, body: bytes) -> _HttpReply:
        """Build the whole reply without awaiting, so that ``requests`` has the order of arrival."""
        self._received = number = self._received + 1
        segment, rest = _split(request.path)
        wire, served = _find(segment, rest)
        payload = _parsed(body)
        headers = {name.lower(): value for name, value in request.headers.items()}
        fields = wire.spelled(as_object(payload))
        arrived = Arrived(segment, rest, dict(request.query), headers, fields, self._issued)
        key = wire.credential(headers)
        authenticated = bool(key) and self._api_key in (None, key)
        conversation = wire.read(arrived)
        seen = _seen(request, body, payload, wire, arrived, conversation, authenticated=authenticated)
        fault: Fault | None = None
        try:
            if not served or request.method != "POST":
                raise wire.not_found(request.method, rest)
            if not authenticated:
                raise wire.unauthorized(key)
            if not isinstance(payload, dict):
                raise Refusal("The body of the request is not a JSON object.")
            for rule in wire.rules:
                rule(arrived)
            step = self._next_step(seen)
            if isinstance(step, Fault):
                fault, step = step, step.answer
            answer = _answer_or_refusal(step)
            usage = count_usage(answer, system=conversation.system, turns=conversation.turns)
            reply = Reply(answer, usage, conversation, arrived, number)
            outcome = _spelled(wire, reply)
            self._issued.add((conversation.model, reply.signature()))
        except Refusal as refusal:
            seen = replace(seen, error=refusal.message)
            outcome = _refused(wire, refusal, arrived, number)
        if fault is not None:
            outcome = _bent(outcome, fault, wire, arrived, number)
        self.requests.append(replace(seen, status=outcome.status))
        if self._keep is not None:
            del self.requests[: max(len(self.requests) - self._keep, 0)]
        return outcome

    def _next_step(self, seen: SeenRequest) -> ScriptStep:
        if self._script is None:
            return tell(seen)
        if callable(self._script):
            return self._script(seen)
        if self._steps_taken == len(self._script):
            raise Refusal(f"The script has no more answers: all {len(self._script)} are used.", status=500)
        self._steps_taken += 1
        return self._script[self._steps_taken - 1]


def _split(path: str) -> tuple[str, str]:
    segment, _slash, rest = path.removeprefix("/").partition("/")
    return segment, f"/{rest}"


def _find(segment: str, path: str) -> tuple[WireDialect, bool]:
    """Return the dialect of a path, and whether the host serves it; errors of other paths use the host's default."""
    served = _SERVED.get(segment, _SERVED_ELSEWHERE)
    known = segment in _KNOWN or segment in REGISTERED_HOSTS
    for pattern, dialect in _ROUTES:
        if known and dialect in served and pattern.fullmatch(path):
            return WIRE_DIALECTS[dialect], True
    return WIRE_DIALECTS[served[0]], False


def _parsed(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except ValueError:
        return None


def _seen(
    request: web.BaseRequest,
    body: bytes,
    payload: object,
    wire: WireDialect,
    arrived: Arrived,
    conversation: ParsedConversation,
    *,
    authenticated: bool,
) -> SeenRequest:
    return SeenRequest(
        dialect=wire.dialect,
        provider=arrived.provider,
        method=request.method,
        path=request.path,
        query={name: "***" if name == "key" else value for name, value in arrived.query.items()},
        headers={name: "***" if name in _HIDDEN_HEADERS else value for name, value in arrived.headers.items()},
        authenticated=authenticated,
        body=body,
        json=payload,
        stream=conversation.stream,
        model=conversation.model,
        system=conversation.system,
        turns=conversation.turns,
    )


def _answer_or_refusal(step: Answer | ScriptedError) -> Answer:
    if isinstance(step, ScriptedError):
        raise _refusal(step)
    return step


def _refusal(error: ScriptedError) -> Refusal:
    return Refusal(
        error.message,
        status=error.status,
        code=error.code,
        type=error.type,
        headers=error.headers,
        retry_info=error.retry_info,
    )


def _spelled(wire: WireDialect, reply: Reply) -> _HttpReply:
    headers = _request_id_header(wire, reply.number)
    if not reply.conversation.stream:
        headers["content-type"] = wire.content_type
        return _HttpReply(200, headers, body=orjson.dumps(wire.plain(reply)))
    content_type, pieces = wire.stream(reply)
    headers["content-type"] = content_type
    # Built before the first byte is sent: an answer that the dialect cannot express is an error, not half a stream.
    return _HttpReply(200, headers, stream=Streamed(content_type, list(pieces)))


def _refused(wire: WireDialect, refusal: Refusal, arrived: Arrived, number: int) -> _HttpReply:
    headers = {**_request_id_header(wire, number), "content-type": wire.content_type, **refusal.headers}
    body = orjson.dumps(wire.error(refusal, _request_id(number), arrived))
    return _HttpReply(refusal.status, headers, body=body)


def _bent(outcome: _HttpReply, fault: Fault, wire: WireDialect, arrived: Arrived, number: int) -> _HttpReply:
    streamed = outcome.stream is not None
    failure: bytes | None = None
    if fault.error is not None:
        error = wire.error(_refusal(fault.error), _request_id(number), arrived)
        failure = reported(wire.dialect, error) if streamed else orjson.dumps(error)
    events = [outcome.body] if outcome.stream is None else [piece.data for piece in outcome.stream.pieces]
    pieces = bend(fault, wire.dialect, events, streamed=streamed, failure=failure)
    headers = {"date": format_datetime(datetime.now(UTC), usegmt=True), **outcome.headers}
    if fault.compress is not None:
        pieces = compressed(pieces, fault.compress)
        headers["content-encoding"] = fault.compress
    framing = fault.framing or ("chunked" if streamed else "length")
    status = outcome.status if fault.status is None else fault.status
    return _HttpReply(status, headers, fault=replace(fault, framing=framing), pieces=pieces)


def _request_id(number: int) -> str:
    return f"req_loopback{number:06d}"


def _request_id_header(wire: WireDialect, number: int) -> dict[str, str]:
    return {} if wire.request_id_header is None else {wire.request_id_header: _request_id(number)}
