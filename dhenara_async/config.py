"""The knobs of one call. A knob the target cannot take becomes a warning on the response, never silence."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, JsonValue, PlainSerializer

from dhenara_async.frozen import FrozenModel
from dhenara_async.hosts.headers import OPENED, SEALED
from dhenara_async.tools.declarations import JsonSchema, ToolChoice, Tools
from dhenara_async.tools.schemas import model_schema


def _as_schema(wanted: type[BaseModel] | JsonSchema) -> JsonSchema:
    """JSON cannot keep a class, but what it asks for."""
    return wanted if isinstance(wanted, dict) else model_schema(wanted)


ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


_MIB = 1024 * 1024


class Bounds(FrozenModel):
    """Size limits of one call. Going past one raises ``BoundsError``, which names the setting; it is not retried.

    Attributes:
        max_answer_bytes: Bytes of one answer's body, after decompression, all its events together. A single event, or
            a plain body, may hold half of them.
        max_parts: Parts of one answer; its citations count too.
        max_header_bytes: Bytes of an answer's header block.
        max_download_bytes_total: Bytes of all files that are downloaded for one call (``FetchPolicy.max_bytes`` limits
            each of them).
        max_downloads: Files that are downloaded for one call.
    """

    max_answer_bytes: int = Field(default=128 * _MIB, gt=0)
    max_parts: int = Field(default=10_000, gt=0)
    max_header_bytes: int = Field(default=64 * 1024, gt=0)
    max_download_bytes_total: int = Field(default=64 * _MIB, gt=0)
    max_downloads: int = Field(default=32, gt=0)


class Timeouts(FrozenModel):
    """Time limits in seconds, each with one owner; None = no limit. Each raises ``DeadlineError``, which names it.

    Attributes:
        connect: Getting a connection, DNS and TLS included.
        first_byte: From there to the head of the answer. A plain call of a reasoning model can take minutes to that.
        first_content: From the call's beginning to the first event that says something. Pings do not count.
        between_bytes: Silence of the host while the answer comes.
        between_content: The same without pings: how long a host may be alive and say nothing.
        total: The whole call, further tries and the waits between them included. Off by default: a long answer is not
            a fault.
    """

    connect: float | None = Field(default=10.0, gt=0)
    first_byte: float | None = Field(default=600.0, gt=0)
    first_content: float | None = Field(default=None, gt=0)
    between_bytes: float | None = Field(default=600.0, gt=0)
    between_content: float | None = Field(default=None, gt=0)
    total: float | None = Field(default=None, gt=0)


class RetryPolicy(FrozenModel):
    """When a call that failed is made again: only before anything of its answer has been handed over.

    Attributes:
        attempts: The most requests that a call makes, the first included.
        first_delay: Seconds of backoff before the second; each further one is twice as long. What is waited is a
            random part of that (full jitter), because clients that failed together would come back together.
        longest_delay: Where doubling ends.
        longest_wait: The most seconds that a provider may ask us to wait (``retry-after``); if it asks for more, the
            error is raised at once.
    """

    attempts: int = Field(default=3, ge=1)
    first_delay: float = Field(default=0.5, ge=0)
    longest_delay: float = Field(default=8.0, ge=0)
    longest_wait: float = Field(default=60.0, ge=0)


def _as_policy(value: object) -> object:
    """A number is how often a call is made again."""
    if isinstance(value, int) and not isinstance(value, bool):
        return RetryPolicy(attempts=value + 1)
    return value


class PromptCache(FrozenModel):
    """How the beginning of a prompt is kept at the provider, so that the next call with the same beginning is cheaper.

    Attributes:
        ttl: How long it is kept, where the provider lets one choose; None = as long as it likes.
        key: Calls with the same key share a cache where the provider routes by one.
    """

    ttl: Literal["5m", "1h"] | None = None
    key: str | None = None


class FetchPolicy(FrozenModel):
    """What may be downloaded here, for a target that cannot fetch a file's URL itself, or must not be handed it.

    A URL can come from anybody, and this process can reach what they cannot: so by default only public hosts are asked,
    only by ``https``, and the address that was checked is the one that is connected to. Link-local addresses (a cloud's
    metadata service), multicast and reserved ones are refused whatever is allowed here.

    Attributes:
        allow_http: Download by ``http`` too.
        allow_private: Download from this machine and from private networks too.
        max_bytes: The most a file may have.
        seconds: The most time a file may take, looking its host up included.
        redirects: How often a host may point elsewhere; never to another scheme, nor from public hosts to private ones
            or back.
    """

    allow_http: bool = False
    allow_private: bool = False
    max_bytes: int = Field(default=20_000_000, gt=0)
    seconds: float = Field(default=30.0, gt=0)
    redirects: int = Field(default=5, ge=0)


if TYPE_CHECKING:  # people write a number; pydantic makes a policy of it

    class Retries:
        """What ``retries`` takes and gives."""

        def __get__(self, instance: object, owner: type[object]) -> RetryPolicy: ...
        def __set__(self, instance: object, value: RetryPolicy | int) -> None: ...

else:
    Retries = Annotated[RetryPolicy, BeforeValidator(_as_policy)]


class AIModelCallConfig(FrozenModel):
    """Every knob of a call; None leaves it to the provider.

    Attributes:
        max_output_tokens: The most tokens of answer, reasoning included.
        temperature: Sampling temperature, clamped to the target's range.
        top_p: Nucleus sampling.
        top_k: Sample from the k likeliest tokens only.
        stop: Texts that end the answer.
        seed: For repeatable sampling where the provider has it.
        reasoning: Whether the model thinks before it answers.
        reasoning_effort: How much; mapped to the nearest the model knows.
        max_reasoning_tokens: The most tokens it may think, for models that count them.
        reasoning_summary: How much of the thinking is shown; ``none`` asks for nothing.
        tools: Functions, pydantic models, ``Tool``s and ``HostedTool``s the model may use.
        tool_choice: Whether it has to: ``auto``, ``required``, ``none`` or one by ``NamedTool``.
        parallel_tool_calls: Whether it may ask for several at once.
        structured_output: A pydantic model class or a JSON schema the answer has to follow.
        prompt_cache: Keep the beginning of the prompt at the provider; True for its defaults.
        n: How many answers to choose from.
        top_logprobs: Tell how likely each token was, with this many alternatives (0 = none).
        metadata: Labels the provider stores with the call.
        user_id: Which of your users asks, as an opaque id, for the provider's abuse monitoring.
        service_tier: The provider's own word for how fast and how dear.
        streaming: Whether ``generate`` streams on the wire and folds; ``stream`` always streams.
        timeouts: Time limits.
        retries: When a call that failed is made again; a number is how often, 0 = never.
        fetch: What may be downloaded for a target that cannot fetch a file's URL itself.
        bounds: Size limits on the answer and on downloads.
        extra_body: Merged over the request body last, for what has no knob here.
        extra_headers: Added to the request's headers last; credentials among them make the call one of another account.
            Secrets in dumps, masked in JSON.
        test_mode: Answer without any network, and without a key.
    """

    max_output_tokens: int | None = Field(default=None, gt=0)
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, gt=0)
    stop: Annotated[Sequence[str], AfterValidator(tuple)] = ()
    seed: int | None = None
    reasoning: bool | None = None
    reasoning_effort: ReasoningEffort | None = None
    max_reasoning_tokens: int | None = Field(default=None, ge=0)
    reasoning_summary: Literal["none", "auto", "concise", "detailed"] | None = None
    tools: Tools = cast("Tools", ())
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    structured_output: Annotated[
        type[BaseModel] | JsonSchema | None, PlainSerializer(_as_schema, when_used="json-unless-none")
    ] = None
    prompt_cache: PromptCache | bool | None = None
    n: int | None = Field(default=None, gt=0)
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    metadata: Mapping[str, str] = Field(default_factory=dict)
    user_id: str | None = None
    service_tier: str | None = None
    streaming: bool = False
    timeouts: Timeouts = Field(default_factory=Timeouts)
    retries: Retries = cast("Retries", RetryPolicy())
    fetch: FetchPolicy = Field(default_factory=FetchPolicy)
    bounds: Bounds = Field(default_factory=Bounds)
    extra_body: Mapping[str, JsonValue] = Field(default_factory=dict, repr=False)
    extra_headers: Annotated[Mapping[str, str], OPENED, SEALED] = Field(default_factory=dict, repr=False)
    test_mode: bool = False
