"""Short names of endpoints: ``anthropic:claude-sonnet-5-5`` is a provider's name, a colon and any model id.

``provider/model`` is the same, and an id that tells its maker (``claude-…``, ``gpt-…``, ``gemini-…``) needs no
provider. The command line and every argument that takes an endpoint read names with this one parser. A name holds no
key: each call reads it from the provider's environment variable.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module

from dhenara_async.endpoint import AIModel, AIModelAPI, AIModelAPIProviderEnum, AIModelEndpoint
from dhenara_async.errors import ConfigurationError, printable

_WORDS = {
    "claude": AIModelAPIProviderEnum.ANTHROPIC,
    "fireworks_ai": AIModelAPIProviderEnum.FIREWORKS,
    "gemini": AIModelAPIProviderEnum.GOOGLE_AI,
    "google": AIModelAPIProviderEnum.GOOGLE_AI,
    "grok": AIModelAPIProviderEnum.XAI,
    "llamacpp": AIModelAPIProviderEnum.LLAMA_CPP,
    "lmstudio": AIModelAPIProviderEnum.LM_STUDIO,
    "mistralai": AIModelAPIProviderEnum.MISTRAL,
    "open_ai": AIModelAPIProviderEnum.OPEN_AI,
    "together_ai": AIModelAPIProviderEnum.TOGETHER,
    "x_ai": AIModelAPIProviderEnum.XAI,
    **{provider.value: provider for provider in AIModelAPIProviderEnum},
}
"""The built-in providers, by every word that names them."""

_MAKERS = (
    (re.compile(r"claude-"), AIModelAPIProviderEnum.ANTHROPIC),
    (re.compile(r"(ft:)?(gpt|chatgpt|o\d)"), AIModelAPIProviderEnum.OPEN_AI),
    (re.compile(r"gemini-"), AIModelAPIProviderEnum.GOOGLE_AI),
)
_MODULES = {
    AIModelAPIProviderEnum.OPEN_AI: "openai",
    AIModelAPIProviderEnum.ANTHROPIC: "anthropic",
    AIModelAPIProviderEnum.GOOGLE_AI: "google",
    AIModelAPIProviderEnum.DEEPSEEK: "deepseek",
    AIModelAPIProviderEnum.GROQ: "groq",
    AIModelAPIProviderEnum.MISTRAL: "mistral",
    AIModelAPIProviderEnum.XAI: "xai",
    AIModelAPIProviderEnum.CEREBRAS: "cerebras",
}
"""The files of ``models`` with the constants of a provider's models."""
_BIG_THREE = ("anthropic", "openai", "google")  # whose models gateways and compatible hosts serve by the same ids

_LONGEST_NAME = 200  # characters
_EXAMPLE = "write provider:model, such as anthropic:claude-sonnet-5-5"
_NO_MODEL = f"{{!r}} names no model; {_EXAMPLE}"
_NAME = re.compile(r"(?P<provider>[^:/]+)(?P<separator>[:/])(?P<model>.*)", re.DOTALL)

REGISTERED_NAMES: set[str] = set()
"""The names of the hosts that the program registered; ``register_host`` adds them."""


@dataclass(frozen=True, slots=True)
class Named:
    """The meaning of a short name.

    Attributes:
        provider: The host: an enum member, or the name of a registered host.
        model: The constant of ``models`` with that id, else a model with nothing but the id.
    """

    provider: AIModelAPIProviderEnum | str
    model: AIModel


def meaning(name: str, *, default: AIModelAPIProviderEnum | None = None) -> Named:
    """Resolve a short name.

    Args:
        name: ``provider:model``, ``provider/model``, or a model whose id tells its maker.
        default: The provider of a model whose id tells none, such as a server's own; there, only a colon separates a
            provider, because ids of open models have slashes. None = such a model is refused.

    Raises:
        ConfigurationError: There is no model in the name, or its provider is unknown or missing.
    """
    text = name.strip()
    if len(text) > _LONGEST_NAME:  # a prompt, perhaps, which an error must not quote
        raise ConfigurationError(f"a text of {len(text)} characters is no name; {_EXAMPLE}")
    found = _NAME.fullmatch(text)
    if found is not None and (default is None or found["separator"] == ":"):
        provider = _provider(found["provider"])
        if provider is not None:
            return Named(provider, _model(found["model"].strip(), provider, name))
    implied = next((maker for pattern, maker in _MAKERS if pattern.match(text)), default)
    if implied is not None:
        return Named(implied, _model(text, implied, name))
    if found is not None:
        word = found["provider"]
        raise ConfigurationError(f"no provider is called {word!r}; write provider:model, {_choices(word)}")
    if not text or _provider(text) is not None:
        raise ConfigurationError(_NO_MODEL.format(name))
    raise ConfigurationError(f"the provider of {text!r} is unknown; write provider:{text}, {_choices(text)}")


@lru_cache(maxsize=256)
def endpoint_named(name: str) -> AIModelEndpoint:
    """Return the endpoint with a short name; equal names give the same object, so that what is cached with it is kept.

    Raises:
        ConfigurationError: See ``meaning``.
    """
    named = meaning(name)
    return AIModelEndpoint(api=AIModelAPI(provider=named.provider), ai_model=named.model)


def known_models(*modules: str) -> dict[str, AIModel]:
    """Return the model constants of files of ``models`` by their ids; without arguments, those of the three big makers.

    Args:
        modules: Names of files, such as ``groq``.
    """
    known: dict[str, AIModel] = {}
    for module in modules or _BIG_THREE:
        for value in vars(import_module(f"dhenara_async.models.{module}")).values():
            if isinstance(value, AIModel):
                known.setdefault(value.model_name, value)
    return known


def _provider(word: str) -> AIModelAPIProviderEnum | str | None:
    """Return the provider that a word names; None = no provider."""
    word = word.strip()
    if word in REGISTERED_NAMES:
        return word
    return _WORDS.get(word.lower().replace("-", "_"))


def _model(model_name: str, provider: str, name: str) -> AIModel:
    if not model_name:
        raise ConfigurationError(_NO_MODEL.format(name))
    own = _MODULES.get(AIModelAPIProviderEnum(provider)) if provider in set(AIModelAPIProviderEnum) else None
    for module in dict.fromkeys(filter(None, (own, *_BIG_THREE))):
        model = known_models(module).get(model_name)
        if model is not None:
            return model
    return AIModel(model_name=model_name)


def _choices(word: str) -> str:
    """Return the words to choose from, for the end of a sentence: those like ``word``, else all of them."""
    from difflib import get_close_matches

    close = get_close_matches(word.lower().replace("-", "_"), (*_WORDS, *REGISTERED_NAMES))
    if close:
        return f"where the provider may be {' or '.join(map(printable, close))}"
    words = (*AIModelAPIProviderEnum, *map(printable, sorted(REGISTERED_NAMES)))
    return f"where the provider is one of {', '.join(words)}"
