"""The wire dialects of the loopback server, by name.

Written from the providers' documentation and SDKs, and deliberately not from the drivers of this library: an error
that both shared would stay hidden.
"""

from collections.abc import Mapping

from dhenara_async.endpoint import Dialect
from dhenara_async.testing.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from dhenara_async.testing.dialects.base import WireDialect
from dhenara_async.testing.dialects.gemini import GEMINI
from dhenara_async.testing.dialects.openai_chat import OPENAI_CHAT
from dhenara_async.testing.dialects.openai_responses import OPENAI_RESPONSES

WIRE_DIALECTS: Mapping[Dialect, WireDialect] = {
    wire.dialect: wire for wire in (OPENAI_RESPONSES, OPENAI_CHAT, ANTHROPIC_MESSAGES, GEMINI)
}
