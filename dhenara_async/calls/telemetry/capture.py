"""``Capture``: whether prompts and answers are written, and where."""

import logging
import os
from dataclasses import dataclass

VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""The environment variable of all of OpenTelemetry's GenAI instrumentations."""

logger: logging.Logger = logging.getLogger("dhenara_async")


@dataclass(frozen=True, slots=True)
class Capture:
    """Whether prompts and answers are written, and where.

    Attributes:
        spans: Whether they are attributes of spans.
        events: Whether they are attributes of log events.
    """

    spans: bool = False
    events: bool = False


_MODES = {
    "NO_CONTENT": Capture(),
    "SPAN_ONLY": Capture(spans=True),
    "EVENT_ONLY": Capture(events=True),
    "SPAN_AND_EVENT": Capture(spans=True, events=True),
}


def capture(wanted: bool) -> Capture:
    """Return the mode that ``VARIABLE`` names; without it, spans only if content is ``wanted``, else nothing."""
    word = os.environ.get(VARIABLE, "").strip().upper()
    if not word:
        return Capture(spans=wanted)
    mode = _MODES.get(word)
    if mode is None:
        logger.warning("%s is none of %s: no content is captured", VARIABLE, ", ".join(_MODES))
        return Capture()
    return mode
