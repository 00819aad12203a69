"""Tools for testing programs that call models, without a network.

``ProviderServer`` is a loopback server that speaks every dialect and refuses the requests that the real providers
refuse. Its script is made of ``Answer``, ``ScriptedError`` and ``Fault``; ``REASONING_REFUSALS`` has the errors that
providers return for replayed reasoning. ``SeenRequest`` records a request, and ``Closing`` how its connection ended.

``Recorder`` writes the exchanges of a transport to a file, and ``Replayer`` answers from it.
``ReplayTransport`` answers from memory. ``split_everywhere`` cuts a body at every place where a network can cut it.
``check_grammar`` checks the order of the events of a stream.

``check_driver`` tests every promise of a driver (``PROMISES``) on ``Recorded`` answers. ``check_store`` tests every
promise of a ``ConversationStore`` (``STORE_PROMISES``).
"""

from dhenara_async.testing.conformance import PROMISES, Promise, Recorded, check_driver
from dhenara_async.testing.grammar import check_grammar
from dhenara_async.testing.recorder import Recorder
from dhenara_async.testing.refusals import REASONING_REFUSALS
from dhenara_async.testing.replay import ReplayTransport
from dhenara_async.testing.replayer import Replayer, record_or_replay
from dhenara_async.testing.script import Answer, Closing, Fault, ScriptedError, ScriptedToolCall, SeenRequest
from dhenara_async.testing.server import ProviderServer
from dhenara_async.testing.splits import split_bytes, split_everywhere, split_randomly
from dhenara_async.testing.stores import STORE_PROMISES, StorePromise, check_store

__all__ = [
    "PROMISES",
    "REASONING_REFUSALS",
    "STORE_PROMISES",
    "Answer",
    "Closing",
    "Fault",
    "Promise",
    "ProviderServer",
    "Recorded",
    "Recorder",
    "ReplayTransport",
    "Replayer",
    "ScriptedError",
    "ScriptedToolCall",
    "SeenRequest",
    "StorePromise",
    "check_driver",
    "check_grammar",
    "check_store",
    "record_or_replay",
    "split_bytes",
    "split_everywhere",
    "split_randomly",
]
