"""The settings of one call. A setting that the target does not accept becomes a warning on the response."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, JsonValue, PlainSerializer

from dhenara_async.frozen import FrozenModel
from dhenara_async.hosts.headers import OPENED, SEALED
from dhenara_async.tools.declarations import HostedTool, JsonSchema, Tool, ToolChoice, Tools
from dhenara_async.tools.mcp.server import McpServer
from dhenara_async.tools.schemas import model_schema


def _as_schema(wanted: type[BaseModel] | JsonSchema) -> JsonSchema:
    """Return the JSON schema of a pydantic class, because JSON cannot hold the class."""
    return wanted if isinstance(wanted, dict) else model_schema(wanted)


ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


_MIB = 1024 * 1024


class Bounds(FrozenModel):
    """Size limits of one call. Exceeding one raises ``BoundsError``, which names the setting; it is not retried.

    Attributes:
        max_answer_bytes: Bytes of one answer's body, decompressed, all its events together. A single event, or a body
            that is not streamed, may have half of that.
        max_parts: Parts of one answer, citations included.
        max_header_bytes: Bytes of an answer's header block.
        max_download_bytes_total: Bytes of all files downloaded for one call (``FetchPolicy.max_bytes`` limits each
            file).
        max_downloads: Number of files downloaded for one call.
    """

    max_answer_bytes: int = Field(default=128 * _MIB, gt=0)
    max_parts: int = Field(default=10_000, gt=0)
    max_header_bytes: int = Field(default=64 * 1024, gt=0)
    max_download_bytes_total: int = Field(default=64 * _MIB, gt=0)
    max_downloads: int = Field(default=32, gt=0)


class Timeouts(FrozenModel):
    """Time limits in seconds; None = no limit. Each raises ``DeadlineError``, which names the limit.

    Attributes:
        connect: Opening a connection, DNS and TLS included.
        first_byte: From the connection to the response head. A plain call of a reasoning model can take minutes.
        first_content: From the start of the call to the first event with content. Pings do not count.
        between_bytes: Longest pause between two received chunks.
        between_content: Longest pause between two events with content. Pings do not count.
        total: The whole call, retries and waiting times included. Off by default: a long answer is not a fault.
    """

    connect: float | None = Field(default=10.0, gt=0)
    first_byte: float | None = Field(default=600.0, gt=0)
    first_content: float | None = Field(default=None, gt=0)
    between_bytes: float | None = Field(default=600.0, gt=0)
    between_content: float | None = Field(default=None, gt=0)
    total: float | None = Field(default=None, gt=0)


class RetryPolicy(FrozenModel):
    """When a failed call is retried: only before any part of its answer has reached the caller.

    Attributes:
        attempts: Maximum number of requests per call, the first included.
        first_delay: Backoff in seconds before the first retry; it doubles with each further one. The actual wait is a
            random part of it (full jitter), so that clients that failed together do not retry together.
        longest_delay: Maximum backoff in seconds.
        longest_wait: Maximum seconds that a provider may ask for (``retry-after``); if it asks for more, the error is
            raised at once.
    """

    attempts: int = Field(default=3, ge=1)
    first_delay: float = Field(default=0.5, ge=0)
    longest_delay: float = Field(default=8.0, ge=0)
    longest_wait: float = Field(default=60.0, ge=0)


def _as_limits(value: object) -> object:
    """Convert a number of seconds to the limit of the whole call."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"total": value}
    return value


def _as_stops(value: object) -> object:
    """Convert one stop sequence to a sequence of them."""
    return (value,) if isinstance(value, str) else value


def _as_policy(value: object) -> object:
    """Convert a number of retries to a policy."""
    if isinstance(value, int) and not isinstance(value, bool):
        return RetryPolicy(attempts=value + 1)
    return value


class PromptCache(FrozenModel):
    """How the provider caches the beginning of the prompt, which makes later calls with the same beginning cheaper.

    Attributes:
        ttl: Lifetime of the cache, for providers that offer a choice; None = the provider's default.
        key: Calls with the same key share a cache, at providers that route by such a key.
    """

    ttl: Literal["5m", "1h"] | None = None
    key: str | None = None


class FetchPolicy(FrozenModel):
    """Rules for downloading files here, for a target that cannot fetch a file's URL itself or must not receive it.

    A URL can come from an untrusted user, and this process can reach hosts that the user cannot. By default only public
    hosts are contacted, only over ``https``, and the connection goes to the checked address. Link-local addresses (a
    cloud's metadata service), multicast and reserved addresses are always refused.

    Attributes:
        allow_http: Whether to download over ``http`` too.
        allow_private: Whether to download from this machine and from private networks too.
        max_bytes: Maximum bytes per file.
        seconds: Maximum seconds per file, DNS lookup included.
        redirects: Maximum redirects per file; never to another scheme, nor from public to private hosts or back.
    """

    allow_http: bool = False
    allow_private: bool = False
    max_bytes: int = Field(default=20_000_000, gt=0)
    seconds: float = Field(default=30.0, gt=0)
    redirects: int = Field(default=5, ge=0)


