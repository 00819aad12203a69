"""The canonical answer: what every provider's response means, with one meaning for every number."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from dhenara_async.conversion import ConversionReport
from dhenara_async.messages import (
    FilePart,
    HostedToolPart,
    Origin,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
)
from dhenara_async.value import Value


class FinishReason(StrEnum):
    """Why the answer ended. What a provider says beyond these is ``OTHER``, with the raw word kept beside it."""

    STOP = "stop"
    LENGTH = "length"
    CONTEXT_WINDOW = "context_window"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    REFUSAL = "refusal"
    PAUSE = "pause"
    ERROR = "error"
    OTHER = "other"


class Usage(Value):
    """Tokens, with the same meaning for every provider; None = not told, never zero instead.

    Attributes:
        input_tokens: All prompt tokens, cache reads and writes included.
        cache_read_tokens: Those of ``input_tokens`` that were read from a cache.
        cache_write_tokens: Those of ``input_tokens`` that were written to a cache.
        output_tokens: All generated tokens, reasoning included.
        reasoning_tokens: Those of ``output_tokens`` that were reasoning.
        total_tokens: Input and output together.
        source: ``reported`` only if the provider told.
    """

    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None
    source: Literal["reported", "estimated", "unknown"] = "unknown"


class CallWarning(Value):
    """A knob of the call that the target cannot take as given.

    Attributes:
        code: ``param_dropped``, ``param_adjusted`` or ``model_retired``.
        knob: Its name in ``AIModelCallConfig`` (or ``ai_model``).
        message: What happened to it, and why.
    """

    code: Literal["param_dropped", "param_adjusted", "model_retired"]
    knob: str
    message: str


class Choice(Value):
    """One of the answers to a call; most calls have one.

    Attributes:
        index: Its number at the provider, from 0.
        parts: Everything that came, in order, opaque state included.
        finish_reason: Why it ended.
        raw_finish_reason: The provider's own word for that; None if it sent none.
        stop_sequence: The stop text that ended it; None if none did or it was not told.
    """

    index: int = 0
    parts: tuple[Part, ...] = ()
    finish_reason: FinishReason
    raw_finish_reason: str | None = None
    stop_sequence: str | None = None

    @property
    def contents(self) -> tuple[Part, ...]:
        """What a person can read or use, in order: ``parts`` less those that hold only opaque state."""
        return tuple(
            part
            for part in self.parts
            if not isinstance(part, HostedToolPart)
            and not (isinstance(part, TextPart | ReasoningPart) and not part.text)
        )

    def text(self) -> str:
        """The visible answer: its texts joined with nothing between."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    def reasoning(self) -> str:
        """The thinking that is shown, joined with nothing between."""
        return "".join(part.text for part in self.parts if isinstance(part, ReasoningPart))

    def refusal(self) -> str:
        """The words of a refusal; empty if there was none."""
        return "".join(part.text for part in self.parts if isinstance(part, RefusalPart))

    def tools(self) -> tuple[ToolCallPart, ...]:
        """The calls the caller has to run, in order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCallPart))

    def files(self) -> tuple[FilePart, ...]:
        """Generated files, in order."""
        return tuple(part for part in self.parts if isinstance(part, FilePart))


class ChatResponse(Value):
    """A finished or interrupted answer, provider-neutral; what a conversation node keeps.

    Attributes:
        choices: The answers, by index; at least one.
        usage: Tokens.
        model: The id the response reports, else the one asked for.
        provider: Who answered.
        response_id: The provider's id of this answer; None if not told.
    """

    choices: tuple[Choice, ...] = Field(min_length=1)
    usage: Usage = Field(default_factory=Usage)
    model: str
    provider: str
    response_id: str | None = None

    @property
    def finish_reason(self) -> FinishReason:
        """Why the first choice ended."""
        return self.choices[0].finish_reason

    @property
    def raw_finish_reason(self) -> str | None:
        """The provider's own word for that."""
        return self.choices[0].raw_finish_reason

    def text(self) -> str:
        """The first choice's visible text."""
        return self.choices[0].text()

    def reasoning(self) -> str:
        """The first choice's thinking, as far as it is shown."""
        return self.choices[0].reasoning()

    def refusal(self) -> str:
        """The first choice's refusal; empty if there was none."""
        return self.choices[0].refusal()

    def tools(self) -> tuple[ToolCallPart, ...]:
        """The first choice's calls to run."""
        return self.choices[0].tools()

    def files(self) -> tuple[FilePart, ...]:
        """The first choice's generated files."""
        return self.choices[0].files()


class Latency(Value):
    """Seconds from the moment the call was started.

    Attributes:
        first_event: Until the first event; None if none came.
        total: Until the last.
    """

    first_event: float | None
    total: float


class AIModelCallResponse(Value):
    """A call's answer with everything about how it came.

    Attributes:
        chat_response: The answer.
        endpoint: Who was called, by provider, dialect, host, account hash and model.
        request_id: What the provider calls the request, for its support; None if not told.
        attempts: How many requests it took.
        latency: How long it took.
        warnings: Knobs the target could not take as given.
        conversion: What became of parts of the history that could not be sent as they were.
    """

    chat_response: ChatResponse
    endpoint: Origin
    request_id: str | None = None
    attempts: int = 1
    latency: Latency
    warnings: tuple[CallWarning, ...] = ()
    conversion: ConversionReport = Field(default_factory=ConversionReport)

    def text(self) -> str:
        """The first choice's visible text."""
        return self.chat_response.text()
