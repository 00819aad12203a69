"""Wire dialects, one a file: pure codecs between the canonical question and answer and a provider's JSON.

Nothing here awaits, opens a socket, reads a clock or logs. Every dialect needs ``base``, which holds the contract,
``parts``, which builds answers, and ``failures``, which reads errors; this room has it all under one name, for drivers
that are written elsewhere.

**A driver of your own** is a class with four methods (``Driver`` says what each is handed and may raise):

- ``encode(request, endpoint)`` spells a ``ChatRequest``: messages that are legal by your ``rules``, instructions and
  knobs. End it with ``wire(path, body, config, warnings, headers)``. Say of each knob you cannot take so by
  ``KnobWarnings``; raise ``UnsupportedError`` for a part of a message that you have no words for. Never leave either
  out in silence.
- ``decoder(request, origin)`` makes a ``Decoder`` for one answer. ``feed(frame)`` gets a server-sent event, or a plain
  body as one frame, and returns events: ``PartsInFlight(origin, request.config.bounds.max_parts)`` makes them, marks
  every part with ``origin`` and refuses too many. Raise ``ProtocolError`` for a frame that is no JSON before your state
  changes (``load`` does): the client may feed it again, repaired. ``finish()``
  is called once at the end of the body: raise ``truncated(…)`` there if nothing said that the answer is whole.
- ``error(status, headers, body, provider=…)`` reads an HTTP error; ``api_error`` finds the class for it.
- ``rules(endpoint)`` states what the endpoint takes of a history; ``Rules()`` takes everything, files inside a tool's
  result among it. What they take ``encode`` has to spell, and what they do not it has to refuse.

Register it under a name of its own, and a host that speaks it; both are then called like any other::

    register_driver("acme_lines", lambda host: AcmeDriver())
    register_host("acme", Host("https://api.acme.test", "acme_lines", key_variables=("ACME_API_KEY",)))
    endpoint = AIModelEndpoint(api=AIModelAPI(provider="acme"), ai_model=AIModel(model_name="acme-1"))

Answers are kept with these names, so they should not change. What is signed, encrypted or otherwise opaque goes into
``provider_state`` (``OpenPart.state``): it comes back on its part, and only where its model, host and account are the
same. A stored part can be forged, though: a driver that sends more of it than a seal says in ``Rules(vet=…)`` what may
be sent (``Vetted``), and puts the part's own text, name and arguments over whatever its state says.

**Trying it out.** ``testing.check_driver`` tries everything that a driver promises, on answers that its provider has
sent, and tells all that is broken at once, by the names in ``testing.PROMISES``. It sends nothing and needs no key::

    from dhenara_async.testing import Recorded, check_driver

    check_driver(endpoint, [Recorded(STREAM, stream=True, plain=PLAIN, text="Good day"), Recorded(NO, status=429)])

``testing.check_grammar`` and ``testing.split_everywhere`` are the parts of it that a decoder alone can be tried with.
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
