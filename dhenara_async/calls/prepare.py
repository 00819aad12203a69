"""``CallPreparer``: prepares the calls of one endpoint; nothing is sent here.

Here a question is made legal for its endpoint, encoded, addressed, and given the means to be sent by. Work that is the
same for every call of an endpoint is worked out once.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from inspect import currentframe
from warnings import warn

import anyio
import anyio.to_thread
import orjson
from anyio.lowlevel import RunVar

from dhenara_async.calls.call import Call, Delivery
from dhenara_async.calls.forms import REPORT, Form, is_fixed, lone_question
from dhenara_async.calls.input import CallInput
from dhenara_async.calls.shared import SharedResources
from dhenara_async.calls.stream import rehearsal
from dhenara_async.config import AIModelCallConfig, FetchPolicy
from dhenara_async.downloads.inlining import INLINED, inlined, key_of, stand_in, to_check, to_download
from dhenara_async.drivers.base import Driver
from dhenara_async.drivers.connector import connector_secrets
from dhenara_async.endpoint import AIModelEndpoint, Dialect
from dhenara_async.errors import ConfigurationError, ConversionLossError, printable
from dhenara_async.formatter.conversion import ConversionPolicy, ConversionReport
from dhenara_async.formatter.formatter import FormattedConversation
from dhenara_async.formatter.halves import warnings_of_halves
from dhenara_async.hosts.auth import guarded
from dhenara_async.hosts.headers import credentials_of, secrets_of, sendable
from dhenara_async.hosts.registry import ResolvedHost, dialect_of, driver_for, expected_origin, leaves_its_path, resolve
from dhenara_async.messages.media import placeholder
from dhenara_async.messages.messages import FilePart, Message, Part
from dhenara_async.request import ChatRequest, HttpRequest, WireRequest
from dhenara_async.response import CallWarning
from dhenara_async.transport import Transport

LARGE_BYTES = 1 << 20
"""Requests with this many bytes of files are encoded in a thread; below, encoding takes a millisecond or two."""

_SMALL_FILE_BYTES = 1 << 12  # as quick to encode as to replace
# One thread at a time: encoding holds the interpreter, and several threads would starve the loop.
_encoder: RunVar[anyio.CapacityLimiter] = RunVar("dhenara_async encoder")


class CallPreparer:
    """Prepares calls of one endpoint.

    Args:
        endpoint: The endpoint.
        policy: The conversion policy for content of other models.
        shared: Limits, retry budget and health that calls share.
    """

    def __init__(self, endpoint: AIModelEndpoint, policy: ConversionPolicy | None, shared: SharedResources) -> None:
        self.endpoint = endpoint
        self._policy = policy
        self._shared_resources = shared
        self._driver: Driver | None = None
        self._host: ResolvedHost | None = None
        self._form: Form | None = None

    def call(self, call: CallInput, transport: Transport | None) -> Call:
        """Prepare a call: format, encode, address.

        Args:
            call: The question.
            transport: The connections; None = connections of its own, closed with the call.

        Raises:
            ConfigurationError: It cannot be made as asked.
            UnsupportedError: The model cannot take a part of the question.
            ConversionLossError: The policy is strict and content would be lost.
        """
        own = self._for_account_of(call.config)
        if own is not self:
            return own.call(call, transport)
        lone = self._lone(call, transport)
        if lone is not None:
            return lone
        written = self._written(call, opaque=True)
        request, wire, formatted = written.request, written.wire, written.formatted
        pricing = self.endpoint.pricing
        if call.config.test_mode:
            origin = expected_origin(self.endpoint)
            words = rehearsal(request, origin)
            return Call(
                request, written.driver, origin, words, wire.warnings, formatted.report, pricing, formatted.prefix
            )
        host = self._resolved()
        delivery = self._completed(written, host, transport)
        retired = self._retirement(host)
        return Call(
            request,
            written.driver,
            host.origin,
            delivery,
            wire.warnings + retired,
            formatted.report,
            pricing,
            formatted.prefix,
            lambda: self._without_reasoning(call, first=written, over=delivery, more=retired),
        )

    def _for_account_of(self, config: AIModelCallConfig) -> "CallPreparer":
        """The preparer for ``config``: of another account, if the headers of the call hold credentials."""
        if not config.extra_headers:
            return self
        proofs, api = credentials_of(config.extra_headers), self.endpoint.api
        if proofs.items() <= credentials_of(api.headers).items():
            return self
        others = {name: value for name, value in api.headers.items() if name.lower() not in proofs}
        endpoint = self.endpoint.changed(api=api.changed(headers={**others, **proofs}))
        return CallPreparer(endpoint, self._policy, self._shared_resources)

    def _lone(self, call: CallInput, transport: Transport | None) -> Call | None:
        """Fill the template of single questions; None if the call is more than a single question."""
        words = None if call.history is not None else lone_question(call.messages)
        if words is None or call.config.test_mode or not is_fixed(call.config):
            return None
        form = self._form
        if form is None or not form.fits(call.config, call.instructions, stream=call.stream):
            self._form = Form(call.config, call.instructions, call.stream)  # the next call fills it
            return None
        if not form.written:
            form.write(lambda message: self._example(call, message))
        driver = self._driver
        if form.example is None or driver is None:
            return None
        try:
            body = form.filled(words)
        except orjson.JSONEncodeError:
            return None  # the encoder reports the fault
        example, wire = form.example
        request = ChatRequest((call.messages[0],), example.instructions, call.config, call.stream)
        host = self._resolved()
        return Call(
            request,
            driver,
            host.origin,
            self._delivery(request, wire, body, host, transport),
            wire.warnings + self._retirement(host),
            REPORT,
            self.endpoint.pricing,
        )

    def _example(self, call: CallInput, message: Message) -> tuple[ChatRequest, WireRequest] | None:
        """Encode ``message`` as a single question; None if formatting adds or changes anything."""
        if dialect_of(self.endpoint) not in tuple(Dialect):
            return None
        written = self._written(replace(call, messages=[message]), opaque=True)
        formatted = written.formatted
        bare = formatted.messages == (message,) and formatted.report == REPORT and formatted.prefix is None
        return (written.request, written.wire) if bare and written.whole and not formatted.stubs else None

    def _without_reasoning(
        self, call: CallInput, *, first: "_Written", over: Delivery, more: tuple[CallWarning, ...]
    ) -> Call | None:
        """Prepare the call again without the opaque reasoning of its history; None if there is none.

        Args:
            call: The question.
            first: The request that was refused.
            over: Its delivery.
            more: Warnings that are not about options.

        Raises:
            ConversionLossError: The policy is strict.
        """
        second = self._written(call, opaque=False)
        if second.wire.body == first.wire.body:
            return None
        if self._policy is not None and self._policy.strict:  # the omission alone may not count as a loss
            raise ConversionLossError("strict policy: what the target refused is part of the history")
        host = self._resolved()
        return Call(
            second.request,
            second.driver,
            host.origin,
            replace(self._completed(second, host, over.transport), owns_transport=over.owns_transport),
            second.wire.warnings + more,
            second.formatted.report,
            self.endpoint.pricing,
            second.formatted.prefix,
        )

    def _written(self, call: CallInput, *, opaque: bool, mend: bool = False) -> "_Written":
        """Format and encode the request.

        Args:
            call: The question.
            opaque: Whether opaque reasoning of the history goes along.
            mend: Whether halves of surrogate pairs are replaced; True after they were met while it was encoded.
        """
        endpoint = self.endpoint
        formatted = call.formatted(endpoint, self._policy, opaque=opaque, mend=mend)
        request = ChatRequest.of(
            formatted.messages,
            instructions=call.instructions,
            config=formatted.declared(call.config),
            stream=call.stream,
        )
        continuation = call.continuation(endpoint)
        if continuation is not None:
            request = replace(request, continuation=continuation)
        if not request.messages:
            raise ConfigurationError("there is nothing to ask: every message is empty")
        driver = self._driver = self._driver or driver_for(endpoint)
        fetch = self._fetch_policy(call.config)
        links = _to_download(request, fetch, formatted.report, endpoint)
        # faults of the request are found before files are downloaded or encoded
        sketch = _with_stand_ins(request, links) if links else request
        large = _is_large(request.messages)
        if large:
            sketch = replace(sketch, messages=tuple(map(_sketched, sketch.messages)))
        wire = driver.encode(sketch, endpoint)
        if leaves_its_path(wire.path):
            raise ConfigurationError("the name of the model would lead the request to another path of the host")
        if wire.replaced and not mend:
            return self._written(call, opaque=opaque, mend=True)
        if wire.replaced:
            more = warnings_of_halves(call.instructions, call.config)
            wire = replace(wire, warnings=wire.warnings + more)
        handed = to_check(request.messages, endpoint)
        return _Written(request, driver, wire, formatted, links, fetch, handed, whole=not (links or large))

    def _fetch_policy(self, config: AIModelCallConfig) -> FetchPolicy:
        """The download policy, limited to the bytes that a request may carry."""
        most = None if self._policy is None else self._policy.max_inlined_bytes
        if most is None or most >= config.fetch.max_bytes:
            return config.fetch
        return config.fetch.changed(max_bytes=most)

    def _completed(self, written: "_Written", host: ResolvedHost, transport: Transport | None) -> Delivery:
        """Build the delivery, including its pending downloads."""
        delivery = self._delivery(written.request, written.wire, written.wire.body, host, transport)
        if written.whole and not written.handed:
            return delivery
        return replace(delivery, prepare=_Completion(written, delivery, self.endpoint))

    def _delivery(
        self, request: ChatRequest, wire: WireRequest, body: bytes, host: ResolvedHost, transport: Transport | None
    ) -> Delivery:
        auth, extra = host.auth, sendable(request.config.extra_headers) if request.config.extra_headers else {}
        if extra:
            auth = guarded(auth, tuple(secrets_of(extra)))
        if request.config.tools and (tokens := tuple(connector_secrets(request.config.tools))):
            auth = guarded(auth, tokens)
        accept = host.framing.media_type if request.stream else "application/json"
        headers = {"content-type": "application/json", "accept": accept, **wire.headers, **host.headers, **extra}
        for name in wire.lists & headers.keys() if wire.lists else ():
            if headers[name] != wire.headers[name]:
                headers[name] = f"{wire.headers[name]},{headers[name]}"
        return Delivery(
            request=HttpRequest(host.base_url + wire.path, headers, body, request.config.bounds.max_header_bytes),
            auth=auth,
            timeouts=request.config.timeouts,
            transport=transport or new_transport(),
            owns_transport=transport is None,
            budget=self._shared_resources.retries,
            limiter=self._shared_resources.limiter,
            timing=self._shared_resources.timing,
            framing=host.framing,
            hints=host.hints,
        )

    def _resolved(self) -> ResolvedHost:
        if self._host is None:
            self._host = resolve(self.endpoint)
        return self._host

    def _retirement(self, host: ResolvedHost) -> tuple[CallWarning, ...]:
        """A warning where the model's own maker has withdrawn it; other hosts keep calendars of their own."""
        model = self.endpoint.ai_model
        if model.retired_on is None or not host.own_host or model.provider != self.endpoint.api.provider:
            return ()
        if date.today() < model.retired_on:
            return ()
        instead = f"; use {model.replacement}" if model.replacement else ""
        message = f"{printable(model.model_name)} was retired by its maker on {model.retired_on}{instead}"
        # Python shows a warning once for each line of the user's code, so no state is needed here
        warn(message, UserWarning, stacklevel=_levels_to_the_user())
        return (CallWarning(code="model_retired", knob="ai_model", message=message),)


