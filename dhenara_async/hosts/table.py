"""The table of providers: one row for each, with its address, authentication, dialect, framing and quirks.

To add a compatible host to the library, add a row here. A program registers a row instead (``register_host``). Base
URLs are those of the vendors' own SDKs.

Sources: the vendors' SDKs and API references (read 2026-11-22)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dhenara_async.drivers.openai_chat.quirks import OPENAI, Quirks
from dhenara_async.endpoint import AIModelAPIProviderEnum, Dialect
from dhenara_async.framing import Framing
from dhenara_async.framing.sse import SSE
from dhenara_async.frozen import ShortRepr
from dhenara_async.hosts.auth import Auth, Credentials
from dhenara_async.messages.messages import FilePart


@dataclass(frozen=True, slots=True, repr=False)
class Host(ShortRepr):
    """One provider: its address, authentication, dialect and framing.

    Attributes:
        base_url: The provider's own address; None = the caller has to pass one.
        dialect: The default dialect: a member, or the name of a registered dialect.
        key_variables: Environment variables that hold the key; the first that is set wins.
        base_url_variables: Environment variables that replace the base URL, likewise.
        key_header: The header that carries the key.
        key_prefix: The text before the key in that header.
        key_required: Whether a call without a key is refused.
        quirks: How its Chat Completions differ.
        fetches: Whether the host fetches a file's URL itself; all other files are downloaded and sent inline. None =
            the rule of its dialect; a dialect from outside this library has no rule, so all files are downloaded.
        auth: Builds the authentication of one endpoint, for hosts that want a signature or a refreshed token; None =
            the key in ``key_header``. Where it finds credentials of its own, set ``key_required=False``.
        framing: How a streamed body is cut into messages.
    """

    base_url: str | None
    dialect: Dialect | str = Dialect.OPENAI_CHAT
    key_variables: tuple[str, ...] = ()
    base_url_variables: tuple[str, ...] = ()
    key_header: str = "authorization"
    key_prefix: str = "Bearer "
    key_required: bool = True
    quirks: Quirks = field(default_factory=Quirks)
    fetches: Callable[[FilePart], bool] | None = None
    auth: Callable[[Credentials], Auth] | None = None
    framing: Framing = SSE


_Provider = AIModelAPIProviderEnum
_UNLABELLED = frozenset({"metadata", "service_tier", "prompt_cache_key"})  # request labels that only few hosts accept

HOSTS: Mapping[str, Host] = {
    _Provider.OPEN_AI: Host(
        "https://api.openai.com/v1",
        Dialect.OPENAI_RESPONSES,
        ("OPENAI_API_KEY",),
        ("OPENAI_BASE_URL",),
        quirks=OPENAI,
    ),
    _Provider.ANTHROPIC: Host(
        "https://api.anthropic.com",
        Dialect.ANTHROPIC_MESSAGES,
        ("ANTHROPIC_API_KEY",),
        ("ANTHROPIC_BASE_URL",),
        key_header="x-api-key",
        key_prefix="",
    ),
    _Provider.GOOGLE_AI: Host(
        "https://generativelanguage.googleapis.com",
        Dialect.GEMINI,
        ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
        ("GOOGLE_GEMINI_BASE_URL",),
        key_header="x-goog-api-key",
        key_prefix="",
    ),
    _Provider.DEEPSEEK: Host(
        "https://api.deepseek.com",
        key_variables=("DEEPSEEK_API_KEY",),
        quirks=Quirks(
            lacks=_UNLABELLED | {"n", "seed", "user", "parallel_tool_calls"},
            listed_texts=False,
            thinking="effort and thinking",
            efforts=("low", "high", "max"),
            reasoning_back="reasoning_content",
            reasoning_always=True,
            strict_tools=False,
            schemas=None,
        ),
    ),
    _Provider.GROQ: Host(
        "https://api.groq.com/openai/v1",
        key_variables=("GROQ_API_KEY",),
        quirks=Quirks(
            max_tokens_field="max_completion_tokens",
            lacks={"n", "logprobs", "metadata", "prompt_cache_key"},
            system_anywhere=True,
            efforts_of=(("qwen/qwen3-", ("none",)),),
            reasoning_format=True,
            reasoning_back="reasoning",
        ),
    ),
    _Provider.MISTRAL: Host(
        "https://api.mistral.ai/v1",
        key_variables=("MISTRAL_API_KEY",),
        quirks=Quirks(
            seed_field="random_seed",
            lacks={"user"},
            top_k=True,
            stream_options=False,
            system_anywhere=True,
            prefix=True,
            bridge="OK",
            call_ids="nine",
            required_word="any",
            efforts=("none", "high"),
            reasoning_back="thinking_chunk",
            documents="document_url",
            audio="text",
        ),
    ),
    _Provider.XAI: Host(
        "https://api.x.ai/v1",
        key_variables=("XAI_API_KEY",),
        quirks=Quirks(max_tokens_field="max_completion_tokens", lacks=_UNLABELLED, reasoning_apart=True),
    ),
    _Provider.OPENROUTER: Host(
        "https://openrouter.ai/api/v1",
        key_variables=("OPENROUTER_API_KEY",),
        quirks=Quirks(
            lacks={"n"},
            top_k=True,
            thinking="object",
            thinking_budget=True,
            reasoning_back="reasoning_details",
            require_parameters=True,
            documents="file or url",
            audio="object",
            web_search="plugin",
        ),
    ),
    _Provider.TOGETHER: Host(
        "https://api.together.ai/v1",
        key_variables=("TOGETHER_API_KEY",),
        quirks=Quirks(
            lacks=_UNLABELLED | {"user", "parallel_tool_calls"},
            top_k=True,
            stream_options=False,
            counted_logprobs=True,
            thinking="effort and flag",
            efforts=("low", "medium", "high"),
            schemas="host",
            video=True,
        ),
    ),
    _Provider.FIREWORKS: Host(
        "https://api.fireworks.ai/inference/v1",
        key_variables=("FIREWORKS_API_KEY",),
        quirks=Quirks(
            lacks={"metadata", "prompt_cache_key"},
            top_k=True,
            thinking="effort and thinking",
            thinking_budget=True,
            efforts=("low", "medium", "high"),
            reasoning_back="reasoning_content",
            schemas="host",
        ),
    ),
    _Provider.CEREBRAS: Host(
        "https://api.cerebras.ai/v1",
        key_variables=("CEREBRAS_API_KEY",),
        quirks=Quirks(
            max_tokens_field="max_completion_tokens",
            lacks={"n", "metadata", "include_reasoning"},
            efforts=("none", "low", "medium", "high"),
            reasoning_format=True,
            reasoning_back="reasoning",
            schemas="host",
        ),
    ),
    _Provider.OLLAMA: Host(
        "http://localhost:11434/v1",
        key_variables=("OLLAMA_API_KEY",),
        key_required=False,
        quirks=Quirks(
            lacks=_UNLABELLED | {"n", "user", "parallel_tool_calls"},
            listed_texts=False,
            silence="",
            tool_choice=False,
            strict_tools=False,
            efforts=("none", "low", "medium", "high"),
            schemas="host",
            image_urls=False,
        ),
    ),
    _Provider.VLLM: Host(
        "http://localhost:8000/v1",
        key_variables=("VLLM_API_KEY",),
        key_required=False,
        quirks=Quirks(
            lacks=_UNLABELLED,
            top_k=True,
            alternates=True,
            listed_texts=False,
            silence="",
            schemas="host",
            audio="object",
        ),
    ),
    _Provider.LM_STUDIO: Host(
        "http://localhost:1234/v1",
        key_required=False,
        quirks=Quirks(
            lacks=_UNLABELLED | {"n", "user", "logprobs", "parallel_tool_calls"},
            top_k=True,
            alternates=True,
            listed_texts=False,
            silence="",
            schemas="host",
            image_urls=False,
            inline_thinking=True,
        ),
    ),
    _Provider.LLAMA_CPP: Host(
        "http://localhost:8080/v1",
        key_variables=("LLAMA_API_KEY",),
        key_required=False,
        quirks=Quirks(
            lacks=_UNLABELLED | {"user"},
            top_k=True,
            alternates=True,
            listed_texts=False,
            silence="",
            schemas="host",
            image_urls=False,
        ),
    ),
    _Provider.OPENAI_COMPATIBLE: Host(
        None, key_required=False, quirks=Quirks(top_k=True, documents="file", audio="object")
    ),
}
