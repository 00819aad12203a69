"""The provider-neutral answer: the same fields, with the same meaning, for every provider."""

from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum
from typing import Literal, Self, TypeVar, overload

from pydantic import Field, PrivateAttr

from dhenara_async.formatter.conversion import ConversionReport
from dhenara_async.formatter.markdown import as_markdown, code_span, quoted_lines
from dhenara_async.frozen import Aside, FrozenModel
from dhenara_async.messages.messages import (
    Citation,
    FilePart,
    HostedToolPart,
    Message,
    Origin,
    Part,
    ReasoningPart,
    RefusalPart,
    Role,
    TextPart,
    ToolCallPart,
)
from dhenara_async.tools.structured import ModelOutput, OutputType, is_wrapped, read, read_as
from dhenara_async.usage.prices import Pricing, Rates, installed, list_price, listable
from dhenara_async.usage.tokens import UNKNOWN, Usage

Read = TypeVar("Read")


CONTINUATION = "continuationToken"
"""The name of the hosted part, a remark on the answer, with the token by which the provider goes on with it."""


def continuation_token(parts: Iterable[Part]) -> str | None:
    """Return the token by which the provider goes on with an answer that it cut; None if it gave none."""
    for part in parts:
        if isinstance(part, HostedToolPart) and part.report and part.name == CONTINUATION:
            token = (part.provider_state or {}).get(CONTINUATION)
            return token if isinstance(token, str) and token else None
    return None


class FinishReason(StrEnum):
    """Why an answer ended. Any other provider value is ``OTHER``; ``raw_finish_reason`` has the value itself."""

    STOP = "stop"
    LENGTH = "length"
    CONTEXT_WINDOW = "context_window"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    REFUSAL = "refusal"
    PAUSE = "pause"
    ERROR = "error"
    OTHER = "other"


class CallWarning(FrozenModel):
    """A setting of the call that was dropped or adjusted for the target, or that the answer does not follow exactly.

    Attributes:
        code: ``param_dropped``, ``param_adjusted``, ``model_retired``, ``answer_unwrapped``, ``tool_withheld`` if a
            server's tool was not offered to the model, ``tool_limit`` if the calls of the answer were not run, or
            ``price_unknown`` if the cost needs list prices that are not installed.
        knob: The setting's name in ``AIModelCallConfig`` (or ``ai_model``, ``pricing``, ``run_tools``).
        message: The change and its cause.
    """

    code: Literal[
        "param_dropped",
        "param_adjusted",
        "model_retired",
        "answer_unwrapped",
        "tool_withheld",
        "tool_limit",
        "price_unknown",
    ]
    knob: str
    message: str