@dataclass(frozen=True, slots=True)
class _Written:
    """A formatted and encoded request.

    Attributes:
        request: The request, legal for the endpoint.
        driver: The driver that encoded it.
        wire: The request, with a few bytes in place of every file that has to be downloaded or is large.
        formatted: Its history after the conversion.
        links: Those files.
        fetch: Under which policy they are downloaded.
        handed: URLs that the endpoint fetches, to be looked up before it is asked to.
        whole: Whether nothing stands in for anything.
    """

    request: ChatRequest
    driver: Driver
    wire: WireRequest
    formatted: FormattedConversation
    links: tuple[FilePart, ...]
    fetch: FetchPolicy
    handed: tuple[str, ...]
    whole: bool


class _Completion:
    """Downloads the files of a request, or encodes large ones, just before the request is sent.

    Awaited by the stream, before each time that the call is sent: to keep the files, or the request that they make,
    would take their memory from every call for as long as its answer lasts.
    """

    def __init__(self, written: _Written, delivery: Delivery, endpoint: AIModelEndpoint) -> None:
        self._written = written
        self._delivery = delivery
        self._endpoint = endpoint

    async def __call__(self) -> HttpRequest:
        written = self._written
        request = written.request
        if written.links or written.handed:
            from dhenara_async.downloads.fetch import fetcher_for

            fetcher = fetcher_for(self._delivery.transport, written.fetch, request.config.bounds)
            await fetcher.check(written.handed)
            if written.whole:
                return self._delivery.request
            request = replace(request, messages=inlined(request.messages, await fetcher.fetch_all(written.links)))
        wire = await _encoded(written.driver, request, self._endpoint)
        return replace(self._delivery.request, body=wire.body)


