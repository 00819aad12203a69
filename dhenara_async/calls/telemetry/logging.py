"""``LoggingObserver``: one structured log line a call."""

import logging
from collections.abc import Mapping

from dhenara_async.calls.observer import Observer
from dhenara_async.calls.records import CallEnded, CallStarted, FirstContent, LoopEnded, ToolEnded
from dhenara_async.errors import printable

Field = str | int | float


class LoggingObserver(Observer):
    """Logs one line for each call, tool call and tool loop, when it has ended, under ``dhenara_async``.

    A line is a word and its fields: ``call provider=openai model=gpt-5-mini outcome=complete seconds=1.204 attempts=1
    input_tokens=12 …``. The record has the fields as a dict too (``record.dhenara``), for formatters that write JSON.
    Unknown values are left out. Lines hold no prompts, no answers, no error messages and no keys. Failed ones are
    warnings.

    Args:
        level: The level of the others.
    """

    def __init__(self, level: int = logging.INFO) -> None:
        self._level = level
        self._logger = logging.getLogger("dhenara_async")
        self._starts: dict[str, tuple[CallStarted, float | None]] = {}

    def call_started(self, record: CallStarted) -> None:
        """See ``Observer``."""
        self._starts[record.call_id] = (record, None)

    def first_content(self, record: FirstContent) -> None:
        """See ``Observer``."""
        started, _ = self._starts[record.call_id]
        self._starts[record.call_id] = (started, record.seconds)

    def call_ended(self, record: CallEnded) -> None:
        """See ``Observer``."""
        started, first_content = self._starts.pop(record.call_id)
        usage = record.usage
        self._log(
            "call",
            record.outcome,
            record.error,
            {
                "provider": record.endpoint.provider,
                "model": record.endpoint.model,
                "plan": started.plan,
                "outcome": record.outcome,
                "seconds": round(record.seconds, 3),
                "first_content": None if first_content is None else round(first_content, 3),
                "attempts": record.attempts,
                "status": record.status,
                "finish_reason": None if record.finish_reason is None else str(record.finish_reason),
                "input_tokens": None if usage is None else usage.input_tokens,
                "output_tokens": None if usage is None else usage.output_tokens,
                "cache_read_tokens": None if usage is None else usage.cache_read_tokens,
                "reasoning_tokens": None if usage is None else usage.reasoning_tokens,
                "request_id": record.request_id,
                "conversation": started.conversation,
                "node": started.node,
                "loop": started.parent,
            },
        )

    def tool_ended(self, record: ToolEnded) -> None:
        """See ``Observer``."""
        fields = {"name": record.name, "outcome": record.outcome, "seconds": round(record.seconds, 3)}
        more = {"tool_call": record.tool_call_id, "loop": record.loop_id}
        self._log("tool", record.outcome, record.error, {**fields, **more})

    def loop_ended(self, record: LoopEnded) -> None:
        """See ``Observer``."""
        self._log(
            "loop",
            record.outcome,
            record.error,
            {
                "outcome": record.outcome,
                "seconds": round(record.seconds, 3),
                "steps": record.steps,
                "tool_calls": record.tool_calls,
                "loop": record.loop_id,
            },
        )

    def _log(self, what: str, outcome: str, error: BaseException | None, fields: Mapping[str, Field | None]) -> None:
        failed = outcome == "failed"
        level = max(self._level, logging.WARNING) if failed else self._level
        if not self._logger.isEnabledFor(level):
            return
        known: dict[str, Field] = {name: value for name, value in fields.items() if value is not None}
        if failed and error is not None:
            known["error"] = type(error).__name__
        words = " ".join(f"{name}={_word(value)}" for name, value in known.items())
        self._logger.log(level, "%s %s", what, words, extra={"dhenara": known})


def _word(value: Field) -> str:
    """Return a value as one word: quoted if it has blanks or quotes, and never more than one line."""
    text = printable(str(value))
    return text if text and not set(' "=') & set(text) else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
