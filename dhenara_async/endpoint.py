"""The target of a call: a model, and the account (host and key) that serves it.

Plain validated values: they open no connection and read no environment variable. Addresses live in ``hosts``, wire
formats in ``drivers``.
"""

from collections.abc import Callable, Iterable
from datetime import date
from enum import StrEnum
from hashlib import blake2b
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Literal, cast
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, SecretStr, field_serializer

from dhenara_async.frozen import FrozenModel, Memo
from dhenara_async.hosts.headers import OPENED, SEALED
from dhenara_async.usage.prices import Pricing

MASK = "**********"
"""The placeholder for a secret in a dump, as pydantic writes it."""

_FINGERPRINT_KEY = b"dhenara_async account"


class AIModelAPIProviderEnum(StrEnum):
    """The built-in providers. Values are stored with every answer, so they never change.

    A host added by ``register_host`` is named by its registered name, a plain text.
    """

    OPEN_AI = "openai"
    ANTHROPIC = "anthropic"
    GOOGLE_AI = "google_ai"
    DEEPSEEK = "deepseek"
    GROQ = "groq"
    MISTRAL = "mistral"
    XAI = "xai"
    OPENROUTER = "openrouter"
    TOGETHER = "together"
    FIREWORKS = "fireworks"
    CEREBRAS = "cerebras"
    OLLAMA = "ollama"
    VLLM = "vllm"
    LM_STUDIO = "lm_studio"
    LLAMA_CPP = "llama_cpp"
    OPENAI_COMPATIBLE = "openai_compatible"


class Dialect(StrEnum):
    """The built-in wire formats. Values are stored with every answer, so they never change.

    A dialect added by ``register_driver`` is named by its registered name, a plain text.
    """

    OPENAI_RESPONSES = "openai_responses"
    OPENAI_CHAT = "openai_chat"
    ANTHROPIC_MESSAGES = "anthropic_messages"
    GEMINI = "gemini"


_Name = Annotated[str, Field(min_length=1)]
# Enum members are tried before plain text, so that a member is a member again after a round trip through JSON.
_ProviderName = Annotated[AIModelAPIProviderEnum | _Name, Field(union_mode="left_to_right")]
_DialectName = Annotated[Dialect | _Name, Field(union_mode="left_to_right")]


class Capabilities(FrozenModel):
    """The features of a model that decide how a call is encoded.

    The defaults describe the newest generation of an unknown family.

    Attributes:
        sampling: Whether the model accepts non-default ``temperature``, ``top_p`` and ``top_k`` in a call that leaves
            ``reasoning`` unset.
        quiet_sampling: Whether it accepts them only with reasoning turned off; see ``samples``.
        stop: Whether it accepts stop sequences.
        seed: Whether it accepts a seed.
        developer_role: Whether leading instructions need the role ``developer`` instead of ``system`` (Chat
            Completions).
        prefill: Whether it continues a final assistant message.
        reasoning: How reasoning is requested: an ``effort`` word, a token ``budget``, a ``level`` word (Gemini 3+),
            ``adaptive`` with an effort word (Claude 4.6+), or not at all (``none``).
        efforts: The accepted effort or level words, lowest first; empty if there are none. Contains ``none`` if that
            word turns reasoning off.
        reasoning_budget: Whether it accepts a token budget, even if ``reasoning`` is not ``budget``.
        reasoning_off: Whether reasoning can be turned off, or nearly off (Gemini 3's ``minimal``).
        forced_tools: Whether a tool call can be forced in a call that leaves ``reasoning`` unset.
        quiet_forcing: Whether a tool call can be forced only with reasoning turned off; see ``forces``.
        structured_output: Whether it enforces a JSON schema natively.
        prefix_bound: Whether it rejects earlier reasoning after the prefix (instructions, tools, messages) of that
            reasoning has changed.
    """

    sampling: bool = True
    quiet_sampling: bool = False
    stop: bool = True
    seed: bool = True
    developer_role: bool = False
    prefill: bool = True
    reasoning: Literal["none", "effort", "budget", "level", "adaptive"] = "effort"
    efforts: tuple[str, ...] = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
    reasoning_budget: bool = False
    reasoning_off: bool = True
    forced_tools: bool = True
    quiet_forcing: bool = False
    structured_output: bool = True
    prefix_bound: bool = False

    def samples(self, reasoning: bool | None) -> bool:
        """Whether sampling settings are accepted with ``reasoning`` on (True), off (False) or unset (None)."""
        return _accepted(self.sampling, self.quiet_sampling, reasoning)

    def forces(self, reasoning: bool | None) -> bool:
        """Whether a tool call can be forced with ``reasoning`` on (True), off (False) or unset (None)."""
        return _accepted(self.forced_tools, self.quiet_forcing, reasoning)


def _accepted(when_unset: bool, only_without_reasoning: bool, reasoning: bool | None) -> bool:
    if only_without_reasoning and reasoning is not None:
        return not reasoning
    return when_unset


class AIModel(FrozenModel):
    """A foundation model.

    Attributes:
        model_name: The id sent to the host.
        provider: The model's maker, by any provider name; None if unknown or irrelevant.
        display_name: A name for people; None = ``model_name``.
        context_window: Maximum tokens of prompt and answer together; None if unknown.
        max_output_tokens: Maximum tokens of one answer; None if unknown.
        capabilities: The features that decide the encoding; None = derived from the id (see ``models.families``).
        retired_on: The day on which the maker stops or stopped serving it; None if unknown.
        replacement: The id of the successor that the maker recommends; None if unknown.
    """

    model_name: str = Field(min_length=1)
    provider: _ProviderName | None = None
    display_name: str | None = None
    context_window: int | None = Field(default=None, gt=0)
    max_output_tokens: int | None = Field(default=None, gt=0)
    capabilities: Capabilities | None = None
    retired_on: date | None = None
    replacement: str | None = None


