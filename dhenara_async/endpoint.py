"""Where a call goes: a model at a host, with the key that opens it.

Plain validated values; they open nothing and read no environment. Addresses live in ``hosts``, wire names in
``drivers``.
"""

from collections.abc import Iterable
from datetime import date
from enum import StrEnum
from hashlib import blake2b
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, SecretStr, field_serializer

from dhenara_async.frozen import FrozenModel
from dhenara_async.hosts.headers import OPENED, SEALED
from dhenara_async.usage.prices import Pricing

MASK = "**********"
"""Stands in a dump for a secret, as pydantic writes it."""

_FINGERPRINT_KEY = b"dhenara_async account"


class AIModelAPIProviderEnum(StrEnum):
    """Who is called. Values are stored with every answer, so they never change.

    A host from outside this library is called by the plain name that it was registered under (``register_host``).
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
    """Which wire language a host speaks. Values are stored with every answer.

    A dialect from outside this library goes by the plain name that it was registered under (``register_driver``).
    """

    OPENAI_RESPONSES = "openai_responses"
    OPENAI_CHAT = "openai_chat"
    ANTHROPIC_MESSAGES = "anthropic_messages"
    GEMINI = "gemini"


_Name = Annotated[str, Field(min_length=1)]
# A member is found from its text before the text is taken for a name from outside, so both are equal after JSON.
_ProviderName = Annotated[AIModelAPIProviderEnum | _Name, Field(union_mode="left_to_right")]
_DialectName = Annotated[Dialect | _Name, Field(union_mode="left_to_right")]


class Capabilities(FrozenModel):
    """What an encoder must know about a model; the defaults describe the newest generation of an unknown family.

    Attributes:
        sampling: Takes ``temperature``, ``top_p`` and ``top_k`` other than the default where nothing is said of
            reasoning.
        quiet_sampling: Takes them only while it does not reason; see ``samples``.
        stop: Takes stop sequences.
        seed: Takes a seed.
        developer_role: Wants leading instructions as ``developer`` rather than ``system`` (Chat Completions).
        prefill: May be handed a final assistant message to continue.
        reasoning: How thinking is asked for: by ``effort`` word, by token ``budget``, by ``level`` word (Gemini 3+),
            ``adaptive`` with an effort word (Claude 4.6+), or not at all (``none``).
        efforts: The effort or level words it knows, least first; empty where there are none. ``none`` is among them
            where it is the word that turns thinking off.
        reasoning_budget: Takes a token budget, also where ``reasoning`` names another way.
        reasoning_off: Whether thinking can be turned off, or as good as off (Gemini 3's ``minimal``).
        forced_tools: Whether a tool call can be demanded where nothing is said of reasoning.
        quiet_forcing: It can be demanded only while it does not reason; see ``forces``.
        structured_output: Whether it holds its answer to a JSON schema natively.
        prefix_bound: Its earlier thinking is refused behind any other prefix (instructions, tools, messages) than it
            was made under.
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
        """Whether sampling knobs are taken in a call that asks for reasoning (True), forbids it, or says nothing."""
        return _taken(self.sampling, self.quiet_sampling, reasoning)

    def forces(self, reasoning: bool | None) -> bool:
        """Whether a tool call can be demanded in a call that asks for reasoning (True), forbids it, or says nothing."""
        return _taken(self.forced_tools, self.quiet_forcing, reasoning)


def _taken(unasked: bool, only_quiet: bool, reasoning: bool | None) -> bool:
    if only_quiet and reasoning is not None:
        return not reasoning
    return unasked


class AIModel(FrozenModel):
    """A foundation model, by the id its host knows it under.

    Attributes:
        model_name: The id that goes on the wire.
        provider: Its maker, by any name that a host may have; None if unknown or of no matter.
        display_name: For people; falls back to ``model_name`` where None.
        context_window: Tokens of prompt and answer together; None = not known.
        max_output_tokens: The most one answer can have; None = not known.
        capabilities: What the encoder must know; None = told from the id (see ``models.families``).
        retired_on: The day its maker stops or stopped serving it; None = no such day is known.
        replacement: The id its maker points to instead.
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
    """Who built a value: code, by calling its class, or data. Equal to any other: it is no part of the value."""

    __slots__ = ("is_code",)

    def __init__(self, is_code: bool) -> None:
        self.is_code = is_code

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Builder)

    def __hash__(self) -> int:
        return hash(_Builder)


class AIModelAPI(FrozenModel):
    """An account at a host.

    A program that calls this class with a ``base_url`` and no key sends the key of the environment to that address: it
    vouches for the address. An account that comes from data (``model_validate``, ``model_validate_json``, or inside
    another value that does) is refused at the first call instead, because whoever wrote the data would choose who gets
    the key.

    Dumps hold secrets in place of the key and the headers, and JSON holds a mask that no call accepts.

    Attributes:
        provider: Whose host it is: decides address, authentication and the default dialect. A member, or the name of
            a registered host; a name that nobody registered is refused when a call is made.
        api_key: The key; None = read from the provider's usual environment variable when a call is made, whatever the
            ``base_url``.
        base_url: What the vendor's own SDK means by it (OpenAI: ends in ``/v1``; Anthropic, Gemini: the host root);
            None = the vendor's usual environment variable, then the real host. A user and password in it are sent as
            Basic authentication.
        dialect: The wire language, a member or the name of a registered one, likewise; None = the provider's default.
        headers: Extra headers for every request to this host; those that hold credentials are part of the account.
    """

    provider: _ProviderName
    api_key: SecretStr | None = None
    base_url: str | None = None
    dialect: _DialectName | None = None
    headers: Annotated[dict[str, str], OPENED, SEALED] = Field(default_factory=dict, repr=False)
    _builder: _Builder = PrivateAttr(default=_Builder(is_code=False))

    if TYPE_CHECKING:  # people write the key as a text; pydantic makes of it what the attribute says

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

        # pydantic would otherwise build from data by calling the class too, as if code had
        __init__.__pydantic_base_init__ = True

    @property
    def from_data(self) -> bool:
        """Whether this was read from data rather than built by code."""
        return not self._builder.is_code

    def __repr_args__(self) -> Iterable[tuple[str | None, object]]:
        for name, value in super().__repr_args__():
            yield name, without_password(value) if name == "base_url" and isinstance(value, str) else value

    @field_serializer("base_url", when_used="json-unless-none")
    def _masked(self, base_url: str) -> str:
        return without_password(base_url)


class AIModelEndpoint(FrozenModel):
    """A model at an account: what anything that makes a call takes.

    Attributes:
        api: The account.
        ai_model: The model.
        pricing: How its calls are counted in money, where that is not simply by the provider's list prices.
    """

    api: AIModelAPI
    ai_model: AIModel
    pricing: Pricing = Field(default_factory=Pricing)


_BY_CODE = _Builder(is_code=True)


def without_password(url: str) -> str:
    """``url`` with a mask in place of its password or lone user; in what is no URL, of all that stands before ``@``."""
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
    """A stable name for the account behind ``key`` that tells nothing of the key itself (16 hex digits)."""
    return blake2b(key.encode(), key=_FINGERPRINT_KEY, digest_size=8).hexdigest()
