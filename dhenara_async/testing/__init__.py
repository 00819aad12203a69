"""What tests of programs that call models need: a provider on the loopback interface, told what to say.

``ProviderServer`` stands in for every provider and is as strict as they are. ``Answer``, ``ScriptedError`` and
``Fault`` are its script, ``REASONING_REFUSALS`` has errors for it that providers give to replayed reasoning,
``SeenRequest`` is what it saw, ``Closing`` how a connection ended.

``ReplayTransport`` answers from memory instead, ``split_everywhere`` cuts a body in the ways a network can, and
``check_grammar`` is the contract of the events that come out.

``check_driver`` tries out all that a driver promises, on answers that are ``Recorded``; ``PROMISES`` lists it.
"""

from dhenara_async.testing.conformance import PROMISES, Promise, Recorded, check_driver
from dhenara_async.testing.grammar import check_grammar
from dhenara_async.testing.refusals import REASONING_REFUSALS
from dhenara_async.testing.replay import ReplayTransport
from dhenara_async.testing.script import Answer, Closing, Fault, ScriptedError, ScriptedToolCall, SeenRequest
from dhenara_async.testing.server import ProviderServer
from dhenara_async.testing.splits import split_bytes, split_everywhere, split_randomly

__all__ = [
    "PROMISES",
    "REASONING_REFUSALS",
    "Answer",
    "Closing",
    "Fault",
    "Promise",
    "ProviderServer",
    "Recorded",
    "ReplayTransport",
    "ScriptedError",
    "ScriptedToolCall",
    "SeenRequest",
    "check_driver",
    "check_grammar",
    "split_bytes",
    "split_everywhere",
    "split_randomly",
]