if TYPE_CHECKING:  # callers may pass a number; pydantic converts it

    class Retries:
        """The type of ``retries``: set to a policy or a number, read as a policy."""

        def __get__(self, instance: object, owner: type[object]) -> RetryPolicy: ...
        def __set__(self, instance: object, value: RetryPolicy | int) -> None: ...

    class TimeLimits:
        """The type of ``timeouts``: set to limits or a number of seconds, read as limits."""

        def __get__(self, instance: object, owner: type[object]) -> Timeouts: ...
        def __set__(self, instance: object, value: Timeouts | float) -> None: ...

else:
    TimeLimits = Annotated[Timeouts, BeforeValidator(_as_limits)]
    Retries = Annotated[RetryPolicy, BeforeValidator(_as_policy)]


_NAMED_ONLY = frozenset({"extra_headers", "extra_body", "metadata", "structured_output", "tools"})


def _schema_name(wanted: type[BaseModel] | JsonSchema) -> str:
    title = wanted.get("title") if isinstance(wanted, dict) else getattr(wanted, "__name__", None)
    return title if isinstance(title, str) else "schema"


class AIModelCallConfig(FrozenModel):
    """The settings of a call; None = the provider's default.

    Attributes:
        max_output_tokens: Maximum tokens of the answer, reasoning included.
        temperature: Sampling temperature, clamped to the target's range.
        top_p: Nucleus sampling.
        top_k: Sample from the k likeliest tokens only.
        stop: Stop sequences: texts that end the answer, or one such text.
        seed: Seed for repeatable sampling, at providers that support it.
        reasoning: Whether the model reasons before it answers.
        reasoning_effort: How much it reasons; mapped to the nearest level of the model.
        max_reasoning_tokens: Maximum reasoning tokens, for models with such a budget.
        reasoning_summary: How much of the reasoning is returned; ``none`` = nothing.
        tools: Functions, pydantic models, ``Tool``s, ``HostedTool``s and ``McpServer``s that the model may call.
        tool_choice: Whether the model must call one: ``auto``, ``required``, ``none``, or a ``NamedTool``.
        parallel_tool_calls: Whether one answer may contain several tool calls.
        structured_output: A pydantic model class or a JSON schema that the answer must follow.
        structured_retries: Maximum number of answers that do not fit ``structured_output`` and are asked again, with
            the words of the validator.
        prompt_cache: Cache the beginning of the prompt at the provider; True = with its defaults.
        n: Number of answers.
        top_logprobs: Return the log probability of each token, with this many alternatives (0 = no alternatives).
        metadata: Labels that the provider stores with the call.
        user_id: An opaque id of your end user, for the provider's abuse monitoring.
        service_tier: The provider's name of a speed and price class.
        streaming: Whether ``generate`` streams on the wire and folds the events; ``stream`` always streams.
        timeouts: Time limits; a number = the seconds that the whole call may take.
        retries: When a failed call is retried; a number = maximum retries, 0 = never.
        fetch: Rules for downloading files, for a target that cannot fetch a file's URL itself.
        bounds: Size limits on the answer and on downloads.
        extra_body: Merged into the request body last, for provider options without a setting here.
        extra_headers: Added to the request's headers last; credentials among them replace the account's own. Secret in
            dumps, masked in JSON.
        test_mode: Answer without network and without a key.
    """

    max_output_tokens: int | None = Field(default=None, gt=0)
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, gt=0)
    stop: Annotated[Sequence[str], BeforeValidator(_as_stops), AfterValidator(tuple)] = ()
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
    structured_retries: int = Field(default=0, ge=0)
    prompt_cache: PromptCache | bool | None = None
    n: int | None = Field(default=None, gt=0)
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    metadata: Mapping[str, str] = Field(default_factory=dict)
    user_id: str | None = None
    service_tier: str | None = None
    streaming: bool = False
    timeouts: TimeLimits = cast("TimeLimits", Timeouts())
    retries: Retries = cast("Retries", RetryPolicy())
    fetch: FetchPolicy = Field(default_factory=FetchPolicy)
    bounds: Bounds = Field(default_factory=Bounds)
    extra_body: Mapping[str, JsonValue] = Field(default_factory=dict, repr=False)
    extra_headers: Annotated[Mapping[str, str], OPENED, SEALED] = Field(default_factory=dict, repr=False)
    test_mode: bool = False

    def knobs(self) -> dict[str, JsonValue]:
        """Return the settings that differ from their defaults as JSON, without secrets, for records of a call.

        Tools and a structured output are given by their names. Of ``extra_headers``, ``extra_body`` and ``metadata``
        only the names are given, and ``user_id`` is left out.
        """
        knobs = self.model_dump(mode="json", exclude_defaults=True, exclude={*_NAMED_ONLY, "user_id"})
        for name in _NAMED_ONLY & self.model_fields_set:
            if name == "tools":
                names = [tool.type if isinstance(tool, HostedTool) else tool.name for tool in self.tools]
            elif name == "structured_output":
                names = None if self.structured_output is None else _schema_name(self.structured_output)
            else:
                names = sorted(cast("Mapping[str, object]", getattr(self, name)))
            if names:
                knobs[name] = names
        return {name: knobs[name] for name in type(self).model_fields if name in knobs}

    @property
    def declared_tools(self) -> tuple[Tool | HostedTool, ...]:
        """The tools without servers: those that a request can declare as they are."""
        return tuple(tool for tool in self.tools if not isinstance(tool, McpServer))
