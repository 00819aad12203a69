"""The canonical answer: what every provider's response means, with one meaning for every number."""

from decimal import Decimal
from enum import StrEnum
from typing import Literal, TypeVar, overload

from pydantic import Field, PrivateAttr

from dhenara_async.formatter.conversion import ConversionReport
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
from dhenara_async.tools.structured import Said, Wanted, is_wrapped, read, read_as
from dhenara_async.usage.prices import Pricing, Rates, list_price, listable
from dhenara_async.usage.tokens import UNKNOWN, Usage

Read = TypeVar("Read")


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


class CallWarning(FrozenModel):
    """A knob of the call that the target cannot take as given, or does not follow to the letter.

    Attributes:
        code: ``param_dropped``, ``param_adjusted``, ``model_retired`` or ``answer_unwrapped``.
        knob: Its name in ``AIModelCallConfig`` (or ``ai_model``).
        message: What happened to it, and why.
    """

    code: Literal["param_dropped", "param_adjusted", "model_retired", "answer_unwrapped"]
    knob: str
    message: str


class Choice(FrozenModel):
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

    def citations(self) -> tuple[Citation, ...]:
        """Where the texts come from, in order."""
        return tuple(citation for part in self.parts if isinstance(part, TextPart) for citation in part.citations)


def _texts(choice: Choice) -> list[str]:
    return [part.text for part in choice.parts if isinstance(part, TextPart)]


class ChatResponse(FrozenModel):
    """A finished or interrupted answer, provider-neutral; what a conversation node keeps.

    Attributes:
        choices: The answers, by index; at least one.
        usage: Tokens.
        model: The id the response reports, else the one asked for.
        provider: Who answered.
        response_id: The provider's id of this answer; None if not told.
    """

    choices: tuple[Choice, ...] = Field(min_length=1)
    usage: Usage = UNKNOWN
    model: str
    provider: str
    response_id: str | None = None
    _wanted: Aside[Wanted] = PrivateAttr(default=Aside())  # no factory: pydantic inspects those for every answer

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

    def as_message(self) -> Message:
        """The first choice as the assistant's message, to be sent back with what follows it."""
        return Message(role=Role.ASSISTANT, parts=self.choices[0].parts)

    def citations(self) -> tuple[Citation, ...]:
        """Where the first choice's texts come from."""
        return self.choices[0].citations()

    def wanted(self, wanted: Wanted | None) -> "ChatResponse":
        """This answer, knowing what the call wanted it to follow. JSON and pickle do not keep that."""
        answer = self.model_copy()
        answer._wanted = Aside(wanted)
        return answer

    @overload
    def structured(self, *, choice: int = 0) -> object: ...

    @overload
    def structured(self, model: type[Read], *, choice: int = 0) -> Read: ...

    def structured(self, model: type[object] | None = None, *, choice: int = 0) -> object:
        """The answer as the object that ``structured_output`` asked for.

        Args:
            model: What to read it as, any type that pydantic can read; None = what the call asked for: an instance of
                its pydantic class, or the plain JSON value for a JSON schema (which is not checked again).
            choice: Which choice, by its place.

        One code fence around the JSON, and thinking between ``<think>`` tags before it, are taken off.

        Raises:
            AnswerRefusedError: The model or a filter declined; ``text`` has the words.
            AnswerCutError: The answer ended before it was whole; ``text`` has what came.
            StructuredOutputError: It is not JSON, does not fit, or is missing; ``text`` has what the model said.
            ConfigurationError: No ``model``, and it is not known what the call asked for.
        """
        answer = self.choices[choice]
        said = Said(
            texts=_texts(answer),
            refusal=answer.refusal(),
            finish_reason=answer.finish_reason.value,
            calls=[call.name for call in answer.tools()],
            model=self.model,
        )
        return read(said, self._wanted.held) if model is None else read_as(said, model)

    def unwrapped(self) -> "tuple[CallWarning, ...]":
        """A warning where ``structured`` takes something off that stands around the JSON of a choice."""
        if not any(is_wrapped(_texts(choice)) for choice in self.choices):
            return ()
        message = f"{self.model} put its answer into a code fence or behind thinking; structured() takes that off"
        return (CallWarning(code="answer_unwrapped", knob="structured_output", message=message),)

    def cost(self, rates: Rates | None = None) -> Decimal | None:
        """What the provider takes for this answer, in US dollars by its list prices, or by ``rates``.

        Of an interrupted answer it is what is known to have been spent, so the least it can have cost.

        Returns:
            None where the model has no price, or the provider did not tell what was spent.

        Raises:
            ConfigurationError: List prices are wanted, and the extra ``prices`` is not installed.
        """
        if rates is not None:
            return rates.price(self.usage)
        return list_price(self.usage, provider=self.provider, models=[self.model])


