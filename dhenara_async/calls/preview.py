"""``RequestPreview``: the request of a question as it would be sent, for people, without secrets and without a network.

It is encoded by the driver that sends it. In place of credentials it has ``***``, and in place of the bytes of a file
their number.
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

import orjson

from dhenara_async.calls.input import CallInput
from dhenara_async.drivers.connector import connector_secrets
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.formatter.conversion import ConversionPolicy
from dhenara_async.framing.lenient_json import dumps
from dhenara_async.frozen import ShortRepr
from dhenara_async.hosts.headers import names_a_secret, sendable, without_secrets
from dhenara_async.hosts.registry import driver_for, host_of, resolve
from dhenara_async.messages.messages import FilePart, Message, ToolResultPart
from dhenara_async.request import ChatRequest

_MASK = "***"
_SHOWN_BYTES = 256
"""Bytes of a file that are shown; a larger one is told by its size."""


@dataclass(frozen=True, slots=True, repr=False)
class RequestPreview(ShortRepr):
    """A request that was not sent.

    Attributes:
        method: The HTTP method.
        url: The address.
        headers: The headers, names in lower case, credentials masked.
        body: The JSON of the body, credentials masked and the bytes of files left out.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: str = field(repr=False)


def preview_of(call: CallInput, endpoint: AIModelEndpoint, policy: ConversionPolicy | None) -> RequestPreview:
    """Encode a question as it would be sent to an endpoint.

    Args:
        call: The question and its history.
        endpoint: The target.
        policy: The conversion policy of the history.

    Raises:
        ConfigurationError: The endpoint has no address or key, or there is nothing to ask.
        UnsupportedError: The target cannot be asked that at all.
        ConversionLossError: The policy is strict and content would be lost.
    """
    host = resolve(endpoint)
    formatted = call.formatted(endpoint, policy, mend=True)
    config = formatted.declared(call.config)
    request = ChatRequest.of(formatted.messages, instructions=call.instructions, config=config, stream=call.stream)
    wire = driver_for(endpoint).encode(request, endpoint)
    body = wire.body.decode(errors="replace")
    for file in _files(request.messages):
        if file.data is not None and len(file.data) > _SHOWN_BYTES:
            body = body.replace(b64encode(file.data).decode(), f"({len(file.data)} bytes of {file.media_type})")
    for secret in connector_secrets(config.tools):
        body = body.replace(secret, _MASK)
    accept = host.framing.media_type if call.stream else "application/json"
    given = {**wire.headers, **without_secrets({**host.headers, **sendable(config.extra_headers)})}
    headers = {"content-type": "application/json", "accept": accept, **given}
    row = host_of(endpoint.api.provider)
    if row.key_required or row.key_variables:
        headers.setdefault(row.key_header, _MASK)
    body = host.auth.hide(_without_options(body, config.extra_body))
    return RequestPreview("POST", host.auth.hide(host.base_url + wire.path), headers, body)


def _files(messages: Iterable[Message]) -> Iterator[FilePart]:
    for message in messages:
        for part in message.parts:
            if isinstance(part, FilePart):
                yield part
            elif isinstance(part, ToolResultPart):
                yield from (item for item in part.content if isinstance(item, FilePart))


def _without_options(body: str, extra: Mapping[str, object]) -> str:
    """Mask credentials in the options that the caller has added to the body."""
    if not extra:
        return body
    fields = cast("dict[str, object]", orjson.loads(body))
    for name in extra:
        if name in fields:
            fields[name] = _masked(fields[name], secret=names_a_secret(name))
    return dumps(fields).decode()


def _masked(value: object, *, secret: bool = False) -> object:
    if isinstance(value, dict):
        items = cast("dict[str, object]", value).items()
        return {name: _masked(item, secret=secret or names_a_secret(name)) for name, item in items}
    if isinstance(value, list):
        return [_masked(item, secret=secret) for item in cast("list[object]", value)]
    return _MASK if secret and isinstance(value, str) else value