async def _encoded(driver: Driver, request: ChatRequest, endpoint: AIModelEndpoint) -> WireRequest:
    """Encode ``request``, in a thread if it is large.

    Nothing is left of it when it is cancelled: the cancellation waits for the end of the encoding, which is near.
    """
    if not _is_large(request.messages):
        return driver.encode(request, endpoint)
    encoder = _encoder.get(None)
    if encoder is None:
        encoder = anyio.CapacityLimiter(1)
        _encoder.set(encoder)
    return await anyio.to_thread.run_sync(driver.encode, request, endpoint, limiter=encoder)


def _is_large(messages: Iterable[Message]) -> bool:
    """Whether encoding ``messages`` would block the loop; only files take that long."""
    size = 0
    for message in messages:
        for part in message.parts:
            if part.type == "file":
                size += part.size or 0
            elif part.type == "tool_result":
                size += sum(item.size or 0 for item in part.content if item.type == "file")
    return size >= LARGE_BYTES


def _sketched(message: Message) -> Message:
    """Replace the files of ``message`` by placeholders of a few bytes, for a first encoding."""
    parts = tuple(map(_sketched_part, message.parts))
    if all(new is old for new, old in zip(parts, message.parts, strict=True)):
        return message
    return message.changed(parts=parts)


def _sketched_part(part: Part) -> Part:
    if part.type == "file":
        return _sketched_file(part)
    if part.type == "tool_result" and any(item.type == "file" for item in part.content):
        content = tuple(_sketched_file(item) if item.type == "file" else item for item in part.content)
        return part.changed(content=content)
    return part