class Choice(FrozenModel):
    """One of the answers to a call; most calls have one.

    Attributes:
        index: The answer's number at the provider, from 0.
        parts: All received parts, in order, opaque state included.
        finish_reason: Why the answer ended.
        raw_finish_reason: The provider's own value; None if it sent none.
        stop_sequence: The stop sequence that ended the answer; None if none did or none was reported.
    """

    index: int = 0
    parts: tuple[Part, ...] = ()
    finish_reason: FinishReason
    raw_finish_reason: str | None = None
    stop_sequence: str | None = None

    @property
    def contents(self) -> tuple[Part, ...]:
        """The parts that a person can read or use, in order: ``parts`` without those that hold only opaque state."""
        return tuple(
            part
            for part in self.parts
            if not isinstance(part, HostedToolPart)
            and not (isinstance(part, TextPart | ReasoningPart) and not part.text)
        )

    def text(self) -> str:
        """The visible answer: its text parts, joined without separator."""
        return "".join([part.text for part in self.parts if isinstance(part, TextPart)])

    def reasoning(self) -> str:
        """The visible reasoning: its reasoning parts, joined without separator."""
        return "".join(part.text for part in self.parts if isinstance(part, ReasoningPart))

    def refusal(self) -> str:
        """The text of the refusal; empty if there was none."""
        return "".join(part.text for part in self.parts if isinstance(part, RefusalPart))

    def tools(self) -> tuple[ToolCallPart, ...]:
        """The tool calls for the caller to run, in order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCallPart))

    def approvals(self) -> tuple[ToolCallPart, ...]:
        """The calls of hosted MCP servers that the provider runs if they are approved, in order."""
        asked = (part.requested_call() for part in self.parts if isinstance(part, HostedToolPart))
        return tuple(call for call in asked if call is not None)

    def files(self) -> tuple[FilePart, ...]:
        """Generated files, in order."""
        return tuple(part for part in self.parts if isinstance(part, FilePart))

    def citations(self) -> tuple[Citation, ...]:
        """The citations of the text parts, in order."""
        return tuple(citation for part in self.parts if isinstance(part, TextPart) for citation in part.citations)


def _texts(choice: Choice) -> list[str]:
    return [part.text for part in choice.parts if isinstance(part, TextPart)]


class ChatResponse(FrozenModel):
    """A finished or interrupted answer, provider-neutral; stored in a conversation node.

    Attributes:
        choices: The answers, by index; at least one.
        usage: The token usage.
        model: The reported model id, else the requested one.
        provider: The answering provider.
        response_id: The provider's id of this answer; None if absent.
    """

    choices: tuple[Choice, ...] = Field(min_length=1)
    usage: Usage = UNKNOWN
    model: str
    provider: str
    response_id: str | None = None
    _wanted: Aside[OutputType] = PrivateAttr(default=Aside())  # no factory: pydantic inspects those for every answer

    @property
    def finish_reason(self) -> FinishReason:
        """Why the first choice ended."""
        return self.choices[0].finish_reason

    @property
    def raw_finish_reason(self) -> str | None:
        """The provider's own value for the first choice's finish reason; None if it sent none."""
        return self.choices[0].raw_finish_reason

    def text(self) -> str:
        """The first choice's visible text."""
        return self.choices[0].text()

    def reasoning(self) -> str:
        """The first choice's visible reasoning."""
        return self.choices[0].reasoning()

    def refusal(self) -> str:
        """The first choice's refusal; empty if there was none."""
        return self.choices[0].refusal()

    def tools(self) -> tuple[ToolCallPart, ...]:
        """The first choice's tool calls."""
        return self.choices[0].tools()

    def approvals(self) -> tuple[ToolCallPart, ...]:
        """The first choice's calls of hosted MCP servers that wait for approval.

        ``manager.resume`` decides on them. Without a manager, the result of such a call is the decision: a
        ``ToolResultPart`` in the next message, with ``denied=True`` and a reason if it may not run.
        """
        return self.choices[0].approvals()

    def files(self) -> tuple[FilePart, ...]:
        """The first choice's generated files."""
        return self.choices[0].files()

    def _repr_markdown_(self) -> str:
        """Return the answer as Jupyter shows it: its text, refusal, tool calls, model and tokens."""
        calls = [f"- {code_span(call.get_text())}" for call in self.tools()]
        calls += [f"- {code_span(call.get_text())} needs approval" for call in self.approvals()]
        known = self.usage.output_tokens
        foot = f"*{self.model}" + ("" if known is None else f", {known} tokens") + "*"
        return "\n\n".join(filter(None, (self.text(), quoted_lines(self.refusal()), "\n".join(calls), foot)))

    def as_message(self) -> Message:
        """The first choice as an assistant message, to send back in the next request."""
        return Message(role=Role.ASSISTANT, parts=self.choices[0].parts)

    def citations(self) -> tuple[Citation, ...]:
        """The first choice's citations."""
        return self.choices[0].citations()

    def wanted(self, wanted: OutputType | None) -> "ChatResponse":
        """Return a copy that remembers the requested structured output. JSON and pickle do not keep it."""
        answer = self.model_copy()
        answer._wanted = Aside(wanted)
        return answer

    @overload
    def structured(self, *, choice: int = 0) -> object: ...

    @overload
    def structured(self, model: type[Read], *, choice: int = 0) -> Read: ...

    def structured(self, model: type[object] | None = None, *, choice: int = 0) -> object:
        """Parse the answer as the object requested by ``structured_output``.

        Args:
            model: The type to parse to, any type that pydantic can validate; None = the call's ``structured_output``:
                an instance of its pydantic class, or the plain JSON value for a JSON schema (not validated again).
            choice: Index of the choice.

        One code fence around the JSON, and reasoning between ``<think>`` tags before it, are removed.

        Raises:
            AnswerRefusedError: The model or a filter declined; ``text`` has the refusal.
            AnswerCutError: The answer ended before it was complete; ``text`` has the received text.
            StructuredOutputError: It is not JSON, does not fit, or is missing; ``text`` has the model's text.
            ConfigurationError: ``model`` is None and the call's ``structured_output`` is unknown.
        """
        answer = self.choices[choice]
        output = ModelOutput(
            texts=_texts(answer),
            refusal=answer.refusal(),
            finish_reason=answer.finish_reason.value,
            calls=[call.name for call in answer.tools()],
            model=self.model,
        )
        return read(output, self._wanted.held) if model is None else read_as(output, model)

    def unwrapped(self) -> "tuple[CallWarning, ...]":
        """Return a warning if ``structured`` removes a code fence or reasoning around the JSON of a choice."""
        if not any(is_wrapped(_texts(choice)) for choice in self.choices):
            return ()
        message = f"{self.model} put a code fence around its JSON or reasoning before it; structured() removes both"
        return (CallWarning(code="answer_unwrapped", knob="structured_output", message=message),)

    def cost(self, rates: Rates | None = None) -> Decimal | None:
        """Return the provider's price of this answer: by ``rates``, else in US dollars by its list prices.

        For an interrupted answer this is an estimate, as its usage is.

        Returns:
            None if the model has no price, the provider reported no usage, or list prices are needed and the extra
            ``prices`` is not installed.
        """
        if rates is not None:
            return rates.price(self.usage)
        return list_price(self.usage, provider=self.provider, models=[self.model])


