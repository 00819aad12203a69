"""Events to bytes, one class for each protocol that a browser or a client of the web speaks.

Pure: no framework, no I/O. ``web.starlette`` and ``web.aiohttp`` send what these classes write. All follow ``Frames``:
``begin`` once, ``feed`` for each batch of events, then ``end`` or ``fail``, so that a cut answer never looks complete.
"""

from dhenara_async.web.frames.ag_ui import AGUIFrames
from dhenara_async.web.frames.failures import Failure, failure_of
from dhenara_async.web.frames.json_lines import JsonLinesFrames
from dhenara_async.web.frames.protocol import Ended, Frames
from dhenara_async.web.frames.sse import SSEFrames
from dhenara_async.web.frames.tagged import TaggedFrames, TaggedJsonLinesFrames, TaggedSSEFrames
from dhenara_async.web.frames.text import TextFrames
from dhenara_async.web.frames.ui_messages import UIMessageFrames

__all__ = [
    "AGUIFrames",
    "Ended",
    "Failure",
    "Frames",
    "JsonLinesFrames",
    "SSEFrames",
    "TaggedFrames",
    "TaggedJsonLinesFrames",
    "TaggedSSEFrames",
    "TextFrames",
    "UIMessageFrames",
    "failure_of",
]
