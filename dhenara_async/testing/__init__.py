"""What tests of programs that call models need: a provider on the loopback interface, told what to say.

``ProviderServer`` stands in for every provider and is as strict as they are; ``Answer`` and ``ScriptedError`` are its
script, ``SeenRequest`` is what it saw.
"""

from dhenara_async.testing.script import Answer, ScriptedError, ScriptedToolCall, SeenRequest
from dhenara_async.testing.server import ProviderServer

__all__ = [
    "Answer",
    "ProviderServer",
    "ScriptedError",
    "ScriptedToolCall",
    "SeenRequest",
]