def _sketched_file(file: FilePart) -> FilePart:
    if file.data is None or len(file.data) <= _SMALL_FILE_BYTES:
        return file
    checked = file.origin is None and file.media_type.startswith("text/")
    if file.kind == "text" and not checked:  # a text file may not be UTF-8, which some dialects refuse
        return file
    return file.changed(data=placeholder(file.media_type))


def _to_download(
    request: ChatRequest, fetch: FetchPolicy, report: ConversionReport, endpoint: AIModelEndpoint
) -> tuple[FilePart, ...]:
    """List the files that ``endpoint`` cannot fetch. Checks their URLs without a network call."""

    if not any(entry.code == INLINED for entry in report.entries):
        return ()
    from dhenara_async.downloads.file_urls import download_address

    links = to_download(request.messages, endpoint)
    for link in links:
        download_address(link.url or "", fetch)
    return links


def _with_stand_ins(request: ChatRequest, links: tuple[FilePart, ...]) -> ChatRequest:

    return replace(request, messages=inlined(request.messages, {key_of(link): stand_in(link) for link in links}))


def _levels_to_the_user() -> int:
    """The ``stacklevel`` of a warning that should point at the first frame outside this package."""

    levels, frame = 0, currentframe()
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "dhenara_async":
        levels, frame = levels + 1, frame.f_back
    return levels


def new_transport() -> Transport:
    """Make the default transport."""
    from dhenara_async.transport.aiohttp_transport import AiohttpTransport  # here, because of what it loads

    return AiohttpTransport()
