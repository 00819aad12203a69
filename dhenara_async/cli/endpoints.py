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
    """What a name means: a model and who serves it."""

    provider: AIModelAPIProviderEnum
    model: AIModel


def known_models() -> Mapping[str, AIModel]:
    """Every model constant by its id, maker by maker."""
    values = (value for module in (anthropic, openai, google) for value in vars(module).values())
    return {value.model_name: value for value in values if isinstance(value, AIModel)}


def meaning(name: str, *, otherwise: AIModelAPIProviderEnum | None = None) -> Named:
    """What ``name`` means: ``provider:model``, or a model whose id tells its maker.

    Args:
        name: As it was typed.
        otherwise: Who serves a model whose id tells nothing; None = nobody.

    Raises:
        ConfigurationError: No model is named, or nobody is known to serve it.
    """
    model_name = name.strip()
    prefix, colon, rest = model_name.partition(":")
    provider = next((maker for pattern, maker in _MAKERS if pattern.match(model_name)), otherwise)
    # Some ids have a colon of their own (llama3:8b), so it counts only behind a provider.
    if colon and prefix in set(AIModelAPIProviderEnum):
        provider, model_name = AIModelAPIProviderEnum(prefix), rest.strip()
    if not model_name:
        raise ConfigurationError(f"{name!r} names no model")
    if provider is None:
        providers = " ".join(AIModelAPIProviderEnum)
        raise ConfigurationError(
            f"nothing tells who serves {model_name!r}; write provider:{model_name}, with a provider out of: {providers}"
        )
    return Named(provider, known_models().get(model_name) or AIModel(model_name=model_name))


def reachable(provider: str) -> bool:
    """Whether ``provider`` can be called with what is in the environment."""
    host = host_of(provider)
    return not host.key_required or any(os.environ.get(variable, "").strip() for variable in host.key_variables)


def any_reachable(named: Iterable[Named]) -> bool:
    """Whether one of them at least can be called."""
    return any(reachable(one.provider) for one in named)


def endpoint_of(named: Named, server: ProviderServer | None, *, base_url: str | None = None) -> AIModelEndpoint:
    """Where ``named`` is called: at a stand-in if there is one, else at ``base_url`` or its usual place."""
    if server is not None:
        return AIModelEndpoint(api=server.api(named.provider), ai_model=named.model)
    return AIModelEndpoint(api=AIModelAPI(provider=named.provider, base_url=base_url), ai_model=named.model)
