"""What tests of programs that call models need: a provider on the loopback interface, told what to say.

``ProviderServer`` stands in for every provider and is as strict as they are; ``Answer`` and ``ScriptedError`` are its
script, ``SeenRequest`` is what it saw.

``ReplayTransport`` answers from memory instead, ``split_everywhere`` cuts a body in the ways a network can, and
``check_grammar`` is the contract of the events that come out.
"""

from dhenara_async.testing.grammar import check_grammar
from dhenara_async.testing.replay import ReplayTransport
from dhenara_async.testing.script import Answer, ScriptedError, ScriptedToolCall, SeenRequest
from dhenara_async.testing.server import ProviderServer
from dhenara_async.testing.splits import split_bytes, split_everywhere, split_randomly

__all__ = [
    "Answer",
    "ProviderServer",
    "ReplayTransport",
    "ScriptedError",
    "ScriptedToolCall",
    "SeenRequest",
    "check_grammar",
    "split_bytes",
    "split_everywhere",
    "split_randomly",
]