class Latency(FrozenModel):
    """Durations in seconds since the start of the call.

    Attributes:
        first_event: Until the first event; None if there was none.
        total: Until the last event.
        first_content: Until the first event with content of the answer; None if there was none.
    """

    first_event: float | None
    total: float
    first_content: float | None = None


class Attempt(FrozenModel):
    """One request of a call.

    Attributes:
        endpoint: The endpoint of the request.
        error: The error class and message, without secrets; None for the successful request.
        status: The HTTP status of the response; None if there was no response.
        request_id: The provider's request id; None if absent.
        waited: Seconds of waiting before the request.
        usage: Tokens used by a request that failed after its answer had begun; unknown if not reported.
        cost: The cost of ``usage``, by the endpoint's own rates, else by list prices if loaded; None if unknown.
    """

    endpoint: Origin
    error: str | None = None
    status: int | None = None
    request_id: str | None = None
    waited: float = 0.0
    usage: Usage = UNKNOWN
    cost: Decimal | None = None


class Decision(FrozenModel):
    """The decision of a plan over several endpoints for one call.

    Attributes:
        kind: The kind of plan.
        choice: The chosen endpoint, by its name in the plan, else as provider and model.
        name: The experiment's name; None for other plans and unnamed experiments.
        reason: Why it was chosen, without secrets; None if there is no particular reason.
        unit: The unit that keeps its variant in an experiment (such as a user id); None for other plans.
        weights: The experiment's weight per variant; None for other plans.
    """

    kind: Literal["failover", "race", "router", "experiment"]
    choice: str
    name: str | None = None
    reason: str | None = None
    unit: str | None = None
    weights: dict[str, float] | None = None


