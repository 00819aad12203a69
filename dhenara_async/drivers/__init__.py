"""Wire dialects, one folder each: pure codecs between the canonical request and response and a provider's JSON.

Nothing here awaits, opens a socket, reads a clock or logs. Every dialect uses ``base``, which holds the contract,
``parts``, which builds answers, and ``failures``, which reads errors. This package exports their names for drivers
outside the library.

**A driver of your own** is a class with four methods (``Driver`` states their arguments and errors):

- ``encode(request, endpoint)`` encodes a ``ChatRequest``: messages that are legal by your ``rules``, instructions and
  settings. End it with ``wire(path, body, config, warnings, headers)``. Warn of each setting that you cannot send, by
  ``KnobWarnings``; raise ``UnsupportedError`` for a message part that your API has no representation for. Never leave
  either out silently.
- ``decoder(request, origin)`` makes a ``Decoder`` for one answer. ``feed(frame)`` gets a server-sent event, or a plain
  body as one frame, and returns events. ``PartsInFlight(origin, request.config.bounds.max_parts)`` makes them, marks
  every part with ``origin`` and limits their number. Raise ``ProtocolError`` for a frame that is not JSON before your
  state changes (``load`` does): the client may feed the frame again, repaired. ``finish()`` is called once at the end
  of the body: raise ``truncated(…)`` there unless the answer is known to be complete.
- ``error(status, headers, body, provider=…)`` reads an HTTP error; ``api_error`` chooses the class.
  A driver whose hosts use headers of their own for the id of a request names them in ``request_id_headers``, and
  passes that id to ``api_error``.
- ``rules(endpoint)`` states which history the endpoint accepts. ``Rules()`` accepts everything, files inside tool
  results included, and downloads files given by URL. ``encode`` has to encode everything that the rules accept, and has
  to refuse everything else.

Register it under a name of its own, with a host that uses it; both are then called like any other::

    register_driver("acme_lines", lambda host: AcmeDriver())
    register_host("acme", Host("https://api.acme.test", "acme_lines", key_variables=("ACME_API_KEY",)))
    endpoint = AIModelEndpoint(api=AIModelAPI(provider="acme"), ai_model=AIModel(model_name="acme-1"))

Answers are stored with these names, so do not change them. Signed, encrypted and other opaque values belong in
``provider_state`` (``OpenPart.state``): it is sent back on its part, and only to the same model, host and account.
But a stored part can be forged. So a driver that sends more than a signature states in ``Rules(vet=…)`` what may be
sent (``Vetted``), and lets the part's own text, name and arguments override its state.

**Testing it.** ``testing.check_driver`` checks everything that a driver promises against recorded answers of its
provider, and reports all failures at once, by the names in ``testing.PROMISES``. It needs no network and no key::

    from dhenara_async.testing import Recorded, check_driver

    check_driver(endpoint, [Recorded(STREAM, stream=True, plain=PLAIN, text="Good day"), Recorded(NO, status=429)])

``testing.check_grammar`` and ``testing.split_everywhere`` are the checks for a decoder alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dhenara_async.drivers.base import (
        Decoder,
        Driver,
        JsonObject,
        KnobWarnings,
        arguments_object,
        arguments_text,
        as_count,
        as_list,
        as_object,
        as_text,
        load,
        wire,
    )
    from dhenara_async.drivers.failures import api_error, error_object, truncated
    from dhenara_async.drivers.parts import OpenPart, PartsInFlight, finish_of, usage_events
    from dhenara_async.drivers.rules import CallIds, Place, Rules, Vetted
    from dhenara_async.framing import Frame, NamedFrame, name_of
    from dhenara_async.messages.messages import Part
    from dhenara_async.request import ChatRequest, WireRequest

_ROOMS = {
    "drivers.base": "Decoder Driver JsonObject KnobWarnings arguments_object arguments_text as_count as_list "
    "as_object as_text load wire",
    "drivers.failures": "api_error error_object truncated",
    "drivers.parts": "OpenPart PartsInFlight finish_of usage_events",
    "framing": "Frame NamedFrame name_of",
    "messages.messages": "Part",
    "request": "ChatRequest WireRequest",
    "drivers.rules": "CallIds Place Rules Vetted",
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names.split()}

__all__ = [
    "CallIds",
    "ChatRequest",
    "Decoder",
    "Driver",
    "Frame",
    "JsonObject",
    "KnobWarnings",
    "NamedFrame",
    "OpenPart",
    "Part",
    "PartsInFlight",
    "Place",
    "Rules",
    "Vetted",
    "WireRequest",
    "api_error",
    "arguments_object",
    "arguments_text",
    "as_count",
    "as_list",
    "as_object",
    "as_text",
    "error_object",
    "finish_of",
    "load",
    "name_of",
    "truncated",
    "usage_events",
    "wire",
]


def __getattr__(name: str) -> object:
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module 'dhenara_async.drivers' has no attribute {name!r}")
    value: object = getattr(import_module(f"dhenara_async.{room}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