class Latency(FrozenModel):
    """Seconds from the moment the call was started.

    Attributes:
        first_event: Until the first event; None if none came.
        total: Until the last.
    """

    first_event: float | None
    total: float


class Attempt(FrozenModel):
    """One request of a call.

    Attributes:
        endpoint: Who was asked.
        error: Why it failed, by class and in words without secrets; None for the one that gave the answer.
        status: The HTTP status it was answered with; None if it was not.
        request_id: What the provider calls it; None if not told.
        waited: Seconds that were waited before it.
        usage: What it took of itself, where it failed after it had begun; unknown if nobody told.
        cost: What that costs, by the endpoint's own rates, else by list prices if those are loaded; None if not known.
    """

    endpoint: Origin
    error: str | None = None
    status: int | None = None
    request_id: str | None = None
    waited: float = 0.0
    usage: Usage = UNKNOWN
    cost: Decimal | None = None


class Decision(FrozenModel):
    """What a plan over endpoints made of a call.

    Attributes:
        kind: Which sort of plan.
        choice: Who was chosen, by the name that the plan has for it, else as provider and model.
        name: An experiment's; None otherwise, and where it has none.
        reason: Why, in words without secrets; None where there is nothing to say.
        unit: What an experiment's variant sticks to; None otherwise.
        weights: An experiment's variants with their weights; None otherwise.
    """

    kind: Literal["failover", "race", "router", "experiment"]
    choice: str
    name: str | None = None
    reason: str | None = None
    unit: str | None = None
    weights: dict[str, float] | None = None


class Seam(FrozenModel):
    """Where one endpoint went on with the answer of another.

    Attributes:
        part: Which part of the stream is the first of the second one, from 0.
        before: Who made the parts before it.
        after: Who made those from there on.
        reason: Why it broke off, in words without secrets.
    """

    part: int
    before: Origin
    after: Origin
    reason: str


class AIModelCallResponse(FrozenModel):
    """A call's answer with everything about how it came.

    Attributes:
        chat_response: The answer.
        endpoint: Who was called, by provider, dialect, host, account hash and model.
        request_id: What the provider calls the request, for its support; None if not told.
        attempts: How many requests it took.
        tries: What became of each of them, in order; of calls that ran side by side, the one that answered is last.
        plan: What plans over endpoints made of it, the outermost first; empty where an endpoint was asked.
        seams: Where one endpoint went on with the answer of another.
        latency: How long it took.
        warnings: Knobs the target could not take as given.
        conversion: What became of parts of the history that could not be sent as they were.
        pricing: How the endpoint's calls are counted in money.
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

    def text(self) -> str:
        """The first choice's visible text."""
        return self.chat_response.text()

    def files(self) -> tuple[FilePart, ...]:
        """The first choice's generated files."""
        return self.chat_response.files()

    @overload
    def structured(self) -> object: ...

    @overload
    def structured(self, model: type[Read]) -> Read: ...

    def structured(self, model: type[object] | None = None) -> object:
        """The answer as the object that ``structured_output`` asked for; see ``ChatResponse.structured``."""
        answer = self.chat_response
        return answer.structured() if model is None else answer.structured(model)

    def cost(self) -> Decimal | None:
        """What the provider takes for the call: by the endpoint's own rates, else in US dollars by its list prices.

        Of an interrupted answer it is what is known to have been spent, so the least it can have cost.

        Returns:
            None where the model has no price, or the provider did not tell what was spent.

        Raises:
            ConfigurationError: List prices are wanted, and the extra ``prices`` is not installed.
        """
        answer = self.chat_response
        if self.pricing.rates is not None:
            return answer.cost(self.pricing.rates)
        # aliases move, so the id that answered comes first; some hosts report one that is not in any list
        return list_price(answer.usage, provider=answer.provider, models=[answer.model, self.endpoint.model])

    @property
    def list_prices_wanted(self) -> bool:
        """Whether ``cost`` is a question for the provider's list prices, which have to be loaded once."""
        answer = self.chat_response
        return self.pricing.rates is None and listable(answer.usage, answer.provider)

    def charge(self) -> Decimal | None:
        """What your own customer pays for it: the cost with the endpoint's mark-up, or by its price list.

        Returns:
            None where the cost is not known, or the provider did not tell what was spent.

        Raises:
            ConfigurationError: As for ``cost``; a price list needs no list prices.
        """
        by_list = self.pricing.price_list is not None
        return self.pricing.charge(self.chat_response.usage, None if by_list else self.cost())