class _Builder:
    """Whether a value was built by code (a call of its class) or read from data. Ignored by comparisons."""

    __slots__ = ("is_code",)

    def __init__(self, is_code: bool) -> None:
        self.is_code = is_code

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Builder)

    def __hash__(self) -> int:
        return hash(_Builder)


class AIModelAPI(FrozenModel):
    """An account at a host.

    Code that calls this class with a ``base_url`` and no key sends the environment's key to that address, so the code
    is trusted to choose the address. An account read from data (``model_validate``, ``model_validate_json``, also
    nested in another value) is refused at its first call instead: otherwise the author of the data could have the key
    sent anywhere.

    Dumps contain ``SecretStr`` objects for the key and the headers; JSON contains a mask, which no call accepts.

    Attributes:
        provider: The host; decides address, authentication and the default dialect. An enum member, or the name of a
            registered host; an unregistered name is refused at the first call.
        api_key: The key; None = read from the provider's usual environment variable at each call, whatever the
            ``base_url``.
        base_url: The base URL as the vendor's own SDK defines it (OpenAI: ends in ``/v1``; Anthropic, Gemini: the host
            root); None = the vendor's usual environment variable, then the real host. A user and password in it are
            sent as Basic authentication.
        dialect: The wire format, an enum member or a registered name; None = the provider's default.
        headers: Extra headers for every request to this host; credentials among them are part of the account.
    """

    provider: _ProviderName
    api_key: SecretStr | None = None
    base_url: str | None = None
    dialect: _DialectName | None = None
    headers: Annotated[dict[str, str], OPENED, SEALED] = Field(default_factory=dict, repr=False)
    _builder: _Builder = PrivateAttr(default=_Builder(is_code=False))

    if TYPE_CHECKING:  # callers pass the key as a plain text; pydantic converts it to SecretStr

        def __init__(
            self,
            *,
            provider: AIModelAPIProviderEnum | str,
            api_key: SecretStr | str | None = None,
            base_url: str | None = None,
            dialect: Dialect | str | None = None,
            headers: dict[str, str] = ...,
        ) -> None: ...

    else:

        def __init__(self, **given: object) -> None:
            super().__init__(**given)
            self._builder = _BY_CODE

        # without this, pydantic also calls __init__ for data, which would then count as built by code
        __init__.__pydantic_base_init__ = True

    @property
    def from_data(self) -> bool:
        """Whether this account was read from data rather than built by code."""
        return not self._builder.is_code

    def __repr_args__(self) -> Iterable[tuple[str | None, object]]:
        for name, value in super().__repr_args__():
            yield name, without_password(value) if name == "base_url" and isinstance(value, str) else value

    @field_serializer("base_url", when_used="json-unless-none")
    def _masked(self, base_url: str) -> str:
        return without_password(base_url)


class AIModelEndpoint(FrozenModel):
    """A model at an account: the target of a call.

    Attributes:
        api: The account.
        ai_model: The model.
        pricing: How the cost of a call is computed; the default uses the provider's list prices.
    """

    api: AIModelAPI
    ai_model: AIModel
    pricing: Pricing = Field(default_factory=Pricing)
    _rules: Memo[object] = PrivateAttr(default=Memo())  # the cached rules of this endpoint's driver

    @staticmethod
    def of(name: str) -> "AIModelEndpoint":
        """Return the endpoint with a short name, such as ``anthropic:claude-sonnet-5-5``.

        A name is accepted wherever an endpoint is; this method is for an endpoint to keep. No key is read here: each
        call reads it from the provider's usual environment variable.

        Args:
            name: A provider's name, a colon (or a slash) and any model id. A model id that tells its maker
                (``claude-…``, ``gpt-…``, ``gemini-…``) needs no provider.

        Raises:
            ConfigurationError: There is no model in the name, or its provider is unknown or missing.
        """
        # by name, because the names of models stand above the values that they name
        named = import_module("dhenara_async.hosts.names").endpoint_named
        return cast("Callable[[str], AIModelEndpoint]", named)(name)


_BY_CODE = _Builder(is_code=True)


def without_password(url: str) -> str:
    """Return ``url`` with its password (or its user, if there is no password) masked.

    In a text that is not a URL, everything before the last ``@`` is masked.
    """
    try:
        parts = urlsplit(url)
        whole = bool(parts.netloc) and (parts.port is None or parts.port >= 0)  # reading the port is what checks it
    except ValueError:
        whole, parts = False, None
    userinfo, at, _ = (parts.netloc if whole and parts is not None else url).rpartition("@")
    if not at:
        return url
    user, colon, _ = userinfo.partition(":")
    shown = f"{user}:{MASK}@" if whole and colon else f"{MASK}@"
    return url.replace(f"{userinfo}@", shown, 1)


def fingerprint(key: str) -> str:
    """Return a stable id for the account behind ``key``: 16 hex digits that do not reveal the key."""
    return blake2b(key.encode(), key=_FINGERPRINT_KEY, digest_size=8).hexdigest()
