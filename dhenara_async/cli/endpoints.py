"""Resolve a model name of the command line to an endpoint, and check that the environment has its key."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dhenara_async.endpoint import AIModel, AIModelAPI, AIModelAPIProviderEnum, AIModelEndpoint
from dhenara_async.errors import ConfigurationError
from dhenara_async.hosts.registry import host_of
from dhenara_async.models import anthropic, google, openai
from dhenara_async.testing import ProviderServer

_MAKERS = (
    (re.compile(r"claude"), AIModelAPIProviderEnum.ANTHROPIC),
    (re.compile(r"(ft:)?(gpt|chatgpt|o\d)"), AIModelAPIProviderEnum.OPEN_AI),
    (re.compile(r"gemini"), AIModelAPIProviderEnum.GOOGLE_AI),
)


@dataclass(frozen=True, slots=True)
class Named:
    """A model and its provider, resolved from a name."""

    provider: AIModelAPIProviderEnum
    model: AIModel


def known_models() -> Mapping[str, AIModel]:
    """Return every model constant by its id, grouped by maker."""
    values = (value for module in (anthropic, openai, google) for value in vars(module).values())
    return {value.model_name: value for value in values if isinstance(value, AIModel)}


def meaning(name: str, *, default: AIModelAPIProviderEnum | None = None) -> Named:
    """Resolve ``name``: ``provider:model``, or a model whose id implies its maker.

    Args:
        name: As it was typed.
        default: The provider of a model whose id implies none; None = such a model is refused.

    Raises:
        ConfigurationError: The name has no model, or its provider is unknown.
    """
    model_name = name.strip()
    prefix, colon, rest = model_name.partition(":")
    provider = next((maker for pattern, maker in _MAKERS if pattern.match(model_name)), default)
    # Some ids have a colon themselves (llama3:8b), so it separates only after the name of a provider.
    if colon and prefix in set(AIModelAPIProviderEnum):
        provider, model_name = AIModelAPIProviderEnum(prefix), rest.strip()
    if not model_name:
        raise ConfigurationError(f"{name!r} names no model")
    if provider is None:
        providers = " ".join(AIModelAPIProviderEnum)
        raise ConfigurationError(
            f"the provider of {model_name!r} is unknown; write provider:{model_name}, with one of: {providers}"
        )
    return Named(provider, known_models().get(model_name) or AIModel(model_name=model_name))


def reachable(provider: str) -> bool:
    """Whether the environment has a key for ``provider``, or it needs none."""
    host = host_of(provider)
    return not host.key_required or any(os.environ.get(variable, "").strip() for variable in host.key_variables)


def any_reachable(named: Iterable[Named]) -> bool:
    """Whether at least one of the models is ``reachable``."""
    return any(reachable(model.provider) for model in named)


def endpoint_of(named: Named, server: ProviderServer | None, *, base_url: str | None = None) -> AIModelEndpoint:
    """Build the endpoint of a model: on ``server`` if given, else at ``base_url`` or the usual address."""
    if server is not None:
        return AIModelEndpoint(api=server.api(named.provider), ai_model=named.model)
    return AIModelEndpoint(api=AIModelAPI(provider=named.provider, base_url=base_url), ai_model=named.model)