class Seam(FrozenModel):
    """The place where one endpoint continued the answer of another.

    Attributes:
        part: Number of the continuing endpoint's first part in the stream, from 0.
        before: The endpoint that made the parts before it.
        after: The endpoint that made the parts from there on.
        reason: Why the first answer was interrupted, without secrets.
    """

    part: int
    before: Origin
    after: Origin
    reason: str


class AIModelCallResponse(FrozenModel):
    """A call's answer and the record of the call.

    Attributes:
        chat_response: The answer.
        endpoint: The answering endpoint: provider, dialect, host, account hash and model.
        request_id: The provider's request id, to quote to its support; None if absent.
        attempts: Number of requests.
        tries: The requests, in order; of parallel requests, the successful one is last.
        plan: The decisions of plans over several endpoints, outermost first; empty if one endpoint was called directly.
        seams: The places where one endpoint continued the answer of another.
        latency: The durations.
        warnings: Settings that the target dropped or adjusted.
        conversion: The report of history parts that were changed for the target.
        pricing: How the cost of the call is computed.
        trace_id: The trace that the call is part of, 32 hexadecimal digits; None without an observer that traces.
        span_id: The call in that trace, 16 hexadecimal digits; None likewise.
    """

    chat_response: ChatResponse
    endpoint: Origin
    request_id: str | None = None
    attempts: int = 1
    tries: tuple[Attempt, ...] = ()
    plan: tuple[Decision, ...] = ()
    seams: tuple[Seam, ...] = ()
    latency: Latency
    warnings: tuple[CallWarning, ...] = ()
    conversion: ConversionReport = Field(default_factory=ConversionReport)
    pricing: Pricing = Field(default_factory=Pricing)
    trace_id: str | None = None
    span_id: str | None = None

    def text(self) -> str:
        """The first choice's visible text."""
        return self.chat_response.text()

    def files(self) -> tuple[FilePart, ...]:
        """The first choice's generated files."""
        return self.chat_response.files()

    def _repr_markdown_(self) -> str:
        return as_markdown(self.chat_response)

    @overload
    def structured(self) -> object: ...

    @overload
    def structured(self, model: type[Read]) -> Read: ...

    def structured(self, model: type[object] | None = None) -> object:
        """Parse the answer as the object requested by ``structured_output``; see ``ChatResponse.structured``."""
        answer = self.chat_response
        return answer.structured() if model is None else answer.structured(model)

    def cost(self) -> Decimal | None:
        """Return the provider's price of the call: by the endpoint's own rates, else in US dollars by its list prices.

        For an interrupted answer this is an estimate, as its usage is.

        Returns:
            None if the model has no price, the provider reported no usage, or list prices are needed and the extra
            ``prices`` is not installed; ``warnings`` then has a ``price_unknown``.
        """
        answer = self.chat_response
        if self.pricing.rates is not None:
            return answer.cost(self.pricing.rates)
        # the reported id comes first, because aliases move; some hosts report an id that no price list has
        return list_price(answer.usage, provider=answer.provider, models=[answer.model, self.endpoint.model])

    @property
    def list_prices_wanted(self) -> bool:
        """Whether ``cost`` needs the provider's list prices, which have to be loaded once."""
        answer = self.chat_response
        return self.pricing.rates is None and listable(answer.usage, answer.provider)

    def warned_of_missing_prices(self) -> Self:
        """Return the response with a warning if its cost is unknown because the extra ``prices`` is not installed."""
        if not self.list_prices_wanted or installed():
            return self
        message = (
            "the cost is unknown: list prices need the extra: pip install 'dhenara-async[prices]'; or give the "
            "endpoint Pricing(rates=…)"
        )
        warning = CallWarning(code="price_unknown", knob="pricing", message=message)
        return self.changed(warnings=(*self.warnings, warning))

    def charge(self) -> Decimal | None:
        """Return the price for your own customer: the cost with the endpoint's mark-up, or by its price list.

        Returns:
            None if the cost is unknown or the provider reported no usage.
        """
        by_list = self.pricing.price_list is not None
        return self.pricing.charge(self.chat_response.usage, None if by_list else self.cost())
